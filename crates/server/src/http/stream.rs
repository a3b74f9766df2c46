//! A connection's bytes, with deadlines: for a head, for the next request, and for a client that does not read.
//!
//! hyper has one deadline, for the head of a request, which also ends connections that only wait for their next one; and
//! what it answers by itself has no body. So both are done here, below it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use uuid::Uuid;

use crate::error::problem::Problem;
use crate::http::activity::{Activity, Phase};
use crate::settings::Limits;

/// What a client still sends after the last answer is read away for so long: closing at once would reset the connection,
/// and the client might lose the answer.
const LINGER: Duration = Duration::from_secs(2);

/// The bytes of one connection.
pub(crate) struct Stream<'a> {
    socket: TcpStream,
    activity: &'a Activity,
    limits: Limits,
    /// Set to the first deadline that may come; a later one does not move it until it is over. So a request moves no timer.
    timer: Pin<Box<Sleep>>,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
    /// Whether a byte has come at all.
    pub(crate) spoken: bool,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(socket: TcpStream, activity: &'a Activity, limits: Limits) -> Self {
        Self {
            socket,
            activity,
            limits,
            timer: Box::pin(sleep_until(Instant::now() + limits.header_timeout)),
            stalled: None,
            spoken: false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let (phase, since) = self.activity.phase();
        let client = match phase {
            Phase::Head => Some(since + self.limits.header_timeout),
            Phase::Idle => Some(since + self.limits.keep_alive_timeout),
            Phase::Body | Phase::Busy => None,
        };
        let reader = self.stalled.map(|since| since + self.limits.body_timeout);
        client.into_iter().chain(reader).min()
    }

    /// Pending until the deadline, if there is one.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(deadline) = self.deadline() {
            if deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                break;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(self.expire());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Ends an idle connection as if the client had, and any other with an error.
    fn expire(&mut self) -> io::Result<()> {
        let text = match self.activity.phase().0 {
            _ if self.stalled.is_some() => "the client does not read its answer",
            Phase::Idle => return Ok(()),
            _ => "the head of a request did not come",
        };
        if self.spoken && self.stalled.is_none() {
            let detail = format!(
                "The head of the request took longer than {:?}.",
                self.limits.header_timeout
            );
            self.answer(StatusCode::REQUEST_TIMEOUT, detail);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    /// Answers where no handler does: with a problem, and for the last time. It is small; a client that lets no room for
    /// it does not get it.
    pub(crate) fn answer(&self, status: StatusCode, detail: String) {
        let body = Problem::new(status, detail).to_vec();
        let id = Uuid::now_v7();
        tracing::debug!(request_id = %id, "answered before there was a request: {status}");
        let mut answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
             x-request-id: {id}\r\ncontent-length: {}\r\ndate: {}\r\n",
            body.len(),
            httpdate::fmt_http_date(SystemTime::now())
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer += "retry-after: 1\r\n";
        }
        let bytes = [answer.as_bytes(), b"\r\n", &body].concat();
        let _ = self.socket.try_write(&bytes);
        self.activity.leaves_unread();
    }

    /// Answers in hyper's place if hyper is about to refuse a head, with no body.
    fn refuse(&self, bytes: &[u8]) -> bool {
        // Between two requests that is the only 4xx, unless one of ours waits for a client to read on. Ours have a body.
        let is_refusal = self.activity.phase().0 == Phase::Head && bytes.starts_with(b"HTTP/1.1 4");
        let mut lines = bytes.split(|byte| *byte == b'\n');
        if !is_refusal || !lines.any(|line| line == b"content-length: 0\r") {
            return false;
        }
        let status = StatusCode::from_bytes(&bytes[9..12]).unwrap_or(StatusCode::BAD_REQUEST);
        let detail = match status {
            StatusCode::URI_TOO_LONG => "The address is too long.",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                "The head of the request is larger than 16 KiB, or has more than 100 fields."
            }
            _ => "This is not a request of HTTP/1.1.",
        };
        self.answer(status, detail.to_owned());
        true
    }

    /// What a write has come to, and whether its client is one that does not read.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.stalled.get_or_insert_with(Instant::now);
            let expired = self.wait(context);
            return expired.map(|expired| expired.and(Err(io::ErrorKind::TimedOut.into())));
        }
        self.stalled = None;
        if self.activity.phase().0 == Phase::Idle {
            // Also the parts of a long answer: whoever reads is not idle.
            self.activity.enter(Phase::Idle);
            // hyper has asked for the next request already, and does not ask again before it is there.
            let _ = self.wait(context);
        }
        written
    }

    /// Says that nothing more comes, and reads away what the client still sends.
    pub(crate) async fn finish(mut self) {
        let away = async {
            self.socket.shutdown().await?;
            let mut buffer = [0; 4096];
            while self.socket.read(&mut buffer).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(LINGER, away).await;
    }
}

impl AsyncRead for Stream<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(context, buffer);
        if read.is_pending() {
            return this.wait(context);
        }
        if buffer.filled().len() > before {
            this.spoken = true;
            if this.activity.phase().0 == Phase::Idle {
                this.activity.enter(Phase::Head);
            }
        }
        read
    }
}

impl AsyncWrite for Stream<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refuse(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.written(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.first().is_some_and(|first| this.refuse(first)) {
            return Poll::Ready(Ok(bytes.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut this.socket).poll_write_vectored(context, bytes);
        this.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
