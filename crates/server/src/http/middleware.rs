//! What is done around every request, as one layer and one future: axum boxes and clones each layer again for every request, and
//! an `async fn` around a handler holds it twice.

use std::convert::Infallible;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use db::{Caller, Within};
use futures_util::FutureExt as _;
use futures_util::future::{CatchUnwind, Either};
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{self, problem::Problem};
use crate::http::exchange::{self, Common, Exchange};
use crate::http::request;

/// A request that its own deadline cannot end is cut off so much later: the pool, which says what it was busy with, speaks
/// first.
const MARGIN: Duration = Duration::from_millis(100);

/// Puts everything around a route.
#[derive(Clone)]
pub(crate) struct Around(pub(crate) Arc<Common>);

impl<S> Layer<S> for Around {
    type Service = Guarded<S>;

    fn layer(&self, route: S) -> Guarded<S> {
        Guarded {
            route,
            common: self.0.clone(),
            shared: Arc::default(),
        }
    }
}

/// A route that is counted, timed and logged, has limits, and answers whatever happens with a problem.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    route: S,
    common: Arc<Common>,
    shared: Arc<exchange::Route>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    /// What most requests have, or anything else in a box.
    type Future = Either<Answering<S::Future>, Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let exchange = Exchange::begin(&mut request, &self.common, &self.shared);
        if let Some(refused) = request::refusal(&request) {
            return Either::Right(Box::pin(ready(Ok(exchange.end(refused)))));
        }
        let reads = exchange.reads;
        if request.body().is_end_stream() {
            let now = exchange.started;
            let answer = Answering::new(&self.common, exchange, now, self.route.call(request));
            return match reads {
                true => Either::Left(answer),
                false => Either::Right(self.finish(answer)),
            };
        }
        // The one that is ready is used; what is left for the next request is its clone.
        let clone = self.route.clone();
        let mut route = std::mem::replace(&mut self.route, clone);
        let common = self.common.clone();
        let answer = async move {
            match request::read(request, common.limits.body_timeout).await {
                Ok(request) => {
                    Answering::new(&common, exchange, Instant::now(), route.call(request)).await
                }
                Err(refused) => Ok(exchange.end(refused)),
            }
        };
        Either::Right(match reads {
            true => Box::pin(answer),
            false => self.finish(answer),
        })
    }
}

impl<S> Guarded<S> {
    /// What only reads ends with its client. What may write is finished also when its client has gone: half of it would
    /// help nobody.
    fn finish(
        &self,
        answer: impl Future<Output = Result<Response, Infallible>> + Send + 'static,
    ) -> Answer {
        let answer = self.common.writes.spawn(answer);
        Box::pin(answer.map(|answer| answer.unwrap_or_else(|_| Ok(panicked()))))
    }
}

type Handler<F> = TaskLocalFuture<Arc<Caller>, CatchUnwind<AssertUnwindSafe<F>>>;

pin_project! {
    /// A request whose handler runs.
    pub(crate) struct Answering<F> {
        // Before the exchange, so that one that is given up has counted what it took.
        #[pin]
        answer: Within<Handler<F>>,
        // Taken for its end.
        exchange: Option<Exchange>,
        // What is to be done to an answer that is not as it has to be.
        completion: Option<Pin<Box<dyn Future<Output = Response> + Send>>>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Answering<F> {
    /// Has its time from `now` on.
    fn new(common: &Common, mut exchange: Exchange, now: Instant, handler: F) -> Self {
        let handler = AssertUnwindSafe(handler).catch_unwind();
        let handler = db::with_caller(exchange.start(now), handler);
        let limit = common.limits.request_timeout + MARGIN;
        Self {
            answer: common.pool.within_since(now, limit, handler),
            exchange: Some(exchange),
            completion: None,
        }
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answering<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(exchange) = this.exchange {
            let span = exchange.span();
            let _entered = span.as_ref().map(tracing::Span::enter);
            let answer = ready!(this.answer.poll(context));
            let response = match answer {
                Some(Ok(Ok(response))) => response,
                // The panic itself has been logged by the panic hook, with its place.
                Some(Err(_)) => panicked(),
                None => exchange.too_slow(),
            };
            let lacks = exchange.lacks(&response);
            match this.exchange.take() {
                Some(exchange) if lacks => {
                    *this.completion = Some(Box::pin(exchange.complete(response)));
                }
                Some(exchange) => return Poll::Ready(Ok(exchange.end(response))),
                None => {}
            }
        }
        match this.completion {
            Some(completion) => completion.as_mut().poll(context).map(Ok),
            None => Poll::Pending,
        }
    }
}

fn panicked() -> Response {
    let problem = Problem::of(StatusCode::INTERNAL_SERVER_ERROR);
    error::with_cause(problem, "the handler panicked".to_owned())
}

/// What is around the handler of each request, in bytes.
#[cfg(feature = "testing")]
pub(crate) const AROUND_A_HANDLER: usize =
    size_of::<<Guarded<axum::routing::Route> as Service<Request>>::Future>();
