//! `/metrics` and `/metrics/json` say the same. One test, alone in its process: the registry is the process's.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::testing::{Response, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Every number in the JSON, under the name and labels that the text has for it.
fn flatten(metrics: &Value) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    let mut add = |key: &str, labels: &Value, le: Option<&str>, value: &Value| {
        let mut labels: Vec<String> = labels
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        labels.extend(le.map(|le| format!("le={le:?}")));
        labels.sort();
        numbers.insert(
            format!("{key}{{{}}}", labels.join(",")),
            value.as_f64().unwrap(),
        );
    };
    for metric in ["counters", "gauges"]
        .iter()
        .flat_map(|kind| metrics[kind].as_array().unwrap())
    {
        add(
            metric["key"].as_str().unwrap(),
            &metric["labels"],
            None,
            &metric["value"],
        );
    }
    for metric in metrics["histograms"].as_array().unwrap() {
        let (key, labels, value) = (
            metric["key"].as_str().unwrap(),
            &metric["labels"],
            &metric["value"],
        );
        let mut cumulative = 0.0;
        for bucket in value["buckets"].as_array().unwrap() {
            cumulative += bucket[1].as_f64().unwrap();
            add(
                &format!("{key}_bucket"),
                labels,
                Some(&bucket[0].to_string()),
                &json!(cumulative),
            );
        }
        add(
            &format!("{key}_bucket"),
            labels,
            Some("+Inf"),
            &value["count"],
        );
        add(&format!("{key}_sum"), labels, None, &value["sum"]);
        add(&format!("{key}_count"), labels, None, &value["count"]);
    }
    numbers
}

/// Every number in the text, read without the service's own reader.
fn read(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series
                .trim_end_matches('}')
                .split_once('{')
                .unwrap_or((series, ""));
            let mut labels: Vec<&str> = labels
                .split(',')
                .filter(|label| !label.is_empty())
                .collect();
            labels.sort_unstable();
            (
                format!("{name}{{{}}}", labels.join(",")),
                value.parse().unwrap(),
            )
        })
        .collect()
}

/// The requests for the metrics themselves differ between two scrapes, and what the process takes.
fn steady(numbers: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    numbers
        .into_iter()
        .filter(|(series, _)| !series.contains("/metrics") && !series.starts_with("process_"))
        .collect()
}

/// One text and one JSON between which nothing was counted: the texts before and after the JSON are the same.
async fn scrape_both(server: &Server) -> (Response, Response) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = server.get("/metrics").await;
        let json = server.get("/metrics/json").await;
        if steady(read(&text.body)) == steady(read(&server.get("/metrics").await.body)) {
            return (text, json);
        }
        assert!(
            Instant::now() < deadline,
            "the service does not come to rest"
        );
    }
}

#[tokio::test]
async fn text_and_json_say_the_same() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    for path in [
        "/api/count",
        "/api/count",
        "/api/things/7",
        "/api/things/8",
        "/nowhere/1",
        "/nowhere/2",
        "/",
        "/api/panic",
        "/api/raise/XX000",
    ] {
        server.get(path).await;
    }
    hang_up(&server).await;
    server.request("BREW", "/api/count", &[], "").await;

    let (text, json) = scrape_both(&server).await;
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(json.header("content-type"), Some("application/json"));

    let (numbers, other) = (steady(read(&text.body)), steady(flatten(&json.json())));
    let differ: Vec<_> = numbers
        .keys()
        .chain(other.keys())
        .filter(|key| numbers.get(*key) != other.get(*key))
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    assert!(numbers.len() > 100, "{}", text.body);

    counts_requests_by_route(&numbers);
    has_the_recommended_buckets(&numbers);
    shows_the_process(&read(&text.body));
    describes_everything(&text.body, &json.json());
    let of_pool = |name: &str, part: &str| {
        let mut series = numbers.iter().filter(|(series, _)| {
            series.starts_with(&format!("{name}{{"))
                && series.contains("db_client_connection_pool_name=\"")
                && series.contains(part)
        });
        *series.next().unwrap().1
    };
    let connections =
        |state: &str| of_pool("db_client_connection_count", &format!("_state=\"{state}\""));
    let (open, limit) = (
        connections("idle") + connections("used"),
        of_pool("db_client_connection_max", ""),
    );
    assert!(open >= 1.0 && open <= limit, "{open} of {limit}");

    is_quick(&server).await;
    indents_for_people(&server).await;
    speaks_prisma(&server).await;
    rejects_what_it_does_not_understand(&server).await;
    does_not_grow_under_a_scanner(&server).await;
}

