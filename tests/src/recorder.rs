//! An upstream that tells what reaches it, and when: the headers of a request before its body is complete.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use axum::{Router, body::Body, extract::Request, http::HeaderMap, response::IntoResponse};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// Longest body that it takes, in bytes: beyond every limit that the tests know.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A request as it was when its headers arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Path.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
}

/// Request header that delays the answer, in milliseconds from the end of the request's body.
pub const DELAY_HEADER: &str = "x-delay-ms";

/// A running upstream on a free port; it answers every request with 200, `x-pod: ADDRESS` and the body's length in
/// bytes, after [`DELAY_HEADER`]. It ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Start it.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // A test sends a handful of requests, so an unbounded channel cannot grow.
        let (sender, arrivals) = mpsc::unbounded_channel();
        let router = Router::new().fallback(move |request: Request| {
            let arrival =
                Arrival { path: request.uri().path().to_owned(), headers: request.headers().clone() };
            // The test may be over already.
            let _ = sender.send(arrival);
            let delay =
                request.headers().get(DELAY_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
            answer(address, request.into_body(), Duration::from_millis(delay.unwrap_or(0)))
        });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("recorder {address}: {error}");
            }
        });
        Ok(Self { address, arrivals, task })
    }

    /// The next arrival; waits for it.
    pub async fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    /// All arrivals that have not been asked for yet.
    pub fn arrived(&mut self) -> Vec<Arrival> {
        std::iter::from_fn(|| self.arrivals.try_recv().ok()).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(address: SocketAddr, body: Body, delay: Duration) -> impl IntoResponse {
    let length = match axum::body::to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => body.len().to_string(),
        Err(error) => error.to_string(),
    };
    tokio::time::sleep(delay).await;
    ([("x-pod", address.to_string())], length)
}
