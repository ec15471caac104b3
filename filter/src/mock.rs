//! A host that remembers what was asked of it and fails on demand; `gateway.rs` has what is built on it.

mod gateway;

pub(crate) use gateway::*;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{AskRequest, PickRequest};

use crate::host::{Host, HostError, HostResult, MetricKind};

/// A tokenizer of whole words, enough for any prompt made of them.
pub(crate) const TOKENIZER: &[u8] =
    br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "user": 2, "[UNK]": 3}, "unk_token": "[UNK]"}}"#;
pub(crate) const TEMPLATE: &[u8] = b"{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}";

/// The root's context.
pub(crate) const ROOT: u32 = 1;

/// A stream that was opened.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Opened {
    pub(crate) token: u32,
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) cancelled: bool,
}

/// The host of tests. Fields are what Envoy would show and what it was told.
#[derive(Default)]
pub(crate) struct MockHost {
    pub(crate) now: Cell<Duration>,
    pub(crate) config: RefCell<String>,
    pub(crate) tick: Cell<Option<Duration>>,
    pub(crate) metrics: RefCell<Vec<(String, u64)>>,
    pub(crate) headers: RefCell<BTreeMap<String, Vec<u8>>>,
    pub(crate) response: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What the body callback shows.
    pub(crate) body: RefCell<Vec<u8>>,
    /// Time that passes when the body is read: its keys take long.
    pub(crate) body_takes: Cell<Duration>,
    pub(crate) resumed: Cell<usize>,
    pub(crate) state: RefCell<BTreeMap<String, String>>,
    pub(crate) upstream: RefCell<Option<Vec<u8>>>,
    pub(crate) opened: RefCell<Vec<Opened>>,
    /// Messages on all streams.
    pub(crate) sent: RefCell<Vec<AskRequest>>,
    /// The context whose calls are made; between callbacks the root's.
    pub(crate) acting: Cell<u32>,
    /// Contexts that Envoy has forgotten.
    pub(crate) gone: RefCell<Vec<u32>>,
    pub(crate) grpc_answer: RefCell<Vec<u8>>,
    /// Token, cluster and path of every GET.
    pub(crate) gets: RefCell<Vec<(u32, String, String)>>,
    pub(crate) http_status: RefCell<Option<Vec<u8>>>,
    pub(crate) http_answer: RefCell<Vec<u8>>,
    /// Calls that fail, by name.
    pub(crate) failing: RefCell<Vec<&'static str>>,
    /// False once the headers have gone: touching them would be a panic in the SDK.
    pub(crate) headers_writable: Cell<bool>,
    tokens: Cell<u32>,
}

impl MockHost {
    pub(crate) fn new(config: &str) -> Self {
        let host = Self::default();
        host.config.replace(config.to_owned());
        host.headers_writable.set(true);
        host.acting.set(ROOT);
        // Not zero: a request that starts at 0 would hide mistakes.
        host.now.set(Duration::from_secs(100));
        host
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.set(self.now.get() + by);
    }

    /// Sum of a metric.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics.borrow();
        assert!(metrics.iter().any(|(known, _)| known == name), "no metric {name}");
        metrics.iter().filter(|(known, _)| known == name).map(|(_, value)| value).sum()
    }

    pub(crate) fn passes(&self, reason: &str) -> u64 {
        self.metric(&format!("warmpath.passes.{reason}"))
    }

    /// All passes, whatever the reason.
    pub(crate) fn passes_total(&self) -> u64 {
        let metrics = self.metrics.borrow();
        metrics.iter().filter(|(name, _)| name.starts_with("warmpath.passes.")).map(|(_, value)| value).sum()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.borrow().get(name).map(|value| String::from_utf8(value.clone()).unwrap())
    }

    pub(crate) fn state(&self, name: &str) -> Option<String> {
        self.state.borrow().get(name).cloned()
    }

    pub(crate) fn request(&self, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        self.headers.replace(headers.collect());
        self.state.borrow_mut().clear();
    }

    /// The last ask that has an answer.
    pub(crate) fn last_ask(&self) -> AskRequest {
        let sent = self.sent.borrow();
        sent.iter().rfind(|sent| sent.id != 0).cloned().expect("something was asked")
    }

    pub(crate) fn last_pick(&self) -> PickRequest {
        match self.last_ask().ask {
            Some(Ask::Pick(pick)) => pick,
            other => panic!("not a pick: {other:?}"),
        }
    }

    /// Token of the stream that was opened last.
    pub(crate) fn line(&self) -> u32 {
        self.opened.borrow().last().expect("a stream was opened").token
    }

    /// In a callback of a request.
    fn of_request(&self) {
        assert_ne!(self.acting.get(), ROOT, "the root has no request");
    }

    fn token(&self) -> u32 {
        self.tokens.set(self.tokens.get() + 1);
        self.tokens.get()
    }

    fn check(&self, call: &'static str) -> HostResult<()> {
        match self.failing.borrow().contains(&call) {
            true => Err(HostError { call, status: "InternalFailure".to_owned() }),
            false => Ok(()),
        }
    }
}

fn first(bytes: &[u8], count: usize) -> Vec<u8> {
    bytes[..count.min(bytes.len())].to_vec()
}

impl Host for MockHost {
    fn unix_seconds(&self) -> i64 {
        1_751_634_309
    }

    fn now(&self) -> Duration {
        self.now.get()
    }

