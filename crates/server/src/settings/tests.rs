//! Settings are read, checked and explained.

use std::fs;
use std::path::Path;

use super::*;

fn read(key: &str, value: &str) -> Result<Settings, SettingError> {
    Settings::read(4004, |asked| (asked == key).then(|| value.to_owned()))
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    let defaults = Settings::defaults(4004);
    for empty in [None, Some(" ".to_owned())] {
        assert_eq!(Settings::read(4004, |_| empty.clone()).unwrap(), defaults);
    }
    assert_eq!(defaults.address().to_string(), "127.0.0.1:4004");
}

#[test]
fn each_setting_is_read() {
    for (host, address) in [
        ("::", "[::]:4004"),
        ("::1", "[::1]:4004"),
        ("[::1]", "[::1]:4004"),
        ("0.0.0.0", "0.0.0.0:4004"),
        ("localhost", "127.0.0.1:4004"),
        (" LocalHost ", "127.0.0.1:4004"),
    ] {
        let found = read("HOST", host).unwrap().address();
        assert_eq!(found.to_string(), address, "{host}");
    }
    assert_eq!(read("PORT", "80").unwrap().port, 80);
    let environment = read("APP_ENV", "production").unwrap().environment;
    assert_eq!(environment, Environment::Production);
    let log = read("RUST_LOG", "warn,db=debug").unwrap().log;
    assert_eq!(log, "warn,db=debug");
    let timeout = read("SHUTDOWN_TIMEOUT", "0").unwrap().shutdown_timeout;
    assert_eq!(timeout, Duration::ZERO);
    let delay = |key, value| read(key, value).unwrap().shutdown_delay().as_secs();
    assert_eq!(delay("APP_ENV", "development"), 0);
    assert_eq!(delay("APP_ENV", "production"), 5);
    assert_eq!(delay("SHUTDOWN_DELAY", "7"), 7);
    let limits = |key| read(key, "3").unwrap().limits;
    let three = Duration::from_secs(3);
    assert_eq!(limits("REQUEST_TIMEOUT").request_timeout, three);
    assert_eq!(limits("HEADER_TIMEOUT").header_timeout, three);
    assert_eq!(limits("BODY_TIMEOUT").body_timeout, three);
    assert_eq!(limits("KEEP_ALIVE_TIMEOUT").keep_alive_timeout, three);
    assert_eq!(limits("MAX_CONNECTIONS").max_connections, 3);
    let migrate = |value| read("MIGRATE", value).unwrap();
    let migrate = |value| (migrate(value).migrate, migrate(value).migrate_any);
    assert_eq!(migrate("false"), (false, false));
    assert_eq!(migrate("true"), (true, false));
    assert_eq!(migrate("any"), (true, true));
    assert!(!read("POOL_PAGE", "false").unwrap().pool_page);
    let traces = |value| read("OTEL_EXPORTER_OTLP_ENDPOINT", value).unwrap().traces;
    assert!(traces("http://localhost:4318") && traces("https://otlp.example.com/team"));
    assert!(!traces(""));
    let filter = |value| read("LOG_QUERIES", value).unwrap().filter();
    assert_eq!(filter("true"), "info,sqlx=warn,db::query=debug");
    assert_eq!(filter("false"), "info,sqlx=warn");
    let timing = |key, value| read(key, value).unwrap().server_timing();
    assert!(timing("APP_ENV", "development") && timing("SERVER_TIMING", "true"));
    assert!(!timing("APP_ENV", "production") && !timing("SERVER_TIMING", "false"));
}

