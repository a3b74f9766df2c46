//! What a page of the list costs the database.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::list::{emails, with_customers};

/// What PostgreSQL says of running `sql`, as `explain (analyze, buffers, format json)`.
async fn explained(connection: &mut PgConnection, sql: &str, id: &str, rows: i32) -> Value {
    let prepare = format!("prepare list as {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut *connection)
        .await
        .unwrap();
    let explain = format!("explain (analyze, buffers, format json) execute list ('{id}', {rows})");
    let mut plan = Value::Null;
    // Twice: the first reads into the cache what the second finds there.
    for _ in 0..2 {
        plan = sqlx::query_scalar(AssertSqlSafe(explain.clone()))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    }
    sqlx::raw_sql("deallocate list")
        .execute(connection)
        .await
        .unwrap();
    plan[0]["Plan"].clone()
}

/// The list as the service has sent it.
async fn list_of(connection: &mut PgConnection) -> String {
    sqlx::query_scalar(
        "select query from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and query like '%order by id desc%'",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn page_10000_costs_what_page_1_costs() {
    let (server, url) = with_customers(30_000).await;
    let first = server.get("/api/customers?limit=2").await;
    assert_eq!(emails(&first), ["30000@example.com", "29999@example.com"]);

    let mut connection = PgConnection::connect(&url).await.unwrap();
    let sql = list_of(&mut connection).await;
    // A cursor is the id of the last row: of page 9,999 it is the 19,998th newest.
    let deep: String =
        sqlx::query_scalar("select id::text from customer order by id desc offset 19997 limit 1")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    let page = server
        .get(&format!(
            "/api/customers?limit=2&cursor={}",
            deep.replace('-', "")
        ))
        .await;
    assert_eq!(emails(&page), ["10002@example.com", "10001@example.com"]);

    for mode in ["force_custom_plan", "force_generic_plan"] {
        let set = format!("set plan_cache_mode = {mode}");
        sqlx::raw_sql(AssertSqlSafe(set))
            .execute(&mut connection)
            .await
            .unwrap();
        let shallow = explained(
            &mut connection,
            &sql,
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            3,
        )
        .await;
        let deep = explained(&mut connection, &sql, &deep, 3).await;
        for plan in [&shallow, &deep] {
            let text = plan.to_string();
            assert!(text.contains("\"Index Name\":\"customer_pkey\""), "{text}");
            assert!(
                !text.contains("Seq Scan") && !text.contains("Sort"),
                "{text}"
            );
        }
        let blocks = |plan: &Value| {
            plan["Shared Hit Blocks"].as_i64().unwrap()
                + plan["Shared Read Blocks"].as_i64().unwrap()
        };
        assert!(
            blocks(&deep) <= blocks(&shallow) + 2,
            "{mode}: {} and {} blocks",
            blocks(&shallow),
            blocks(&deep)
        );
    }
}

#[tokio::test]
async fn the_list_without_a_filter_is_not_planned_at_each_execution() {
    let (server, url) = with_customers(3_000).await;
    for _ in 0..8 {
        let page = server.get("/api/customers?limit=2").await;
        assert_eq!(emails(&page), ["3000@example.com", "2999@example.com"]);
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("analyze customer")
        .execute(&mut connection)
        .await
        .unwrap();
    let sql = list_of(&mut connection).await;
    let prepare = format!("prepare list as {sql}");
    let execute = "execute list ('ffffffff-ffff-ffff-ffff-ffffffffffff', 21)";
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut connection)
        .await
        .unwrap();
    for _ in 0..8 {
        sqlx::raw_sql(execute)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let plans: i64 =
        sqlx::query_scalar("select generic_plans from pg_prepared_statements where name = 'list'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(plans, 3, "PostgreSQL makes five plans before it keeps one");
}
