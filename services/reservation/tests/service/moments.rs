//! Moments that no client could be shown.

use crate::book::Book;

#[tokio::test]
async fn a_moment_that_cannot_be_shown_does_not_get_into_the_table() {
    let book = Book::open().await;
    book.reserve("table-1", 12, 14).await;
    for column in ["created_at", "updated_at"] {
        for moment in ["infinity", "-infinity", "1969-12-31", "10000-01-01"] {
            let sql = format!("update reservation set {column} = '{moment}'");
            let written = sqlx::query(sqlx::AssertSqlSafe(sql))
                .execute(book.server.pool())
                .await;
            let listed = book.server.get("/api/reservations").await;
            assert_eq!(listed.status, 200, "{column} = {moment}: {}", listed.body);
            let error = db::Error::from(written.unwrap_err());
            assert_eq!(error.constraint(), Some("reservation_moments"));
        }
    }
}
