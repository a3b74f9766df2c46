//! What a page of the list costs the server: little, and on a deep page as on the first.

use serde_json::Value;
use server::testing::Server;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::book::Book;

/// 20,000 reservations of an hour of one customer, four of which begin at each hour, and a connection to look with.
async fn open() -> (Book, PgConnection) {
    let url = local_postgres::database();
    // One connection, which knows what the service has prepared.
    let one = format!("{url}?connection_limit=1");
    let mut book = Book {
        server: Server::start(reservation::SERVICE, &one).await,
        customer: Uuid::nil(),
    };
    book.customer = book.customer().await;
    sqlx::query(
        "insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status)
         select
            ('01900000-' || lpad(to_hex(n >> 16), 4, '0') || '-7' || lpad(to_hex(n >> 4 & 4095), 3, '0') || '-8000-00000000000' || to_hex(n & 15))::uuid,
            $1,
            'table-' || n % 4,
            timestamptz '2030-01-01 00:00+00' + n / 4 * interval '1 hour',
            timestamptz '2030-01-01 00:00+00' + (n / 4 + 1) * interval '1 hour',
            2,
            'cancelled'
         from generate_series(0, 19999) as n",
    )
    .bind(book.customer)
    .execute(book.server.pool())
    .await
    .unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for sql in ["vacuum", "analyze reservation"] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
    (book, connection)
}

/// Prepares on `connection`, as `name`, the statement that answers `query`.
async fn prepare(book: &Book, connection: &mut PgConnection, name: &str, query: &str) {
    // Often enough that PostgreSQL would have settled for a generic plan by now.
    for _ in 0..12 {
        let answer = book
            .server
            .get(&format!("/api/reservations?limit=2{query}"))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let sql: String = sqlx::query_scalar(
        "select statement from pg_prepared_statements
         where statement like '%from reservation%limit%' and statement not like '%pg_prepared%'
         order by prepare_time desc limit 1",
    )
    .fetch_one(book.server.pool())
    .await
    .unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("prepare {name} as {sql}")))
        .execute(connection)
        .await
        .unwrap();
}

/// The plan of a prepared statement as text, and the blocks that it looked at.
async fn explain(connection: &mut PgConnection, call: &str) -> (String, i64) {
    let explain = format!("explain (analyze, buffers, format json) execute {call}");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain))
        .fetch_one(connection)
        .await
        .unwrap();
    let top = &plan[0]["Plan"];
    let blocks = |kind: &str| top[kind].as_i64().unwrap();
    let sum = blocks("Shared Hit Blocks") + blocks("Shared Read Blocks");
    (plan.to_string(), sum)
}

#[tokio::test]
async fn a_deep_page_costs_what_the_first_costs_with_filters_too() {
    let (book, mut connection) = open().await;
    prepare(&book, &mut connection, "newest", "").await;
    let one = format!("'{}'", book.customer);
    for filter in ["null, null", &format!("{one}, null"), "null, 'table-3'"] {
        let mut blocks = Vec::new();
        for id in [
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "01900000-0000-7100-8000-000000000000",
        ] {
            let call = format!("newest ({filter}, '{id}', 3)");
            let (plan, looked_at) = explain(&mut connection, &call).await;
            assert!(
                plan.contains("Index Scan") && !plan.contains("Seq Scan") && !plan.contains("Sort"),
                "{filter}: {plan}"
            );
            blocks.push(looked_at);
        }
        assert!(blocks[1] <= blocks[0] + 4, "{filter}: {blocks:?}");
    }
}

#[tokio::test]
async fn a_page_of_a_window_costs_little_wherever_it_is() {
    let (book, mut connection) = open().await;
    let from = "&from=2030-02-01T00:00:00Z";
    prepare(&book, &mut connection, "in_window", from).await;
    let filter = format!("{from}&resource=table-1");
    prepare(&book, &mut connection, "in_window_of", &filter).await;
    let one = format!("'{}'", book.customer);
    for (statement, index, most) in [
        ("in_window (", "reservation_window", 60),
        (
            &*format!("in_window_of ({one}, null, "),
            "reservation_customer_window",
            50,
        ),
        (
            "in_window_of (null, 'table-1', ",
            "reservation_resource_window",
            20,
        ),
    ] {
        for window in [
            "'1970-01-01', '9999-12-31'",
            "'2030-02-01', '2030-02-01 01:00'",
            "'2031-06-01', '2031-08-01'",
            "'2031-06-01', '9999-12-31'",
            "'2035-01-01', '9999-12-31'",
        ] {
            for after in ["1970-01-01", "2031-06-10"] {
                let call = format!("{statement}{window}, '{after}', '{}', 3)", Uuid::nil());
                let (plan, blocks) = explain(&mut connection, &call).await;
                assert!(plan.contains(index), "{call}: {plan}");
                assert!(blocks <= most, "{call}: {blocks} blocks, {plan}");
            }
        }
    }
}
