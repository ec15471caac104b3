//! A root and requests on the mock host: catalogs served to them, callbacks as Envoy makes them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};
use warmpath_core::definition::{
    AssetRef, CATALOG_VERSION, Catalog, Mode, ModelDefinition, SaltRule, Tokenize,
};

use super::{MockHost, ROOT, TEMPLATE, TOKENIZER};
use crate::root::{REPORT_EVERY, Root};
use crate::stream::{Flow, Stream};
use crate::vm::Vm;

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
        host.advance(REPORT_EVERY);
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
    let mut root = Root::new(ROOT);
    root.on_vm_start(host);
    root.on_configure(host);
    let models = models.iter().map(|name| definition(name, name)).collect();
    serve(&mut root, host, &catalog(mode, models));
    root
}

/// The root's clock, late enough for everything that it does.
pub(crate) fn tick(root: &mut Root, host: &MockHost) {
    host.advance(REPORT_EVERY);
    root.on_tick(host);
}

/// A gateway with the model `demo` loaded, and a request of it.
pub(crate) fn ready(config: &str) -> (MockHost, Root, Request) {
    let host = MockHost::new(config);
    let root = root_with(&host, Mode::Steer, &["demo"]);
    let request = Request::new(root.vm());
    (host, root, request)
}

/// A request's context, as Envoy calls it back.
pub(crate) struct Request {
    pub(crate) context: u32,
    stream: Rc<RefCell<Stream>>,
}

impl Request {
    pub(crate) fn new(vm: Rc<Vm>) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(ROOT);
        let context = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self { context, stream: Stream::new(vm, context) }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.stream.borrow().is_held()
    }

    fn call<T>(&self, host: &MockHost, callback: impl FnOnce(&mut Stream) -> T) -> T {
        host.acting.set(self.context);
        let result = callback(&mut self.stream.borrow_mut());
        host.acting.set(ROOT);
        result
    }

    pub(crate) fn on_request_headers(&mut self, host: &MockHost, end_of_stream: bool) -> Flow {
        self.call(host, |stream| stream.on_request_headers(host, end_of_stream))
    }

    pub(crate) fn on_request_body(&mut self, host: &MockHost, bytes: usize, end_of_stream: bool) -> Flow {
        self.call(host, |stream| stream.on_request_body(host, bytes, end_of_stream))
    }

    pub(crate) fn on_request_trailers(&mut self, host: &MockHost) -> Flow {
        self.call(host, |stream| stream.on_request_trailers(host))
    }

    pub(crate) fn on_response_headers(&mut self, host: &MockHost) {
        self.call(host, |stream| stream.on_response_headers(host));
    }

    pub(crate) fn on_response_body(&mut self, host: &MockHost, bytes: usize) {
        self.call(host, |stream| stream.on_response_body(host, bytes));
    }

    pub(crate) fn on_log(&mut self, host: &MockHost) {
        self.call(host, |stream| stream.on_log(host));
    }

    pub(crate) fn on_done(&mut self, host: &MockHost) {
        self.call(host, |stream| stream.on_done(host));
    }
}
