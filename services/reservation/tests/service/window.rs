//! The list with `from` or `to`: what takes some of the time between them, in the order in which it starts.

use serde_json::{Value, json};
use server::Settings;
use server::testing::{Response, Server, rejected};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::book::{Book, path};
use crate::list::{next, shown};

fn ids(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.json();
    let rows = page["data"].as_array().unwrap();
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    rows.iter().map(id).collect()
}

/// The ids of every page.
async fn walk(server: &Server, query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut page = Some(format!("/api/reservations?{query}"));
    while let Some(path) = page {
        let answer = server.get(&path).await;
        found.extend(ids(&answer));
        page = next(&answer);
    }
    found
}

/// 640 reservations over 60 days of 2030, up to three that start at one moment: of every length at which a class of lengths
/// ends, a microsecond more, and half of it. They are cancelled, because only such may overlap.
async fn fill(book: &Book, customers: &[Uuid]) {
    sqlx::query(
        "with length as (
             select array_agg(length) as lengths
             from unnest(reservation_lengths()) as bound
             cross join lateral (values (bound), (bound + interval '1 microsecond'), (bound / 2)) as near (length)
             where length <= interval '31 days'
         )
         insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status)
         select
             gen_random_uuid(),
             $1[1 + n % 2],
             'table-' || n % 3,
             starts_at,
             starts_at + lengths[1 + n % 32],
             2,
             'cancelled'
         from length
         cross join generate_series(1, 640) as n
         cross join lateral (select timestamptz '2030-03-01 00:00+00' + n * 37 % 240 * interval '6 hours') as start (starts_at)",
    )
    .bind(customers)
    .execute(book.server.pool())
    .await
    .unwrap();
}

#[tokio::test]
async fn the_pages_of_a_window_have_all_that_takes_some_of_it_and_nothing_else() {
    let mut book = Book::open().await;
    let customers = [book.customer, book.customer().await];
    book.customer = customers[0];
    fill(&book, &customers).await;
    let (first, last) = ("1970-01-01T00:00:00Z", "9999-12-31T00:00:00Z");
    for (from, to) in [
        ("2030-04-01T12:00:00Z", "2030-04-01T12:00:00.000001Z"),
        ("2030-04-01T12:00:00Z", "2030-04-01T18:00:00Z"),
        ("2030-04-01T11:59:59.999999Z", "2030-04-20T12:00:00.000001Z"),
        ("2030-04-01T18:30:00Z", last),
        (first, "2030-03-20T06:00:00Z"),
        ("2030-05-20T00:00:00Z", "2030-08-01T00:00:00Z"),
        ("2031-01-01T00:00:00Z", last),
    ] {
        let mut window = String::new();
        if from != first {
            window.push_str(&format!("&from={from}"));
        }
        if to != last {
            window.push_str(&format!("&to={to}"));
        }
        for (filter, condition) in [
            (String::new(), "true".to_owned()),
            (
                "&resource=table-1".to_owned(),
                "resource = 'table-1'".to_owned(),
            ),
            (
                format!("&customer_id={}", customers[1]),
                format!("customer_id = '{}'", customers[1]),
            ),
            (
                format!("&resource=table-2&customer_id={}", customers[0]),
                format!("resource = 'table-2' and customer_id = '{}'", customers[0]),
            ),
        ] {
            let sql = format!(
                "select id::text from reservation
                 where starts_at < '{to}' and ends_at > '{from}' and {condition}
                 order by starts_at, id"
            );
            let expected: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_all(book.server.pool())
                .await
                .unwrap();
            for limit in [7, 100] {
                let query = format!("limit={limit}{window}{filter}");
                assert_eq!(walk(&book.server, &query).await, expected, "{query}");
            }
        }
    }
}