#[test]
fn a_bad_value_is_named_but_not_shown() {
    for (key, value) in [
        ("PORT", "canary"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "80.5"),
        ("APP_ENV", "canary"),
        ("RUST_LOG", "db=canary=x"),
        ("SHUTDOWN_TIMEOUT", "3601"),
        ("SHUTDOWN_TIMEOUT", "canary"),
        ("SHUTDOWN_DELAY", "3601"),
        ("REQUEST_TIMEOUT", "3601"),
        ("HEADER_TIMEOUT", "0.5"),
        ("BODY_TIMEOUT", "-1"),
        ("KEEP_ALIVE_TIMEOUT", "canary"),
        ("MAX_CONNECTIONS", "1000001"),
        ("KEEP_ALIVE_TIMEOUT", "-0"),
        ("MIGRATE", "canary"),
        ("LOG_QUERIES", "canary"),
        ("SERVER_TIMING", "canary"),
        ("POOL_PAGE", "canary"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "canary:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://canary:4317"),
    ] {
        let text = read(key, value).unwrap_err().to_string();
        assert!(text.starts_with(key), "{text}");
        assert!(text.contains("allowed: "), "{text}");
        assert!(!text.contains(value), "{text}");
    }
}

// Other programs set it, so the value is the way to who did; and it is no secret.
#[test]
fn a_bad_host_is_shown() {
    for host in [
        "x86_64-conda-linux-gnu",
        "0.0.0.0:4004",
        "[127.0.0.1]",
        "*",
        "localhost.",
    ] {
        let text = read("HOST", host).unwrap_err().to_string();
        assert!(text.starts_with("HOST cannot be read"), "{text}");
        assert!(text.ends_with(&format!("; it is {host:?}")), "{text}");
    }
}

#[test]
fn a_subcommand_looks_at_no_setting_that_it_does_not_use() {
    let used = |command| {
        let used = SETTINGS.iter().filter(|one| one.is_used_by(command));
        let keys: Vec<_> = used.map(|one| one.key).collect();
        for Setting { key, .. } in SETTINGS {
            let lookup = |asked: &str| (asked == key).then(|| "=can ary".to_owned());
            let read = Settings::read_for(command, 4004, lookup);
            assert_eq!(read.is_err(), keys.contains(&key), "{command:?}: {key}");
        }
        keys.join(" ")
    };
    let all = SETTINGS.map(|setting| setting.key).join(" ");
    assert_eq!(used(Command::Serve), all);
    assert_eq!(
        used(Command::Migrate),
        "APP_ENV RUST_LOG MIGRATE LOG_QUERIES OTEL_EXPORTER_OTLP_ENDPOINT"
    );
    assert_eq!(used(Command::Healthcheck), "HOST PORT");
    assert_eq!(
        used(Command::Doctor),
        "PORT APP_ENV SHUTDOWN_TIMEOUT REQUEST_TIMEOUT"
    );
}

#[test]
fn durations_are_nested_unless_somebody_turns_them_round() {
    let pool = |text: &str| db::Config::parse(&format!("postgres://app@db/shop{text}")).unwrap();
    let defaults = Settings::defaults(4004);
    assert_eq!(defaults.disorder(&pool("")), [""; 0]);
    assert_eq!(defaults.disorder(&pool("?pgbouncer=true")), [""; 0]);
    let [line] = &defaults.disorder(&pool("?socket_timeout=9"))[..] else {
        panic!("one pair is wrong");
    };
    assert!(
        line.starts_with("REQUEST_TIMEOUT (8s) should be longer than socket_timeout (9s)"),
        "{line}"
    );
    let short = read("SHUTDOWN_TIMEOUT", "8").unwrap();
    assert_eq!(short.disorder(&pool("")).len(), 1);
}

#[test]
fn help_has_each_setting_and_its_default() {
    let help = Settings::defaults(4004).help();
    let defaults = [
        "127.0.0.1",
        "4004",
        "development",
        "info,sqlx=warn",
        "0; in production 5",
        "10",
        "true",
        "false",
        "true; in production false",
        "true",
        "nowhere",
        "8",
        "5",
        "10",
        "75",
        "10000",
    ];
    for (setting, default) in SETTINGS.iter().zip(defaults) {
        let mut lines = help.lines();
        let line = lines.find(|line| line.trim_start().starts_with(setting.key));
        assert!(line.unwrap().ends_with(&format!("({default})")), "{line:?}");
    }
}

