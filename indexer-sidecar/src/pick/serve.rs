//! The pick servers, on a thread of their own.
//!
//! A request waits in the gateway for each answer. On the runtime that also follows event streams, a pick would queue
//! behind their work and be handed from thread to thread, each hand-over a wake-up of 50 to 100 µs on a small machine;
//! here the thread that reads a pick answers it. A pick takes some ten microseconds, so one thread serves tens of
//! thousands a second.
//!
//! What a pick costs beside that is code that has left the processor's caches since the last one. So its way is short:
//! hyper's HTTP/2 and the generated service, without the layers and the router of tonic's server, which the rest (health,
//! unknown methods) goes through.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::service::Routes;
use warmpath_proto::v1::INDEXER_SERVICE;
use warmpath_proto::v1::indexer_server::IndexerServer;

use super::Picker;
use super::socket::PickSocket;

/// How long picks in flight may take once the process is told to end; only a connection that does not read its answer
/// lasts longer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(4);

/// Streams on one connection: one of each VM, and health checks. Envoy opens another connection beyond it.
const STREAMS_MAX: u32 = 1024;

/// What a stream, and all of a connection together, may send before the sidecar has read it: some bodies of prompts, so that
/// picks behind them need not wait for a window, and few window updates.
const WINDOW_BYTES: u32 = 4 << 20;

/// Connections that are served at once: each worker of each Envoy has one. More are closed, and counted in
/// `warmpath_indexer_connections_refused`.
pub const CONNECTIONS_MAX: usize = 1024;

/// Wait after a connection could not be accepted: no file handle was free, most likely.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Where picks come in.
pub struct PickListeners {
    /// From Envoy in the same pod.
    pub unix: Option<PickSocket>,
    /// Over TCP.
    pub tcp: Option<TcpListener>,
}

/// What is served.
#[derive(Clone)]
pub struct PickServices {
    /// [`INDEXER_SERVICE`].
    pub picks: IndexerServer<Picker>,
    /// All others.
    pub rest: Routes,
    /// Connections beyond [`CONNECTIONS_MAX`].
    pub refused: Counter,
}

impl hyper::service::Service<Request<Incoming>> for PickServices {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        match service {
            Some((INDEXER_SERVICE, _)) => self.picks.clone().call(request),
            _ => Box::pin(self.rest.clone().call(request.map(Body::new))),
        }
    }
}

/// Serves picks until `shutdown`, then drains. Blocks the calling thread.
///
/// # Errors
/// When the thread gets no runtime, or a listener is of no use to it.
pub fn block_on(
    listeners: PickListeners,
    services: &PickServices,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the pick servers")?;
    runtime.block_on(serve(listeners, services, shutdown))
}

async fn serve(
    listeners: PickListeners,
    services: &PickServices,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let connections = GracefulShutdown::new();
    let unix = async {
        let Some(socket) = listeners.unix else { return Ok(()) };
        // Known to the other runtime until now.
        let listener = UnixListener::from_std(socket.listener.into_std()?)?;
        let next = async || Ok(listener.accept().await?.0);
        accept(next, services, &connections, shutdown).await;
        // Nobody shall connect any more.
        drop(socket.file);
        Ok(())
    };
    let tcp = async {
        let Some(listener) = listeners.tcp else { return Ok(()) };
        let listener = TcpListener::from_std(listener.into_std()?)?;
        let next = async || {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        accept(next, services, &connections, shutdown).await;
        Ok(())
    };
    let listened: (io::Result<()>, io::Result<()>) = tokio::join!(unix, tcp);
    if tokio::time::timeout(DRAIN_DEADLINE, connections.shutdown()).await.is_err() {
        log::warn!(deadline_s = DRAIN_DEADLINE.as_secs(); "picks were still in flight at the deadline");
    }
    listened.0.and(listened.1).context("a pick server cannot listen")
}

/// Serves each connection that `next` gives on a task of its own, until `shutdown`.
async fn accept<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    next: impl AsyncFn() -> io::Result<S>,
    services: &PickServices,
    connections: &GracefulShutdown,
    shutdown: &CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = next() => match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    log::warn!("a connection for picks was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        if connections.count() >= CONNECTIONS_MAX {
            services.refused.inc();
            continue;
        }
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            // Of no use to gRPC.
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), services.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a connection for picks ended: {error}");
            }
        });
    }
}