#[tokio::test]
async fn the_longest_reservation_is_found_until_it_ends_in_any_time_zone() {
    for zone in ["UTC", "Europe/Berlin", "America/New_York"] {
        let config = db::Config::parse(&local_postgres::database()).unwrap();
        // The driver sets UTC, so the zone has to be set after it.
        let config = config.after_connect(move |connection| {
            let sql = AssertSqlSafe(format!("set timezone = '{zone}'"));
            Box::pin(async move { sqlx::raw_sql(sql).execute(connection).await.map(drop) })
        });
        let settings = Settings::defaults(0);
        let mut book = Book {
            server: Server::start_on(reservation::SERVICE, config, settings).await,
            customer: Uuid::nil(),
        };
        book.server.until_ready().await;
        let shown: String = sqlx::query_scalar("select current_setting('timezone')")
            .fetch_one(book.server.pool())
            .await
            .unwrap();
        assert_eq!(shown, zone);
        book.customer = book.customer().await;
        // Clocks change within both of them, in opposite directions.
        for (start, last, end) in [
            (
                "2030-03-09T12:00:00Z",
                "2030-04-09T11:59:59.999999Z",
                "2030-04-09T12:00:00Z",
            ),
            (
                "2030-10-09T12:00:00Z",
                "2030-11-09T11:59:59.999999Z",
                "2030-11-09T12:00:00Z",
            ),
        ] {
            let mut request = book.request("table-1", 0, 0);
            request["starts_at"] = json!(start);
            request["ends_at"] = json!(end);
            let answer = book.server.post("/api/reservations", request).await;
            assert_eq!(answer.status, 201, "{zone}: {}", answer.body);
            for filter in [
                "",
                "&resource=table-1",
                &format!("&customer_id={}", book.customer),
            ] {
                for (from, expected) in [(last, 1), (end, 0)] {
                    let query =
                        format!("/api/reservations?from={from}&to=2030-12-01T00:00:00Z{filter}");
                    let found = ids(&book.server.get(&query).await);
                    let later = usize::from(start.starts_with("2030-03"));
                    assert!(found.len() <= expected + later, "{zone} {query}");
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    assert_eq!(found.contains(&id), expected == 1, "{zone} {query}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_window_with_one_open_side_goes_on_to_the_ends_of_time() {
    let book = Book::open().await;
    book.reserve("table-1", 10, 12).await;
    for (query, expected) in [
        ("from=0000-01-01T00:00:00Z", 1),
        ("to=9999-12-31T23:59:59Z", 1),
        ("from=9999-12-31T23:59:59Z", 0),
        ("to=0000-01-01T00:00:00Z", 0),
        ("to=1970-01-01T00:00:00Z", 0),
    ] {
        let answer = book.server.get(&format!("/api/reservations?{query}")).await;
        assert_eq!(ids(&answer).len(), expected, "{query}");
    }
}

#[tokio::test]
async fn what_moves_while_somebody_pages_moves_nothing_else() {
    let book = Book::open().await;
    let mut reservations = Vec::new();
    for hour in [10, 12, 14, 16, 18] {
        reservations.push(book.reserve("table-1", hour, hour + 1).await);
    }
    let window = "/api/reservations?limit=2&from=2030-05-17T10:30:00Z&to=2030-05-17T23:00:00Z";
    let first = book.server.get(window).await;
    assert_eq!(shown(&first), ["table-1 10", "table-1 12"]);
    // One that was seen comes again where it is now, one that was to come is behind, and a new one too.
    for (reservation, change) in [
        (
            &reservations[0],
            json!({"ends_at": "2030-05-17T20:30:00Z", "starts_at": "2030-05-17T20:00:00Z"}),
        ),
        (
            &reservations[2],
            json!({"starts_at": "2030-05-17T11:00:00Z", "ends_at": "2030-05-17T11:30:00Z"}),
        ),
    ] {
        assert_eq!(book.change(reservation, change).await.status, 200);
    }
    book.reserve("table-2", 11, 13).await;
    let second = book.server.get(&next(&first).unwrap()).await;
    assert_eq!(shown(&second), ["table-1 16", "table-1 18"]);
    let third = book.server.get(&next(&second).unwrap()).await;
    assert_eq!(shown(&third), ["table-1 20"]);
    assert_eq!(next(&third), None);
}

#[tokio::test]
async fn a_cursor_of_the_other_order_is_a_422_that_names_it() {
    let book = Book::open().await;
    for hour in [10, 12, 14] {
        book.reserve("table-1", hour, hour + 1).await;
    }
    let cursor = async |query: &str| {
        let answer = book
            .server
            .get(&format!("/api/reservations?limit=1{query}"))
            .await;
        answer.json()["next_cursor"].as_str().unwrap().to_owned()
    };
    let newest = cursor("").await;
    let window = cursor("&from=2030-05-17T00:00:00Z").await;
    let not_canonical = window.to_uppercase();
    let no_moment = format!("{}{}", "f".repeat(16), &window[16..]);
    for query in [
        format!("from=2030-05-17T00:00:00Z&cursor={newest}"),
        format!("to=2030-05-18T00:00:00Z&resource=table-1&cursor={newest}"),
        format!("cursor={window}"),
        format!("resource=table-1&cursor={window}"),
        format!("from=2030-05-17T00:00:00Z&cursor={not_canonical}"),
        format!("from=2030-05-17T00:00:00Z&cursor={no_moment}"),
        "from=2030-05-17T00:00:00Z&cursor=".to_owned(),
        format!("from=2030-05-17T00:00:00Z&cursor=%C3%A4{}", &window[2..]),
    ] {
        let answer = book.server.get(&format!("/api/reservations?{query}")).await;
        rejected(&answer, &query, 422);
        assert_eq!(answer.json()["errors"][0]["field"], "cursor", "{query}");
    }
}

#[tokio::test]
async fn a_reservation_takes_31_days_at_most() {
    let book = Book::open().await;
    let mut request = book.request("table-1", 12, 14);
    request["ends_at"] = json!("2030-06-17T12:00:00Z");
    let longest = book.server.post("/api/reservations", request.clone()).await;
    assert_eq!(longest.status, 201, "{}", longest.body);
    let too_long = json!("2030-06-17T12:00:00.000001Z");
    request["resource"] = json!("table-2");
    request["ends_at"] = too_long.clone();
    for answer in [
        book.server.post("/api/reservations", request).await,
        book.change(&longest.json(), json!({"ends_at": too_long}))
            .await,
        book.change(
            &longest.json(),
            json!({"starts_at": "2030-05-17T11:59:59.999999Z"}),
        )
        .await,
    ] {
        rejected(&answer, "more than 31 days", 422);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["field"], "ends_at", "{error}");
        assert_eq!(error["detail"], "must be at most 31 days after starts_at");
    }
    assert_eq!(
        book.server.get(&path(&longest.json())).await.json(),
        longest.json()
    );
}

/// The migration that brings the limit, on a database whose reservations know none.
#[tokio::test]
async fn the_migration_makes_of_a_longer_reservation_several_that_take_the_same_time() {
    let url = local_postgres::database();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for migration in reservation::MIGRATOR
        .iter()
        .filter(|known| known.version < 20261125120000)
    {
        sqlx::raw_sql(migration.sql.clone())
            .execute(&mut connection)
            .await
            .unwrap();
    }
    sqlx::raw_sql(
        "insert into customer (id, name, email) values ('01900000-0000-7000-8000-000000000001', 'Ada', 'ada@example.com');
         insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status)
         select
             ('01900000-0000-7000-8000-00000000000' || n)::uuid,
             '01900000-0000-7000-8000-000000000001',
             'room-1',
             starts_at::timestamptz,
             ends_at::timestamptz,
             3,
             status
         from (values
             (2, '2030-01-01 12:00+00', '2030-02-01 12:00+00', 'confirmed'),
             (3, '2030-02-01 12:00+00', '2030-05-05 12:00+00', 'confirmed'),
             (4, '2030-05-05 12:00+00', '2030-06-05 12:00:00.000001+00', 'confirmed'),
             (5, '2030-01-01 12:00+00', '2030-07-01 12:00+00', 'cancelled')
         ) as existing (n, starts_at, ends_at, status);
         create table before as select * from reservation;
         set timezone = 'Europe/Berlin'",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let window = reservation::MIGRATOR
        .iter()
        .find(|known| known.version == 20261125120000)
        .unwrap();
    sqlx::raw_sql(window.sql.clone())
        .execute(&mut connection)
        .await
        .unwrap();
    for (claim, sql) in [
        ("the limit holds", "select count(*) = 0 from reservation where ends_at - starts_at > interval '31 days'"),
        ("that many parts", "select count(*) = 1 + 3 + 2 + 6 from reservation"),
        (
            "each id is still there, with the same start",
            "select count(*) = 4 from before join reservation using (id, customer_id, resource, starts_at, party_size, status)",
        ),
        (
            "the same time is taken, without a gap",
            "select range_agg(tstzrange(starts_at, ends_at)) = (
                 select range_agg(tstzrange(starts_at, ends_at)) from before where status = 'confirmed'
             )
             from reservation where status = 'confirmed'",
        ),
        (
            "by what is cancelled too",
            "select range_agg(tstzrange(starts_at, ends_at)) = '{[2030-01-01 12:00+00, 2030-07-01 12:00+00)}'
             from reservation where status = 'cancelled'",
        ),
        (
            "new ids are UUIDv7 of now",
            "select bool_and(id::text ~ '^........-....-7...-[89ab]' and id > '01900000-0000-7000-8000-00000000000f')
             from reservation where id not in (select id from before)",
        ),
        (
            "what was not too long has not changed",
            "select count(*) = 1 from before join reservation using (id, starts_at, ends_at, created_at, updated_at)",
        ),
    ] {
        let holds: bool = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        assert!(holds, "{claim}");
    }
}