/// The rows of the tables in `docs/settings.md` that begin with a name in backquotes: name, default, meaning.
fn documented() -> Vec<[String; 3]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let text = fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let line = line.strip_prefix("| `")?.strip_suffix(" |")?;
        let (name, rest) = line.split_once("` | ")?;
        let (default, meaning) = rest.split_once(" | ")?;
        Some([name, default, meaning].map(str::to_owned))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_document_has_each_variable_and_parameter_with_its_default() {
    let rows = documented();
    let (variables, parameters): (Vec<_>, Vec<_>) = rows
        .iter()
        .partition(|[name, ..]| name.bytes().all(|byte| !byte.is_ascii_lowercase()));

    // `db` reads these, and their order is that of the document.
    let urls = [
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "DIRECT_URL",
        "DATABASE_REPLICA_URLS",
    ];
    let mut names: Vec<_> = urls
        .into_iter()
        .chain(SETTINGS.map(|one| one.key))
        .collect();
    let mut documented: Vec<_> = variables.iter().map(|[name, ..]| name.as_str()).collect();
    names.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, names);
    let defaults = Settings::defaults(4004);
    for setting in SETTINGS {
        let default = match setting.key {
            "PORT" => "the service's own".to_owned(),
            "OTEL_EXPORTER_OTLP_ENDPOINT" => "none".to_owned(),
            _ => (setting.show)(&defaults),
        };
        let mut rows = variables.iter();
        let row = rows.find(|[name, ..]| *name == setting.key).unwrap();
        assert_eq!(row[1], default, "{}", setting.key);
    }

    let parameters: Vec<_> = parameters
        .iter()
        .map(|row| row.each_ref().map(String::as_str))
        .collect();
    let known: Vec<_> = db::PARAMETERS
        .iter()
        .map(|row| [row.0, row.1, row.2])
        .collect();
    assert_eq!(parameters, known);
}

/// The number behind this word in a text, the first time it comes.
fn number(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no {word}"));
    let rest = rest.trim_start_matches([' ', '"']);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

/// What `ops/kubernetes` and `docker-compose.yml` leave out is the code's own, and what they say has to go with it.
#[test]
fn the_orchestrators_numbers_go_with_the_defaults() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read_file = |path: String| fs::read_to_string(root.join(&path)).expect(&path);
    let production = read("APP_ENV", "production").unwrap();
    let (delay, timeout) = (production.shutdown_delay(), production.shutdown_timeout);
    for service in ["customer", "reservation"] {
        let code = read_file(format!("services/{service}/src/lib.rs"));
        let manifest = read_file(format!("ops/kubernetes/base/{service}.yaml"));
        assert!(manifest.contains("{name: APP_ENV, value: production}"));
        for key in [
            "name: PORT",
            "name: SHUTDOWN_DELAY",
            "name: SHUTDOWN_TIMEOUT",
        ] {
            assert!(!manifest.contains(key), "{service}: {key} is the default");
        }
        let port = number(&code, " port: ");
        assert_eq!(number(&manifest, "containerPort: "), port, "{service}");
        assert_eq!(number(&manifest, "prometheus.io/port: "), port, "{service}");
        let grace = Duration::from_secs(number(&manifest, "terminationGracePeriodSeconds: "));
        assert!(grace > delay + timeout, "{service}: killed while it drains");
        let (_, readiness) = manifest.split_once("readinessProbe:").unwrap();
        let noticed =
            number(readiness, "periodSeconds: ") * number(readiness, "failureThreshold: ");
        assert!(
            Duration::from_secs(noticed) < delay,
            "{service}: noticed too late that it goes"
        );
        // A check of the pool takes a second at most.
        assert!(number(readiness, "timeoutSeconds: ") > 1, "{service}");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let (_, probe) = manifest.split_once(probe).unwrap();
            let (_, asked) = probe.split_once("path: ").unwrap();
            assert!(asked.starts_with(path), "{service}: {path}");
        }
    }
    let compose = read_file("docker-compose.yml".to_owned());
    let grace = Duration::from_secs(number(&compose, "stop_grace_period: "));
    assert!(grace > delay + timeout, "Compose kills it while it drains");
}
