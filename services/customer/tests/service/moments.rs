//! Moments that no client could be shown.

use server::testing::Server;
use sqlx::migrate::Migrator;

use crate::list::{emails, with_customers};

#[tokio::test]
async fn a_moment_that_cannot_be_shown_does_not_get_into_the_table() {
    let (server, _) = with_customers(1).await;
    for column in ["created_at", "updated_at"] {
        for moment in ["infinity", "-infinity", "1969-12-31", "10000-01-01"] {
            let sql = format!("update customer set {column} = '{moment}'");
            let written = sqlx::query(sqlx::AssertSqlSafe(sql))
                .execute(server.pool())
                .await;
            let listed = server.get("/api/customers").await;
            assert_eq!(listed.status, 200, "{column} = {moment}: {}", listed.body);
            let error = db::Error::from(written.unwrap_err());
            assert_eq!(error.constraint(), Some("customer_moments"));
            assert_eq!(emails(&listed), ["1@example.com"]);
        }
    }
}

#[tokio::test]
async fn a_row_from_before_with_such_a_moment_is_migrated_and_listed() {
    let url = local_postgres::database();
    let pool = db::Pool::new(db::Config::parse(&url).unwrap());
    let before = customer::SERVICE
        .migrator
        .iter()
        .filter(|one| one.version < 20261125100000);
    let before = Migrator::with_migrations(before.cloned().collect());
    pool.migrate(&before).await.unwrap();
    let sql = "insert into customer (id, name, email, created_at, updated_at)
        values (gen_random_uuid(), 'Ada', 'ada@example.com', 'infinity', '-infinity')";
    sqlx::query(sql).execute(&pool).await.unwrap();

    let server = Server::start(customer::SERVICE, &url).await;
    let listed = server.get("/api/customers").await;
    assert_eq!(emails(&listed), ["ada@example.com"]);
}
