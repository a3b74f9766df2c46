//! Starting together with the other service.

use server::testing::Server;
use sqlx::{Connection, PgConnection};

async fn both_start(url: String) {
    let (customer, reservation) = tokio::join!(
        Server::start(customer::SERVICE, &url),
        Server::start(reservation::SERVICE, &url)
    );
    assert_eq!(customer.get("/api/customers").await.status, 200);
    assert_eq!(reservation.get("/api/reservations").await.status, 200);

    let mut connection = PgConnection::connect(&url).await.unwrap();
    let applied: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations where success")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(applied, reservation::MIGRATOR.iter().count() as i64);
    tokio::join!(customer.stop(), reservation.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_start_at_once_on_an_empty_database_twenty_times() {
    for _ in 0..4 {
        let five = (0..5).map(|_| tokio::spawn(both_start(local_postgres::database())));
        for round in five.collect::<Vec<_>>() {
            round.await.unwrap();
        }
    }
}
