//! What the handlers of one instance share.

use axum::extract::FromRef;

use crate::queue::Queue;

#[derive(Clone)]
pub(crate) struct App {
    pool: db::Pool,
    queue: Queue,
}

impl App {
    pub(crate) fn new(pool: db::Pool) -> Self {
        let queue = Queue::default();
        Self { pool, queue }
    }
}

impl FromRef<App> for db::Pool {
    fn from_ref(app: &App) -> Self {
        app.pool.clone()
    }
}

impl FromRef<App> for Queue {
    fn from_ref(app: &App) -> Self {
        app.queue.clone()
    }
}
