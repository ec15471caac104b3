//! A host that remembers what was asked of it and fails on demand.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use warmpath_core::definition::{
    AssetRef, CATALOG_VERSION, Catalog, Mode, ModelDefinition, SaltRule, Tokenize,
};

use crate::host::{GrpcCall, Host, HostError, HostResult, MetricKind};
use crate::root::Root;
use crate::stream::Stream;

/// A tokenizer of whole words, enough for any prompt made of them.
pub(crate) const TOKENIZER: &[u8] =
    br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "user": 2, "[UNK]": 3}, "unk_token": "[UNK]"}}"#;
pub(crate) const TEMPLATE: &[u8] = b"{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}";

/// A gRPC call that was made.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SentGrpc {
    pub(crate) token: u32,
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
    pub(crate) message: Vec<u8>,
    pub(crate) timeout: Duration,
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
    pub(crate) grpc: RefCell<Vec<SentGrpc>>,
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

    pub(crate) fn last_grpc(&self) -> SentGrpc {
        self.grpc.borrow().last().cloned().expect("a gRPC call was made")
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
        assert!(self.headers_writable.get(), "the SDK panics here: {name} read after the headers have gone");
        Ok(self.headers.borrow().get(name).cloned())
    }

    fn set_request_header(&self, name: &str, value: Option<&str>) -> HostResult<()> {
        self.check("set_request_header")?;
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
        self.state.borrow_mut().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn grpc_call(&self, call: &GrpcCall<'_>) -> HostResult<u32> {
        self.check("grpc_call")?;
        assert!(!call.timeout.is_zero());
        let token = self.token();
        self.grpc.borrow_mut().push(SentGrpc {
            token,
            service: call.service.to_owned(),
            method: call.method.to_owned(),
            metadata: call
                .metadata
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
            message: call.message.to_vec(),
            timeout: call.timeout,
        });
        Ok(token)
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

/// A definition whose assets are [`TOKENIZER`] and [`TEMPLATE`], with blocks of 2 tokens.
pub(crate) fn definition(name: &str, digest: &str) -> ModelDefinition {
    let asset = |bytes: &[u8]| AssetRef::new(hex::encode(Sha256::digest(bytes)), bytes);
    ModelDefinition {
        name: name.to_owned(),
        served_names: vec![name.to_owned()],
        default: name == "demo",
        lora_adapters: vec![format!("{name}-lora")],
        seed: 7,
        block_tokens: 2,
        cache_salt: SaltRule::Keyed,
        max_model_len: Some(1000),
        tokenize: Tokenize::Inline(asset(TOKENIZER)),
        chat_template: Some(asset(TEMPLATE)),
        digest: digest.to_owned(),
        ..ModelDefinition::default()
    }
}

/// A catalog of these models; its digest covers everything, as the sidecar's does.
pub(crate) fn catalog(mode: Mode, models: Vec<ModelDefinition>) -> Catalog {
    let digest = format!("{mode:?} {models:?}");
    Catalog { version: CATALOG_VERSION, digest, mode, models }
}

/// Ticks until the root asks for something over HTTP; the path.
pub(crate) fn tick_until_get(root: &mut Root, host: &MockHost) -> String {
    let before = host.gets.borrow().len();
    for _ in 0..1000 {
        host.advance(crate::root::TICK);
        root.on_tick(host);
        if host.gets.borrow().len() > before {
            return host.gets.borrow().last().unwrap().2.clone();
        }
    }
    panic!("nothing was asked for in 100 s");
}

/// Answers the last GET.
pub(crate) fn answer_get(root: &mut Root, host: &MockHost, status: &str, body: &[u8]) {
    let token = host.gets.borrow().last().unwrap().0;
    host.http_status.replace(Some(status.as_bytes().to_vec()));
    host.http_answer.replace(body.to_vec());
    root.on_http_answer(host, token, 3, body.len());
}

/// Serves a catalog and every asset it leads to.
pub(crate) fn serve(root: &mut Root, host: &MockHost, catalog: &Catalog) {
    assert_eq!(tick_until_get(root, host), "/v1/catalog");
    let mut body = serde_json::to_vec(catalog).unwrap();
    loop {
        let calls = host.gets.borrow().len();
        answer_get(root, host, "200", &body);
        if host.gets.borrow().len() == calls {
            return;
        }
        let path = host.gets.borrow().last().unwrap().2.clone();
        let assets = [TOKENIZER, TEMPLATE];
        let asset = assets.into_iter().find(|bytes| path.ends_with(&hex::encode(Sha256::digest(bytes))));
        body = asset.expect("a known asset").to_vec();
    }
}

/// A root that is configured and has loaded `models`.
pub(crate) fn root_with(host: &MockHost, mode: Mode, models: &[&str]) -> Root {
    let mut root = Root::default();
    root.on_vm_start(host);
    root.on_configure(host);
    let models = models.iter().map(|name| definition(name, name)).collect();
    serve(&mut root, host, &catalog(mode, models));
    root
}

/// A stream of a VM with the model `demo` loaded.
pub(crate) fn ready(config: &str) -> (MockHost, Rc<crate::vm::Vm>, Stream) {
    let host = MockHost::new(config);
    let vm = root_with(&host, Mode::Steer, &["demo"]).vm();
    let stream = Stream::new(Rc::clone(&vm));
    (host, vm, stream)
}
