//! What a trace shows of the pool: the wait for a connection, the connection that was opened for it, and each statement.

mod support;

use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};

use db::TransactionOptions;
use sqlx::{AssertSqlSafe, Executor};
use support::{dropped_after, pool, until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Instrument, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter::Targets, util::SubscriberInitExt};

/// A span: its name, its fields as text, and the names of those around it, the nearest first.
#[derive(Clone, Default)]
struct Seen {
    id: u64,
    name: &'static str,
    fields: String,
    around: Vec<String>,
    closed: bool,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields
            .push_str(&format!("{}={value:?}; ", field.name()));
    }
}

static SPANS: LazyLock<Mutex<Vec<Seen>>> = LazyLock::new(Mutex::default);

fn spans() -> std::sync::MutexGuard<'static, Vec<Seen>> {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the spans of the target, as an exporter would.
struct Keep;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("a new span");
        let around = span
            .scope()
            .skip(1)
            .map(|span| format!("{}#{}", span.name(), span.id().into_u64()));
        let mut seen = Seen {
            id: id.into_u64(),
            name: span.name(),
            around: around.collect(),
            ..Seen::default()
        };
        attributes.record(&mut seen);
        spans().push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = spans();
        // An id is used again after its span.
        if let Some(seen) = spans.iter_mut().rfind(|seen| seen.id == id.into_u64()) {
            values.record(seen);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut spans = spans();
        if let Some(seen) = spans.iter_mut().rfind(|seen| seen.id == id.into_u64()) {
            seen.closed = true;
        }
    }
}

/// A span to do something in, by which its spans are told from those of other tests.
fn test() -> tracing::Span {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let ours = Targets::new()
            .with_target("db::trace", LevelFilter::TRACE)
            .with_target("spans", LevelFilter::INFO);
        tracing_subscriber::registry()
            .with(Keep.with_filter(ours))
            .init();
    });
    tracing::info_span!("test")
}

/// The spans inside of this one, once each has ended.
async fn inside(test: &tracing::Span) -> Vec<Seen> {
    let of = format!("test#{}", test.id().expect("it is on").into_u64());
    let inside = || {
        spans()
            .iter()
            .filter(|seen| seen.around.contains(&of))
            .cloned()
            .collect::<Vec<_>>()
    };
    until("all spans have ended", async || {
        inside().iter().all(|seen| seen.closed)
    })
    .await;
    inside()
}

fn of<'s>(spans: &'s [Seen], name: &str) -> Vec<&'s Seen> {
    spans.iter().filter(|seen| seen.name == name).collect()
}

#[tokio::test]
async fn a_trace_shows_the_wait_the_new_connection_and_each_statement() {
    let (test, pool) = (test(), pool("connection_limit=1"));
    sqlx::query("select 1")
        .fetch_one(&pool)
        .instrument(test.clone())
        .await
        .expect("an answer");
    let spans = inside(&test).await;
    let [wait, connect, statement] = &spans[..] else {
        panic!("{:?}", spans.iter().map(|s| s.name).collect::<Vec<_>>())
    };
    assert_eq!(
        [wait.name, connect.name, statement.name],
        ["pool.wait", "connect", "statement"]
    );
    assert!(
        connect.around[0].starts_with("pool.wait#"),
        "{:?}",
        connect.around
    );
    assert!(
        statement.around[0].starts_with("test#"),
        "{:?}",
        statement.around
    );
    let name = pool.name();
    let database = name.rsplit('/').next().expect("a name");
    assert!(
        wait.fields
            .contains(&format!("db.client.connection.pool.name=\"{name}\"")),
        "{}",
        wait.fields
    );
    for (span, fields) in [
        (connect, ""),
        (
            statement,
            "db.operation.name=\"SELECT\"; db.query.text=\"select ?\"; ",
        ),
    ] {
        assert!(
            span.fields
                .contains("otel.kind=\"client\"; db.system.name=\"postgresql\"; "),
            "{}",
            span.fields
        );
        assert!(
            span.fields
                .contains(&format!("db.namespace=\"{database}\"")),
            "{}",
            span.fields
        );
        assert!(span.fields.contains(fields), "{}", span.fields);
        assert!(!span.fields.contains("error.type"), "{}", span.fields);
    }
    assert!(
        statement.fields.ends_with("db.response.returned_rows=1; "),
        "{}",
        statement.fields
    );
    assert!(
        statement
            .fields
            .contains(&format!("otel.name=\"SELECT {database}\"")),
        "{}",
        statement.fields
    );

    // The next one finds a connection, and waits for nothing.
    sqlx::query("select 1")
        .fetch_one(&pool)
        .instrument(test.clone())
        .await
        .expect("an answer");
    let again = inside(&test).await;
    assert_eq!(
        (of(&again, "pool.wait").len(), of(&again, "statement").len()),
        (1, 2)
    );
}

