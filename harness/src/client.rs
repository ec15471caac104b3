//! An HTTP client that sees what arrives when: chunks, trailers, who answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::metrics::Metrics;

/// A request's body: whole, in chunks, or with trailers.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Longest that one exchange may take, from sending to the last byte.
pub const EXCHANGE_LIMIT: Duration = Duration::from_secs(60);

/// A connection pool to one address. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Body>,
    address: SocketAddr,
    limit: Duration,
}

impl Client {
    /// HTTP/1.1.
    #[must_use]
    pub fn http1(address: SocketAddr) -> Self {
        Client::new(address, false)
    }

    /// HTTP/2 with prior knowledge.
    #[must_use]
    pub fn http2(address: SocketAddr) -> Self {
        Client::new(address, true)
    }

    fn new(address: SocketAddr, http2_only: bool) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).http2_only(http2_only).build(connector);
        Client { pool, address, limit: EXCHANGE_LIMIT }
    }

    /// The same pool with another limit for one exchange.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Where it sends.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// GET a path.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.send(self.request(Method::GET, path), whole("")).await
    }

    /// POST JSON to a path.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Result<Response> {
        self.send(self.json_request(path), whole(body.to_string())).await
    }

    /// GET Prometheus text.
    ///
    /// # Errors
    /// As [`Client::send`], and when the answer is not 200 or not such a text.
    pub async fn metrics(&self, path: &str) -> Result<Metrics> {
        Metrics::parse(&self.get(path).await?.ok()?.text())
    }

    /// A request to this address; add headers and give it to [`Client::send`].
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address))
    }

    /// A POST with JSON's content type.
    #[must_use]
    pub fn json_request(&self, path: &str) -> hyper::http::request::Builder {
        self.request(Method::POST, path).header("content-type", "application/json")
    }

    /// Send a request and read the whole answer.
    ///
    /// # Errors
    /// When no complete answer comes: refused, reset, broken off, too late. A status is not an error.
    pub async fn send(&self, request: hyper::http::request::Builder, body: Body) -> Result<Response> {
        let request = request.body(body).context("making the request")?;
        let sent = Instant::now();
        let exchange = async {
            let response = self.pool.request(request).await.context("no answer")?;
            let headers_after = sent.elapsed();
            let (parts, body) = response.into_parts();
            let (chunks, trailers) = read(body, sent).await?;
            let (status, headers) = (parts.status, parts.headers);
            Ok(Response { status, headers, headers_after, chunks, trailers, total: sent.elapsed() })
        };
        match tokio::time::timeout(self.limit, exchange).await {
            Ok(result) => result,
            Err(_) => bail!("no complete answer from {} within {:?}", self.address, self.limit),
        }
    }
}

async fn read(mut body: Incoming, sent: Instant) -> Result<(Vec<Chunk>, Option<HeaderMap>)> {
    let mut chunks = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.context("the answer broke off")?.into_data() {
            Ok(data) => chunks.push(Chunk { after: sent.elapsed(), data }),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((chunks, trailers))
}

/// A piece of an answer's body, as it came.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Since the request was sent.
    pub after: Duration,
    /// What came.
    pub data: Bytes,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// From sending the request to the answer's headers.
    pub headers_after: Duration,
    /// The body in the pieces in which it came.
    pub chunks: Vec<Chunk>,
    /// Trailers, when there were any.
    pub trailers: Option<HeaderMap>,
    /// From sending the request to the last byte.
    pub total: Duration,
}

impl Response {
    /// Itself, when the status is 2xx.
    ///
    /// # Errors
    /// With status and body otherwise.
    pub fn ok(self) -> Result<Self> {
        if !self.status.is_success() {
            bail!("status {}: {}", self.status, self.text());
        }
        Ok(self)
    }

    /// A header's value; none when it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Which pod served it (`x-pod`).
    #[must_use]
    pub fn pod(&self) -> Option<&str> {
        self.header("x-pod")
    }

    /// Time to the first piece of the body.
    #[must_use]
    pub fn ttft(&self) -> Option<Duration> {
        self.chunks.iter().find(|chunk| !chunk.data.is_empty()).map(|chunk| chunk.after)
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut all = BytesMut::new();
        for chunk in &self.chunks {
            all.extend_from_slice(&chunk.data);
        }
        all.freeze()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body()).with_context(|| format!("not JSON: {}", self.text()))
    }
}

/// A body in one piece (with a content length).
#[must_use]
pub fn whole(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).boxed_unsync()
}

/// A body in pieces as the stream gives them (chunked in HTTP/1), then trailers when given.
pub fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static, trailers: Option<HeaderMap>) -> Body {
    let data = pieces.map(Frame::data);
    let end = futures::stream::iter(trailers.map(Frame::trailers));
    StreamBody::new(data.chain(end).map(Ok)).boxed_unsync()
}