/// The best of some: others use the machine too. Optimized it takes a tenth of this.
async fn is_quick(server: &Server) {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        server.get("/metrics").await;
        best = best.min(started.elapsed());
    }
    assert!(best < Duration::from_millis(50), "{best:?}");
}

/// Goes away before the answer, and waits until that has been seen.
async fn hang_up(server: &Server) {
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    let head = b"GET /api/slow?ms=60000 HTTP/1.1\r\nhost: test\r\n\r\n";
    client.write_all(head).await.unwrap();
    until(|| server.pool().stats().in_use == 1).await;
    drop(client);
    until(|| server.pool().stats().in_use == 0).await;
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn indents_for_people(server: &Server) {
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    for (path, headers, lines) in [
        ("/metrics/json", &[][..], 1),
        ("/metrics/json?pretty", &[], 1000),
        ("/metrics/json", &browser, 1000),
        ("/metrics/json?pretty=false", &browser, 1),
    ] {
        let response = server.request("GET", path, headers, "").await;
        response.json();
        let found = response.body.lines().count();
        assert!((found == 1) == (lines == 1), "{path}: {found} lines");
    }
}

/// The names, kinds, buckets and order of Prisma's own text and JSON.
async fn speaks_prisma(server: &Server) {
    const NAMES: [(&str, &str); 12] = [
        ("client_queries_total", "counter"),
        ("datasource_queries_total", "counter"),
        ("pool_connections_closed_total", "counter"),
        ("pool_connections_opened_total", "counter"),
        ("client_queries_active", "gauge"),
        ("client_queries_wait", "gauge"),
        ("pool_connections_busy", "gauge"),
        ("pool_connections_idle", "gauge"),
        ("pool_connections_open", "gauge"),
        ("client_queries_duration_histogram_ms", "histogram"),
        ("client_queries_wait_histogram_ms", "histogram"),
        ("datasource_queries_duration_histogram_ms", "histogram"),
    ];
    let text = server.get("/metrics?names=prisma").await;
    let types: Vec<String> = text
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        types,
        NAMES.map(|(name, kind)| format!("prisma_{name} {kind}"))
    );
    let numbers = read(&text.body);
    let json = server.get("/metrics/json?names=prisma").await.json();
    assert_eq!(
        numbers,
        flatten(&json),
        "nothing was counted between the two"
    );
    let buckets = &json["histograms"][2]["value"]["buckets"];
    let bounds: Vec<i64> = buckets
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair[0].as_i64().unwrap())
        .collect();
    assert_eq!(bounds, [0, 1, 5, 10, 50, 100, 500, 1000, 5000, 50_000]);
    let statements = numbers["prisma_datasource_queries_total{}"];
    assert!(statements >= 2.0);
    let counted = numbers["prisma_datasource_queries_duration_histogram_ms_count{}"];
    assert_eq!(statements, counted);
    let of = |name: &str| numbers[&format!("prisma_pool_connections_{name}{{}}")];
    assert_eq!(of("busy") + of("idle"), of("open"));
}

async fn rejects_what_it_does_not_understand(server: &Server) {
    for path in ["/metrics?names=statsd", "/metrics/json?prety"] {
        let response = server.get(path).await;
        assert_eq!(response.status, 400, "{path}");
        assert!(response.body.contains("names=prisma"), "{}", response.body);
    }
}

