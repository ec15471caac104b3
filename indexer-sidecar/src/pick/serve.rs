//! The pick servers, on a thread of their own.
//!
//! A request waits in the gateway for each answer. On the runtime that also follows event streams, a pick would queue
//! behind their work and be handed from thread to thread, each hand-over a wake-up of 50 to 100 µs on a small machine;
//! here the thread that reads a pick answers it. A pick takes some ten microseconds, so one thread serves tens of
//! thousands a second.

use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

use super::socket::PickSocket;

/// How long picks in flight may take once the process is told to end; only a connection that does not read its answer
/// lasts longer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(4);

/// Where picks come in. Each has a router of its own.
pub struct PickListeners {
    /// From Envoy in the same pod.
    pub unix: Option<(PickSocket, Router)>,
    /// Over TCP.
    pub tcp: Option<(TcpListener, Router)>,
}

/// Serves picks until `shutdown`, then drains. Blocks the calling thread.
///
/// # Errors
/// When the thread gets no runtime, or a server ends early.
pub fn block_on(listeners: PickListeners, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the pick servers")?;
    runtime.block_on(serve(listeners, shutdown))
}

async fn serve(listeners: PickListeners, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut servers = JoinSet::new();
    if let Some((socket, router)) = listeners.unix {
        // Known to the other runtime until now.
        let listener = UnixListener::from_std(socket.listener.into_std()?)?;
        let incoming = UnixListenerStream::new(listener);
        let server = router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let file = socket.file;
        servers.spawn(async move {
            let result = server.await;
            drop(file);
            result
        });
    }
    if let Some((listener, router)) = listeners.tcp {
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener.into_std()?)?);
        servers.spawn(router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned()));
    }
    tokio::select! {
        ended = join(servers) => ended,
        () = drained(shutdown) => {
            log::warn!(deadline_s = DRAIN_DEADLINE.as_secs(); "picks were still in flight at the deadline");
            Ok(())
        }
    }
}

async fn join(mut servers: JoinSet<Result<(), tonic::transport::Error>>) -> anyhow::Result<()> {
    while let Some(ended) = servers.join_next().await {
        ended.context("a pick server panicked")?.context("a pick server ended early")?;
    }
    Ok(())
}

async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN_DEADLINE).await;
}
