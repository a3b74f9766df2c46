//! SIGTERM and SIGINT: the first asks the service to stop, the second ends it at once.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Starts to listen for both signals; the future ends with the first of them.
///
/// # Errors
/// If the handlers cannot be installed.
pub(crate) fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let interrupt = signal(SignalKind::interrupt())?;
    let terminate = signal(SignalKind::terminate())?;
    let (first, asked) = oneshot::channel();
    tokio::spawn(watch(interrupt, terminate, first));
    Ok(async move {
        // The sender lives until the process ends or has sent.
        let _ = asked.await;
    })
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, first: oneshot::Sender<()>) {
    let (name, _) = next(&mut interrupt, &mut terminate).await;
    tracing::info!(
        signal = name,
        "{name}: stopping; a second signal ends the process at once"
    );
    let _ = first.send(());
    let (name, number) = next(&mut interrupt, &mut terminate).await;
    tracing::warn!(signal = name, "{name} again: ending at once");
    std::process::exit(128 + number);
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
    }
}
