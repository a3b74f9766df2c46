//! Whatever comes in, it is answered with a clear 4xx and never with a 5xx: what the tests of that share.

use server::testing::Server;

/// An id that no customer has.
pub(crate) const ID: &str = "01900000-0000-7000-8000-000000000001";

/// A service on a new database.
pub(crate) async fn start() -> Server {
    Server::start(customer::SERVICE, &local_postgres::database()).await
}