    fn plugin_configuration(&self) -> HostResult<Vec<u8>> {
        self.check("plugin_configuration")?;
        Ok(self.config.borrow().clone().into_bytes())
    }

    fn set_tick_period(&self, period: Duration) -> HostResult<()> {
        self.check("set_tick_period")?;
        self.tick.set(Some(period));
        Ok(())
    }

    fn define_metric(&self, _kind: MetricKind, name: &str) -> HostResult<u32> {
        self.check("define_metric")?;
        self.metrics.borrow_mut().push((name.to_owned(), 0));
        Ok(self.metrics.borrow().len() as u32 - 1)
    }

    fn increment_metric(&self, id: u32, by: u64) -> HostResult<()> {
        self.check("increment_metric")?;
        self.metrics.borrow_mut()[id as usize].1 += by;
        Ok(())
    }

    fn metric(&self, id: u32) -> HostResult<u64> {
        Ok(self.metrics.borrow()[id as usize].1)
    }

    fn record_metric(&self, id: u32, value: u64) -> HostResult<()> {
        self.check("record_metric")?;
        self.metrics.borrow_mut()[id as usize].1 += value;
        Ok(())
    }

    fn request_header(&self, name: &str) -> HostResult<Option<Vec<u8>>> {
        self.check("request_header")?;
        self.of_request();
        assert!(self.headers_writable.get(), "the SDK panics here: {name} read after the headers have gone");
        Ok(self.headers.borrow().get(name).cloned())
    }

    fn set_request_header(&self, name: &str, value: Option<&str>) -> HostResult<()> {
        self.check("set_request_header")?;
        self.of_request();
        assert!(
            self.headers_writable.get(),
            "the SDK panics here: {name} written after the headers have gone"
        );
        match value {
            Some(value) => self.headers.borrow_mut().insert(name.to_owned(), value.as_bytes().to_vec()),
            None => self.headers.borrow_mut().remove(name),
        };
        Ok(())
    }

    fn request_body(&self, bytes: usize) -> HostResult<Vec<u8>> {
        self.check("request_body")?;
        assert!(bytes > 0, "the SDK gives no buffer for nothing");
        self.advance(self.body_takes.get());
        Ok(first(&self.body.borrow(), bytes))
    }

    fn resume_request(&self) -> HostResult<()> {
        self.check("resume_request")?;
        self.of_request();
        self.resumed.set(self.resumed.get() + 1);
        Ok(())
    }

    fn response_header(&self, name: &str) -> HostResult<Option<Vec<u8>>> {
        self.check("response_header")?;
        Ok(self.response.borrow().get(name).cloned())
    }

    fn property(&self, path: &[&str]) -> HostResult<Option<Vec<u8>>> {
        self.check("property")?;
        assert_eq!(path, ["upstream", "address"]);
        Ok(self.upstream.borrow().clone())
    }

    fn set_property(&self, key: &str, value: &str) -> HostResult<()> {
        self.check("set_property")?;
        self.of_request();
        self.state.borrow_mut().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn open_stream(&self, service: &str, method: &str) -> HostResult<u32> {
        self.check("open_stream")?;
        assert_eq!(self.acting.get(), ROOT, "callbacks would go to a request");
        let token = self.token();
        let (service, method) = (service.to_owned(), method.to_owned());
        self.opened.borrow_mut().push(Opened { token, service, method, cancelled: false });
        Ok(token)
    }

    fn send(&self, token: u32, message: &[u8]) -> HostResult<()> {
        self.check("send")?;
        assert_eq!(self.acting.get(), ROOT, "the stream is the root's");
        assert!(self.opened.borrow().iter().any(|opened| opened.token == token && !opened.cancelled));
        self.sent.borrow_mut().push(AskRequest::decode(message).unwrap());
        Ok(())
    }

    fn cancel(&self, token: u32) -> HostResult<()> {
        assert_eq!(self.acting.get(), ROOT, "the stream is the root's");
        let mut opened = self.opened.borrow_mut();
        opened.iter_mut().find(|opened| opened.token == token).unwrap().cancelled = true;
        self.check("cancel")
    }

    fn act_for(&self, context: u32) -> HostResult<()> {
        self.check("act_for")?;
        if self.gone.borrow().contains(&context) {
            return Err(HostError { call: "act_for", status: "BadArgument".to_owned() });
        }
        self.acting.set(context);
        Ok(())
    }

    fn grpc_message(&self, bytes: usize) -> HostResult<Vec<u8>> {
        self.check("grpc_message")?;
        assert!(bytes > 0, "the SDK gives no buffer for nothing");
        Ok(first(&self.grpc_answer.borrow(), bytes))
    }

    fn http_get(&self, cluster: &str, path: &str, _timeout: Duration) -> HostResult<u32> {
        self.check("http_get")?;
        let token = self.token();
        self.gets.borrow_mut().push((token, cluster.to_owned(), path.to_owned()));
        Ok(token)
    }

    fn http_status(&self) -> HostResult<Option<Vec<u8>>> {
        self.check("http_status")?;
        Ok(self.http_status.borrow().clone())
    }

    fn http_body(&self, start: usize, bytes: usize) -> HostResult<Vec<u8>> {
        self.check("http_body")?;
        assert!(bytes > 0, "the SDK gives no buffer for nothing");
        Ok(first(&self.http_answer.borrow()[start..], bytes))
    }
}