#[tokio::test]
async fn a_wait_in_a_full_queue_is_a_span_and_says_how_it_ended() {
    let (test, pool) = (
        test(),
        pool("connection_limit=1&pool_timeout=300ms&queue_limit=1"),
    );
    let held = pool.acquire().await.expect("a lease");
    pool.acquire()
        .instrument(test.clone())
        .await
        .expect_err("nobody gives back");
    dropped_after(1, pool.acquire().instrument(test.clone())).await;
    let waits = async {
        let refused = pool.acquire().instrument(test.clone());
        let (one, other) = tokio::join!(pool.acquire().instrument(test.clone()), refused);
        assert!(one.is_err() && other.is_err());
    };
    waits.await;
    let spans = inside(&test).await;
    let ends: Vec<_> = of(&spans, "pool.wait")
        .iter()
        .map(|wait| wait.fields.split("error.type=").nth(1).map(str::to_owned))
        .collect();
    let error = |kind: &str| Some(format!("\"{kind}\"; otel.status_code=\"ERROR\"; "));
    assert_eq!(
        ends,
        [
            error("timeout"),
            error("cancelled"),
            error("timeout"),
            error("overloaded")
        ]
    );
    drop(held);
}

#[tokio::test]
async fn a_transaction_shows_its_begin_and_its_commit_and_no_value() {
    let (test, pool) = (test(), pool("connection_limit=1"));
    let work = async {
        pool.execute("create table t (a text unique)").await?;
        let insert = || AssertSqlSafe("insert into t values ('canary-1')".to_owned());
        let bound = sqlx::query("insert into t values ($1)").bind("canary-2");
        let mut transaction = pool
            .begin_with(TransactionOptions {
                read_only: false,
                ..Default::default()
            })
            .await?;
        transaction.execute(insert()).await?;
        transaction.execute(bound).await?;
        let mut inner = transaction.begin().await?;
        inner.execute(insert()).await.expect_err("it is there");
        inner.rollback().await?;
        transaction.commit().await
    };
    work.instrument(test.clone())
        .await
        .expect("it is committed");
    let spans = inside(&test).await;
    let texts: Vec<_> = of(&spans, "statement")
        .iter()
        .map(|span| {
            span.fields
                .split("db.query.text=")
                .nth(1)
                .and_then(|rest| rest.split("; ").next())
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(
        texts,
        [
            "\"create table t (a text unique)\"",
            "\"begin\"",
            "\"insert into t values (?)\"",
            "\"insert into t values ($1)\"",
            "\"savepoint\"",
            "\"insert into t values (?)\"",
            "\"rollback to savepoint\"",
            "\"commit\""
        ]
    );
    assert!(
        of(&spans, "statement")[5]
            .fields
            .contains("error.type=\"23505\""),
        "{}",
        of(&spans, "statement")[5].fields
    );
    assert!(spans.iter().all(|span| !span.fields.contains("canary")));
}

#[tokio::test]
async fn what_is_carried_into_a_task_stays_in_its_trace() {
    let (test, pool) = (test(), pool("connection_limit=1"));
    let pool = Arc::new(pool);
    async {
        let carried = tokio::spawn(db::carry({
            let pool = pool.clone();
            async move { sqlx::query("select 'carried'").fetch_one(&*pool).await }
        }));
        carried.await.expect("no panic").expect("an answer");
    }
    .instrument(test.clone())
    .await;
    assert_eq!(of(&inside(&test).await, "statement").len(), 1);
}