fn counts_requests_by_route(numbers: &BTreeMap<String, f64>) {
    for (error, method, status, route, count) in [
        ("", "GET", "200", "/api/count", 2.0),
        ("", "GET", "404", "/api/things/{id}", 2.0),
        ("", "GET", "404", "unmatched", 2.0),
        ("", "GET", "200", "/", 1.0),
        ("", "_OTHER", "405", "/api/count", 1.0),
        ("500", "GET", "500", "/api/panic", 1.0),
        ("500", "GET", "500", "/api/raise/{code}", 1.0),
        ("cancelled", "GET", "", "/api/slow", 1.0),
    ] {
        let labels = [
            ("error_type", error),
            ("http_request_method", method),
            ("http_response_status_code", status),
            ("http_route", route),
            ("url_scheme", "http"),
        ];
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        let series = format!(
            "http_server_request_duration_seconds_count{{{}}}",
            labels.join(",")
        );
        assert_eq!(numbers.get(&series), Some(&count), "{series}");
    }
}

/// Those that OpenTelemetry's conventions for HTTP and for databases recommend.
fn has_the_recommended_buckets(numbers: &BTreeMap<String, f64>) {
    const HTTP: &str = "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 +Inf";
    const DATABASE: &str = "0.001 0.005 0.01 0.05 0.1 0.5 1 5 10 +Inf";
    for (family, label, bounds) in [
        ("http_server_request_duration_seconds", "unmatched", HTTP),
        ("db_client_operation_duration_seconds", "", DATABASE),
    ] {
        let prefix = format!("{family}_bucket{{");
        let series = numbers.keys().filter(|series| {
            series.starts_with(&prefix) && series.contains(label) && !series.contains("error_type")
        });
        let mut found: Vec<&str> = series
            .map(|series| {
                series
                    .split("le=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
            })
            .collect();
        found.sort_by(|a, b| a.parse::<f64>().unwrap().total_cmp(&b.parse().unwrap()));
        assert_eq!(found.join(" "), bounds, "{family}");
    }
}

fn shows_the_process(numbers: &BTreeMap<String, f64>) {
    let build = format!(
        "build_info{{service=\"thing\",version={:?}}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(numbers.get(&build), Some(&1.0), "{build}");
    let of = |name: &str| numbers[&format!("process_{name}{{}}")];
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    // The system counts its start in whole seconds.
    let age = now.as_secs_f64() - of("start_time_seconds");
    assert!((-2.0..3600.0).contains(&age), "{age}");
    assert!(of("cpu_seconds_total") > 0.0 && of("cpu_seconds_total") < 3600.0);
    let (resident, virtual_) = (of("resident_memory_bytes"), of("virtual_memory_bytes"));
    assert!(
        resident > 1e6 && resident < virtual_,
        "{resident} {virtual_}"
    );
    let (open, most) = (of("open_fds"), of("max_fds"));
    assert!(open > 5.0 && open < most, "{open} of {most}");
    assert!(of("threads") >= 1.0);
}

fn describes_everything(text: &str, json: &Value) {
    for family in [
        "db_client_connection_count",
        "db_client_connection_max",
        "db_client_connection_pending_requests",
        "db_client_connection_wait_time_seconds",
        "http_server_request_duration_seconds",
        "http_server_active_requests",
    ] {
        assert!(
            text.contains(&format!("# HELP {family} ")),
            "{family} in {}",
            text
        );
        assert!(
            text.contains(&format!("# TYPE {family} ")),
            "{family} in {}",
            text
        );
    }
    assert!(!text.contains(" summary\n"), "{}", text);
    for kind in ["counters", "gauges", "histograms"] {
        let metrics = json[kind].as_array().unwrap();
        assert!(
            metrics.is_sorted_by_key(|metric| metric["key"].as_str()),
            "{kind}"
        );
        assert!(
            metrics.iter().all(|metric| metric["description"] != ""),
            "{metrics:?}"
        );
    }
}

/// Paths, methods and ids that nobody knows make no series: they are counted together.
async fn does_not_grow_under_a_scanner(server: &Server) {
    let series = async || {
        let text = server.get("/metrics").await.body;
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    server.get("/scan").await;
    server.request("SCAN", "/scan", &[], "").await;
    server.get("/api/things/1").await;
    series().await;
    let before = series().await;
    for number in 0..500 {
        server.get(&format!("/scan/{number}")).await;
        server.get(&format!("/api/things/{number}")).await;
        let method = format!("SCAN{number}");
        server.request(&method, "/scan", &[], "").await;
    }
    assert_eq!(series().await, before);
}
