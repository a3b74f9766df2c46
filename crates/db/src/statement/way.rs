//! A test of how short the way of a statement is: its real stack where sqlx sends it, against ARCHITECTURE.md.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::config::Config;
use crate::pool::{LOCKS, Pool};

/// Most functions of ours, and files, that a statement on the pool may pass.
const FUNCTIONS: usize = 25;
const FILES: usize = 7;

thread_local! {
    static STACKS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Called where sqlx takes the text of a statement, to send it.
pub(crate) fn sent() {
    let stack = Backtrace::force_capture().to_string();
    STACKS.with(|stacks| stacks.borrow_mut().push(stack));
}

/// The functions that ARCHITECTURE.md lists as the way of a statement: `(file, function)`. Nothing where this folder
/// was copied without it.
fn listed() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let section = text.split("\n## The way of a statement\n").nth(1);
    let lines = section.and_then(|text| text.split("\n## ").next());
    let mut list = Vec::new();
    for line in lines.unwrap_or_default().lines() {
        let mut names = line.split('`').skip(1).step_by(2);
        if let Some(file) = names.next().filter(|name| name.ends_with(".rs")) {
            list.extend(names.map(|name| (file.to_owned(), name.to_owned())));
        }
    }
    list
}

/// Our functions in a stack, innermost first: `(file, function)`.
fn ours(stack: &str) -> Vec<(String, String)> {
    let places = stack
        .lines()
        .filter_map(|line| line.trim().strip_prefix("at ./src/"));
    let places = places.filter_map(|place| {
        let (file, rest) = place.split_once(':')?;
        Some((file, rest.split(':').next()?.parse().ok()?))
    });
    let others = places.filter(|(file, _)| *file != "statement/way.rs");
    others
        .map(|(file, line)| (file.to_owned(), function_at(file, line)))
        .collect()
}

/// The function that this line is in. A stack has no name for what is asynchronous or a closure.
fn function_at(file: &str, line: usize) -> String {
    let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the source");
    let lines: Vec<&str> = text.lines().take(line).collect();
    let begin = lines.iter().rev().find_map(|line| {
        let (before, after) = line.split_once("fn ")?;
        let words = ["pub", "pub(crate)", "async", "const"];
        let is_item = before.split_whitespace().all(|word| words.contains(&word));
        is_item.then(|| after.split(['(', '<']).next().unwrap_or(after).to_owned())
    });
    begin.expect("a function around each line")
}

#[tokio::test]
async fn a_statement_on_the_pool_passes_few_functions_and_takes_the_lock_twice() {
    let url = local_postgres::database();
    let pool = Pool::new(Config::parse(&url).expect("a valid URL"));
    let read = || sqlx::query_scalar("select 1").fetch_one(&pool);
    let first: i32 = read().await.expect("a row");
    STACKS.take();
    let locks = LOCKS.get();
    let second: i32 = read().await.expect("a row");
    assert_eq!((first, second), (1, 1));
    assert_eq!(LOCKS.get() - locks, 2, "locks taken: take and give back");

    let stacks = STACKS.take();
    let [stack] = &stacks[..] else {
        panic!("sent {} times", stacks.len())
    };
    let ours = ours(stack);
    let names: Vec<&str> = ours.iter().map(|(_, name)| name.as_str()).collect();
    let expected = ["sent", "read", "run", "run_on_pool", "fetch_optional"];
    assert_eq!(names, expected, "a real stack: {stack}");
    let listed = listed();
    if listed.is_empty() {
        return;
    }
    for frame in &ours {
        assert!(listed.contains(frame), "ARCHITECTURE.md lacks {frame:?}");
    }
    let files: BTreeSet<_> = listed.iter().map(|(file, _)| file).collect();
    assert!(
        listed.len() <= FUNCTIONS,
        "{} functions: {listed:?}",
        listed.len()
    );
    assert!(files.len() <= FILES, "{} files: {files:?}", files.len());
}
