//! Envoy itself: the entry points of the module and the real [`Host`]. Only this file knows the proxy-wasm SDK.
//!
//! The SDK's context methods unwrap every host call, and even its `hostcalls` panic on a status that they do not
//! expect. The phases of [`Stream`] keep every call to where Envoy allows it; the Results here cover the rest.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType, Status};
use warmpath_proto::v1::INDEXER_SERVICE;

use crate::host::{Host, HostError, HostResult, MetricKind};
use crate::root::Root;
use crate::stream::{Flow, Stream};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(RootPlumbing(Root::new(id))));
}}

struct RootPlumbing(Root);

impl Context for RootPlumbing {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_bytes: usize, _trailers: usize) {
        self.0.on_http_answer(&Envoy, token, headers, body_bytes);
    }

    fn on_grpc_stream_message(&mut self, token: u32, bytes: usize) {
        self.0.on_line_message(&Envoy, token, bytes);
    }

    fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
        self.0.on_line_closed(&Envoy, token, status);
    }
}

impl RootContext for RootPlumbing {
    fn on_vm_start(&mut self, _configuration_bytes: usize) -> bool {
        self.0.on_vm_start(&Envoy);
        true
    }

    /// Always true: false stops Envoy's start-up, even with `FAIL_OPEN`.
    fn on_configure(&mut self, _configuration_bytes: usize) -> bool {
        self.0.on_configure(&Envoy);
        true
    }

    fn on_tick(&mut self) {
        self.0.on_tick(&Envoy);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(StreamPlumbing(Stream::new(self.0.vm(), context_id))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Shared with the line to the sidecar while it waits for an answer. Callbacks do not nest, so it is never borrowed twice.
struct StreamPlumbing(Rc<RefCell<Stream>>);

impl StreamPlumbing {
    fn with<T>(&self, callback: impl FnOnce(&mut Stream) -> T, otherwise: T) -> T {
        match self.0.try_borrow_mut() {
            Ok(mut stream) => callback(&mut stream),
            Err(_) => otherwise,
        }
    }
}

impl Context for StreamPlumbing {
    fn on_done(&mut self) -> bool {
        self.with(|stream| stream.on_done(&Envoy), ());
        true
    }
}

impl HttpContext for StreamPlumbing {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        action(self.with(|stream| stream.on_request_headers(&Envoy, end_of_stream), Flow::Go))
    }

    fn on_http_request_body(&mut self, bytes: usize, end_of_stream: bool) -> Action {
        action(self.with(|stream| stream.on_request_body(&Envoy, bytes, end_of_stream), Flow::Go))
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        action(self.with(|stream| stream.on_request_trailers(&Envoy), Flow::Go))
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        self.with(|stream| stream.on_response_headers(&Envoy), ());
        Action::Continue
    }

    fn on_http_response_body(&mut self, bytes: usize, _end_of_stream: bool) -> Action {
        self.with(|stream| stream.on_response_body(&Envoy, bytes), ());
        Action::Continue
    }

    fn on_log(&mut self) {
        self.with(|stream| stream.on_log(&Envoy), ());
    }
}

fn action(flow: Flow) -> Action {
    match flow {
        Flow::Go => Action::Continue,
        Flow::Hold => Action::Pause,
    }
}

/// The real host.
struct Envoy;

fn ok<T>(call: &'static str, result: Result<T, Status>) -> HostResult<T> {
    result.map_err(|status| HostError { call, status: format!("{status:?}") })
}

/// A buffer that must be there.
fn buffer(call: &'static str, kind: BufferType, start: usize, bytes: usize) -> HostResult<Vec<u8>> {
    ok(call, hostcalls::get_buffer(kind, start, bytes))?
        .ok_or(HostError { call, status: "no such buffer".to_owned() })
}

impl Host for Envoy {
    fn now(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn unix_seconds(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
    }

    fn plugin_configuration(&self) -> HostResult<Vec<u8>> {
        let kind = BufferType::PluginConfiguration;
        Ok(ok("plugin_configuration", hostcalls::get_buffer(kind, 0, usize::MAX))?.unwrap_or_default())
    }

    fn set_tick_period(&self, period: Duration) -> HostResult<()> {
        ok("set_tick_period", hostcalls::set_tick_period(period))
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> HostResult<u32> {
        let kind = match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Histogram => MetricType::Histogram,
            MetricKind::Gauge => MetricType::Gauge,
        };
        ok("define_metric", hostcalls::define_metric(kind, name))
    }

    fn increment_metric(&self, id: u32, by: u64) -> HostResult<()> {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        ok("increment_metric", hostcalls::increment_metric(id, by))
    }

    fn metric(&self, id: u32) -> HostResult<u64> {
        ok("metric", hostcalls::get_metric(id))
    }

    fn record_metric(&self, id: u32, value: u64) -> HostResult<()> {
        ok("record_metric", hostcalls::record_metric(id, value))
    }

    fn request_header(&self, name: &str) -> HostResult<Option<Vec<u8>>> {
        ok("request_header", hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name))
    }

    fn set_request_header(&self, name: &str, value: Option<&str>) -> HostResult<()> {
        ok("set_request_header", hostcalls::set_map_value(MapType::HttpRequestHeaders, name, value))
    }

    fn request_body(&self, bytes: usize) -> HostResult<Vec<u8>> {
        buffer("request_body", BufferType::HttpRequestBody, 0, bytes)
    }

    fn resume_request(&self) -> HostResult<()> {
        ok("resume_request", hostcalls::resume_http_request())
    }

    fn response_header(&self, name: &str) -> HostResult<Option<Vec<u8>>> {
        ok("response_header", hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, name))
    }

    fn property(&self, path: &[&str]) -> HostResult<Option<Vec<u8>>> {
        ok("property", hostcalls::get_property(path.to_vec()))
    }

    fn set_property(&self, key: &str, value: &str) -> HostResult<()> {
        ok("set_property", hostcalls::set_property(vec![key], Some(value.as_bytes())))
    }

    fn open_stream(&self, service: &str, method: &str) -> HostResult<u32> {
        ok("open_stream", hostcalls::open_grpc_stream(service, INDEXER_SERVICE, method, Vec::new()))
    }

    fn send(&self, token: u32, message: &[u8]) -> HostResult<()> {
        ok("send", hostcalls::send_grpc_stream_message(token, Some(message), false))
    }

    fn cancel(&self, token: u32) -> HostResult<()> {
        ok("cancel", hostcalls::cancel_grpc_stream(token))
    }

    fn act_for(&self, context: u32) -> HostResult<()> {
        ok("act_for", hostcalls::set_effective_context(context))
    }

    fn grpc_message(&self, bytes: usize) -> HostResult<Vec<u8>> {
        buffer("grpc_message", BufferType::GrpcReceiveBuffer, 0, bytes)
    }

    fn http_get(&self, cluster: &str, path: &str, timeout: Duration) -> HostResult<u32> {
        let headers = vec![(":method", "GET"), (":path", path), (":authority", cluster)];
        ok("http_get", hostcalls::dispatch_http_call(cluster, headers, None, Vec::new(), timeout))
    }

    fn http_status(&self) -> HostResult<Option<Vec<u8>>> {
        ok("http_status", hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status"))
    }

    fn http_body(&self, start: usize, bytes: usize) -> HostResult<Vec<u8>> {
        buffer("http_body", BufferType::HttpCallResponseBody, start, bytes)
    }
}
