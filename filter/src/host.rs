//! The host as one small trait: what the filter asks of Envoy, and nothing else. Every call answers a Result, so that
//! a failing host call is an ordinary outcome and never a panic. `envoy.rs` has the real one, tests have a mock.

use std::time::Duration;

/// A host call that Envoy refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("host call {call} failed: {status}")]
pub struct HostError {
    /// Which call.
    pub call: &'static str,
    /// The status that Envoy gave.
    pub status: String,
}

/// What a host call gives.
pub type HostResult<T> = Result<T, HostError>;

/// What Envoy makes of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// A distribution of recorded values.
    Histogram,
    /// A value that is set. Its last value stays when the VM dies.
    Gauge,
}

/// The calls into Envoy that the filter makes. Which of them are legal depends on the callback that is running.
pub trait Host {
    /// Monotonic time since some fixed moment.
    fn now(&self) -> Duration;

    /// Seconds since 1970 in UTC, for chat templates that print the time.
    fn unix_seconds(&self) -> i64;

    /// The plugin configuration's bytes.
    fn plugin_configuration(&self) -> HostResult<Vec<u8>>;
    /// Asks for `on_tick` every `period`.
    fn set_tick_period(&self, period: Duration) -> HostResult<()>;

    /// Makes a metric known; its id.
    fn define_metric(&self, kind: MetricKind, name: &str) -> HostResult<u32>;
    /// Adds to a counter.
    fn increment_metric(&self, id: u32, by: u64) -> HostResult<()>;
    /// A gauge's value, whichever VM set it.
    fn metric(&self, id: u32) -> HostResult<u64>;
    /// Records a value in a histogram, or sets a gauge.
    fn record_metric(&self, id: u32, value: u64) -> HostResult<()>;

    /// A request header's bytes. Legal in the headers callback, and later while the headers are held.
    fn request_header(&self, name: &str) -> HostResult<Option<Vec<u8>>>;
    /// Replaces a request header, or removes it. Legal where reading is.
    fn set_request_header(&self, name: &str, value: Option<&str>) -> HostResult<()>;
    /// The first `bytes` of what the body callback shows: the whole body so far when it is held, else this chunk.
    fn request_body(&self, bytes: usize) -> HostResult<Vec<u8>>;
    /// Lets a held request go on.
    fn resume_request(&self) -> HostResult<()>;
    /// A response header's bytes. Legal in the response headers callback.
    fn response_header(&self, name: &str) -> HostResult<Option<Vec<u8>>>;

    /// An attribute of the stream.
    fn property(&self, path: &[&str]) -> HostResult<Option<Vec<u8>>>;
    /// Writes filter state `wasm.<key>`.
    fn set_property(&self, key: &str, value: &str) -> HostResult<()>;

    /// Opens a gRPC stream to a `method` of `warmpath.v1.Indexer`; the token that its callbacks carry. `service` is a
    /// serialized `GrpcService` (see [`crate::pick::grpc_service`]), never a bare cluster name. In a callback of the root
    /// context.
    fn open_stream(&self, service: &str, method: &str) -> HostResult<u32>;
    /// Sends an encoded message on a stream of the context that is acted for.
    fn send(&self, token: u32, message: &[u8]) -> HostResult<()>;
    /// Gives up a stream of the context that is acted for. No callback follows.
    fn cancel(&self, token: u32) -> HostResult<()>;
    /// The message that has come, in its callback.
    fn grpc_message(&self, bytes: usize) -> HostResult<Vec<u8>>;
    /// From here to the end of the callback, calls are those of this context. Fails when it is gone.
    fn act_for(&self, context: u32) -> HostResult<()>;

    /// Starts `GET path` on a cluster; the token that its answer carries.
    fn http_get(&self, cluster: &str, path: &str, timeout: Duration) -> HostResult<u32>;
    /// `:status` of the answer, in the answer's callback.
    fn http_status(&self) -> HostResult<Option<Vec<u8>>>;
    /// `bytes` of the answer's body from `start` on, in the answer's callback.
    fn http_body(&self, start: usize, bytes: usize) -> HostResult<Vec<u8>>;
}
