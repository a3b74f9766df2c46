//! Programs and their ends, with `sh` in the services' place.

use std::time::{Duration, Instant};

use super::*;

fn sh(script: &str) -> Process {
    Process::new(
        "sh",
        Path::new("/bin/sh"),
        &["-c", script],
        "postgres://database",
    )
}

/// Waits until the held output has that many lines.
fn wait_for_lines(processes: &mut Processes, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while processes.held.as_ref().map_or(0, Vec::len) < count {
        assert!(Instant::now() < deadline, "no output within 10 s");
        assert!(
            processes.next(Some(Duration::from_millis(5))).is_none(),
            "it has ended"
        );
    }
    processes.held.clone().unwrap_or_default()
}

#[test]
fn an_end_is_reported_after_the_last_line_and_with_its_status() {
    let mut processes = Processes::new();
    processes
        .start(sh("echo one; echo $DATABASE_URL $HOST $PORT >&2; exit 3").port(4004))
        .unwrap();
    let Some(Event::Ended { name, status }) = processes.next(None) else {
        panic!("no signal was sent")
    };
    assert_eq!((name.as_str(), status.code()), ("sh", Some(3)));
    let mut lines = processes.held.take().unwrap();
    lines.sort();
    assert_eq!(
        lines,
        [
            "sh          | one",
            "sh          | postgres://database 127.0.0.1 4004"
        ]
    );
}

#[test]
fn stop_sends_sigterm_and_waits_for_the_end() {
    let mut processes = Processes::new();
    processes
        .start(sh(
            "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.01; done",
        ))
        .unwrap();
    wait_for_lines(&mut processes, 1);
    processes.stop();
    assert_eq!(
        processes.held.unwrap(),
        ["sh          | up", "sh          | bye"]
    );
}

#[test]
fn programs_do_not_outlive_us() {
    let mut processes = Processes::new();
    processes
        .start(sh("echo $$; trap '' TERM INT HUP; exec sleep 1000"))
        .unwrap();
    let line = wait_for_lines(&mut processes, 1).remove(0);
    let pid = line.split_once("| ").unwrap().1.to_owned();
    let lives = || {
        Command::new("kill")
            .args(["-0", &pid])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    assert!(lives());
    // What the kernel does when we are killed: it closes our ends of the pipes.
    drop(processes);
    let deadline = Instant::now() + Duration::from_secs(10);
    while lives() {
        assert!(Instant::now() < deadline, "it still runs after 10 s");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_reaches_the_program_of_that_name_alone() {
    let mut processes = Processes::new();
    processes.start(sh("exec sleep 60")).unwrap();
    assert!(processes.signal("other", "KILL").is_err());
    processes.signal("sh", "KILL").unwrap();
    let Some(Event::Ended { status, .. }) = processes.next(Some(Duration::from_secs(10))) else {
        panic!("it runs on")
    };
    assert_eq!(status.code(), Some(128 + 9));
}
