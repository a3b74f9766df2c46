//! One connection: requests and answers, until either side ends it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service as _;

use crate::http::activity::{Activity, Order, Phase};
use crate::http::stream::Stream;
use crate::settings::Limits;

/// The largest head of a request, and what one connection buffers, in bytes.
const BUFFER: usize = 16 * 1024;

/// When the service stops, a connection with nothing to do is kept this long: what its client had already sent gets its
/// answer, with `Connection: close`.
const GRACE: Duration = Duration::from_millis(500);

/// Serves the requests of one client.
pub(crate) async fn serve(socket: TcpStream, app: Router, activity: Arc<Activity>, limits: Limits) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!("connection ended: {error}");
        return;
    }
    let mut stream = Stream::new(socket, &activity, limits);
    match exchange(&mut stream, app, &activity).await {
        Ok(()) => {}
        // Clients that vanish, send nonsense or nothing at all: of no interest until one looks for it.
        Err(Ended::Failed(error)) => tracing::debug!("connection ended: {error}"),
        Err(Ended::Ordered) => dismiss(&stream, &activity),
    }
    if activity.has_unread() {
        tokio::select! {
            () = stream.finish() => {}
            // Whoever has to make room does so at once.
            () = ordered(&activity, Order::Leave) => {}
        }
    }
}

/// Why a connection has ended before its time.
enum Ended {
    Failed(hyper::Error),
    Ordered,
}

async fn exchange(
    stream: &mut Stream<'_>,
    app: Router,
    activity: &Arc<Activity>,
) -> Result<(), Ended> {
    // Each connection has its own: clones of what all share, made for every request, would slow the others down.
    let app = RefCell::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.body().is_end_stream() {
            activity.turn(Phase::Busy);
        } else {
            activity.enter(Phase::Body);
            request.extensions_mut().insert(activity.clone());
        }
        respond(app.borrow_mut().call(request), activity)
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

    if let Some(ended) = until(connection.as_mut(), activity, Order::Drain).await {
        return ended;
    }
    let graceful = until(connection.as_mut(), activity, Order::Leave);
    if let Ok(Some(ended)) = timeout(GRACE, graceful).await {
        return ended;
    }
    if activity.phase().0 == Phase::Head {
        return Err(Ended::Ordered);
    }
    // hyper closes the connection now if it is idle, else after the answer.
    connection.as_mut().graceful_shutdown();
    let ended = until(connection.as_mut(), activity, Order::Leave).await;
    ended.unwrap_or(Err(Ended::Ordered))
}

/// Serves until the connection has ended, or this is asked of it.
async fn until(
    mut connection: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    activity: &Activity,
    order: Order,
) -> Option<Result<(), Ended>> {
    poll_fn(|context| {
        if activity.poll_order(context) >= order {
            return Poll::Ready(None);
        }
        let ended = connection.as_mut().poll(context);
        ended.map(|ended| Some(ended.map_err(Ended::Failed)))
    })
    .await
}

async fn ordered(activity: &Activity, order: Order) {
    let never = pin!(std::future::pending());
    until(never, activity, order).await;
}

async fn respond(
    answer: impl Future<Output = Result<Response, Infallible>>,
    activity: &Activity,
) -> Result<Response, Infallible> {
    let mut response = answer.await?;
    let headers = response.headers_mut();
    if headers.contains_key(CONNECTION) {
        // It is the last answer because the request was not read to its end.
        activity.leaves_unread();
    } else if activity.order() != Order::Stay {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    activity.turn(Phase::Idle);
    Ok(response)
}

/// Tells a client that waits for an answer, or is about to ask, that none will come.
fn dismiss(stream: &Stream<'_>, activity: &Activity) {
    if activity.phase().0 != Phase::Idle && stream.spoken {
        let detail = "The service stops, or has too many connections. Try again.";
        stream.answer(StatusCode::SERVICE_UNAVAILABLE, detail.to_owned());
    }
}
