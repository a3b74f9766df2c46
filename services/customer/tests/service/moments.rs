//! Moments that no client could be shown.

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
