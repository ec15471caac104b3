//! Fetches the catalog and the assets of its models from the sidecar, one call at a time, from the root context.
//!
//! Every `catalog_poll` the catalog is read. What it names and this VM does not have is fetched, checked against its
//! checksum and loaded; then the next poll is due. A tokenizer is checked in Envoy's buffer, part by part; only when it is
//! whole the tokenizer before it is freed, and the new one read into this VM, where it is used in place. A failed call starts over from the catalog after a growing, jittered
//! pause. What is loaded stays in use meanwhile, so a sidecar that is away changes nothing here.
//!
//! Cost: loading stalls the worker, since a VM runs one callback at a time (`warmpath.asset_load_us`); the jitter of
//! the polls keeps workers from stalling together.

use std::time::Duration;

use warmpath_core::definition::{
    AssetRef, CATALOG_PATH, CATALOG_VERSION, Catalog, ModelDefinition, Tokenize,
};
use warmpath_core::model::Model;
use warmpath_core::request::{self, Api};

use crate::config::Config;
use crate::engine;
use crate::host::Host;
use crate::metrics::{Counter, Histogram};
use crate::vm::Vm;

/// How long one call may take: 32 MiB over loopback need far less, and until then old models stay in use.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After this the answer is not expected any more, whatever became of it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(12);
/// Envoy gives a Wasm plugin responses of up to 32 MiB.
pub const ASSET_BYTES_MAX: u64 = 32 << 20;
/// Bytes of an asset that are in this VM's memory while it is checked.
const CHECKED_BYTES: usize = 64 << 10;
/// A catalog of 1000 models is about 1 MiB.
pub const CATALOG_BYTES_MAX: usize = 4 << 20;
/// First pause after a failure; doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest pause after a failure: how long after the sidecar's return steering is back.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Every pause is multiplied by a random factor in this range, so that workers and gateways spread out.
const JITTER: std::ops::Range<f64> = 0.75..1.25;

/// The call that is under way.
enum Call {
    Catalog,
    Template { digest: String },
    Tokenizer { digest: String, template: Option<Vec<u8>> },
}

enum State {
    Pause { until: Duration },
    Waiting { call: Call, token: u32, deadline: Duration },
}

/// Fetches and loads; one per VM.
pub struct Fetcher {
    state: State,
    failures: u32,
    catalog_digest: Option<String>,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self { state: State::Pause { until: Duration::ZERO }, failures: 0, catalog_digest: None }
    }
}

/// What went wrong with a call, for one log line and one count.
struct Failure {
    counter: Counter,
    message: String,
}

impl Fetcher {
    /// Polls when it is time.
    pub fn on_tick(&mut self, host: &dyn Host, vm: &Vm, config: &Config) {
        let now = host.now();
        match &self.state {
            State::Pause { until } if now >= *until => {
                self.call(host, vm, config, Call::Catalog, CATALOG_PATH)
            }
            State::Waiting { call, deadline, .. } if now >= *deadline => {
                let failure = Failure { counter: call.counter(), message: "no answer".to_owned() };
                self.fail(host, vm, failure);
            }
            _ => {}
        }
    }

    /// Takes an answer. False if it is not for a call of this fetcher.
    ///
    /// `headers` is 0 when the call failed; nothing may be read then.
    pub fn on_answer(
        &mut self,
        host: &dyn Host,
        vm: &Vm,
        config: &Config,
        token: u32,
        headers: usize,
        bytes: usize,
    ) -> bool {
        match &self.state {
            State::Waiting { token: expected, .. } if *expected == token => {}
            _ => return false,
        }
        let State::Waiting { call, .. } =
            std::mem::replace(&mut self.state, State::Pause { until: host.now() + config.catalog_poll })
        else {
            return false;
        };
        let counter = call.counter();
        let taken = match answered(host, headers) {
            Ok(()) => self.take(host, vm, call, bytes),
            Err(message) => Err(Failure { counter, message }),
        };
        match taken {
            Ok(next) => self.proceed(host, vm, config, next),
            Err(failure) => self.fail(host, vm, failure),
        }
        true
    }

    /// Uses an answer of `bytes` bytes; the call that has to follow at once, if any.
    fn take(
        &mut self,
        host: &dyn Host,
        vm: &Vm,
        call: Call,
        bytes: usize,
    ) -> Result<Option<(Call, String)>, Failure> {
        match call {
            Call::Catalog => self.take_catalog(vm, &body(host, bytes, Counter::CatalogErrors)?)?,
            Call::Template { digest } => {
                if let Some((definition, tokenizer)) = wanted(vm, &digest) {
                    if let Some(asset) = &definition.chat_template {
                        check(host, &definition, asset, bytes)?;
                    }
                    let template = Some(body(host, bytes, Counter::AssetErrors)?);
                    return Ok(Some((Call::Tokenizer { digest, template }, tokenizer.path())));
                }
            }
            Call::Tokenizer { digest, template } => {
                if let Some((definition, tokenizer)) = wanted(vm, &digest) {
                    check(host, &definition, &tokenizer, bytes)?;
                    let start = body(host, bytes.min(engine::START_BYTES), Counter::AssetErrors)?;
                    if let Err(error) = engine::readable_start(&start) {
                        give_up(host, vm, &definition, &format!("tokenizer: {error}"));
                        return next_model(host, vm);
                    }
                    vm.models.borrow_mut().make_room(&digest);
                    let asset = body(host, bytes, Counter::AssetErrors)?;
                    load(host, vm, definition, asset, template.as_deref());
                }
            }
        }
        next_model(host, vm)
    }

    fn take_catalog(&mut self, vm: &Vm, body: &[u8]) -> Result<(), Failure> {
        let failure = |message| Failure { counter: Counter::CatalogErrors, message };
        let catalog: Catalog =
            serde_json::from_slice(body).map_err(|error| failure(format!("catalog: {error}")))?;
        if catalog.version != CATALOG_VERSION {
            let message = format!(
                "catalog has version {}, this filter reads {CATALOG_VERSION}: update the older of filter and sidecar",
                catalog.version
            );
            return Err(failure(message));
        }
        if self.catalog_digest.as_ref() != Some(&catalog.digest) {
            log::info!(
                "catalog {}: mode {:?}, {} models",
                catalog.digest,
                catalog.mode,
                catalog.models.len()
            );
            self.catalog_digest = Some(catalog.digest.clone());
            vm.models.borrow_mut().apply(catalog);
        }
        Ok(())
    }

    fn proceed(&mut self, host: &dyn Host, vm: &Vm, config: &Config, next: Option<(Call, String)>) {
        match next {
            Some((call, path)) => self.call(host, vm, config, call, &path),
            None => {
                if self.failures > 0 {
                    log::info!("the sidecar's assets can be read again after {} failures", self.failures);
                }
                self.failures = 0;
                self.state = State::Pause { until: host.now() + jittered(config.catalog_poll) };
            }
        }
    }

    fn call(&mut self, host: &dyn Host, vm: &Vm, config: &Config, call: Call, path: &str) {
        match host.http_get(&config.assets_cluster, path, CALL_TIMEOUT) {
            Ok(token) => {
                self.state = State::Waiting { call, token, deadline: host.now() + ANSWER_DEADLINE };
            }
            Err(error) => {
                let message = format!("cluster {}: {error}", config.assets_cluster);
                self.fail(host, vm, Failure { counter: call.counter(), message });
            }
        }
    }

    fn fail(&mut self, host: &dyn Host, vm: &Vm, failure: Failure) {
        vm.count(host, failure.counter);
        let pause = jittered(backoff(self.failures));
        // A sidecar that is away for long shall not fill the log.
        let level = if self.failures == 0 { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{}; next try in {pause:?}", failure.message);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Pause { until: host.now() + pause };
    }
}

impl Call {
    fn counter(&self) -> Counter {
        match self {
            Self::Catalog => Counter::CatalogErrors,
            Self::Tokenizer { .. } | Self::Template { .. } => Counter::AssetErrors,
        }
    }
}

/// The pause after `failures` failures in a row before this one.
fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(JITTER.start + fastrand::f64() * (JITTER.end - JITTER.start))
}

/// The definition with this digest and its tokenizer, if it is still in force and not loaded.
fn wanted(vm: &Vm, digest: &str) -> Option<(ModelDefinition, AssetRef)> {
    let models = vm.models.borrow();
    let definition = models.missing().filter(|definition| definition.digest == digest)?;
    tokenizer(definition).map(|asset| (definition.clone(), asset.clone()))
}

fn tokenizer(definition: &ModelDefinition) -> Option<&AssetRef> {
    match &definition.tokenize {
        Tokenize::Inline(asset) => Some(asset),
        Tokenize::Sidecar | Tokenize::Refused(_) => None,
    }
}

/// The call for the next model that is not loaded. Models that cannot be fetched at all are given up on the way.
fn next_model(host: &dyn Host, vm: &Vm) -> Result<Option<(Call, String)>, Failure> {
    loop {
        let Some(definition) = vm.models.borrow().missing().cloned() else { return Ok(None) };
        let Some(tokenizer) = tokenizer(&definition) else { return Ok(None) };
        let assets = std::iter::once(tokenizer).chain(&definition.chat_template);
        match assets.map(|asset| asset.bytes).max() {
            Some(bytes) if bytes > ASSET_BYTES_MAX => {
                let message = format!("an asset of {bytes} bytes is over {ASSET_BYTES_MAX}, Envoy's limit");
                give_up(host, vm, &definition, &message);
            }
            _ => {
                let digest = definition.digest.clone();
                return Ok(Some(match &definition.chat_template {
                    Some(template) => (Call::Template { digest }, template.path()),
                    None => (Call::Tokenizer { digest, template: None }, tokenizer.path()),
                }));
            }
        }
    }
}

/// Whether there is an answer with a body, or what is wrong with it.
fn answered(host: &dyn Host, headers: usize) -> Result<(), String> {
    if headers == 0 {
        return Err("the sidecar's asset port cannot be reached, or its answer is over 32 MiB".to_owned());
    }
    match host.http_status().map_err(|error| error.to_string())? {
        Some(status) if status == b"200" => Ok(()),
        status => {
            let status = status.unwrap_or_default();
            Err(format!("the sidecar's asset port answered {}", String::from_utf8_lossy(&status)))
        }
    }
}

/// The answer's whole body.
fn body(host: &dyn Host, bytes: usize, counter: Counter) -> Result<Vec<u8>, Failure> {
    if bytes == 0 {
        return Ok(Vec::new());
    }
    host.http_body(0, bytes).map_err(|error| Failure { counter, message: error.to_string() })
}

/// Whether the answer is the asset, without taking it into this VM's memory.
fn check(
    host: &dyn Host,
    definition: &ModelDefinition,
    asset: &AssetRef,
    bytes: usize,
) -> Result<(), Failure> {
    let parts = (0..bytes).step_by(CHECKED_BYTES).map(|at| host.http_body(at, CHECKED_BYTES.min(bytes - at)));
    let problem = match asset.is_made_of(parts) {
        Ok(true) => return Ok(()),
        Ok(false) => format!("came with {bytes} bytes and another checksum"),
        Err(error) => error.to_string(),
    };
    let message = format!("model {}: asset {}: {problem}", definition.name, asset.sha256);
    Err(Failure { counter: Counter::AssetErrors, message })
}

fn load(host: &dyn Host, vm: &Vm, definition: ModelDefinition, asset: Vec<u8>, template: Option<&[u8]>) {
    let start = host.now();
    let template = match template.map(std::str::from_utf8).transpose() {
        Ok(template) => template,
        Err(error) => return give_up(host, vm, &definition, &format!("chat template: {error}")),
    };
    let tokenizer = match engine::load(asset) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return give_up(host, vm, &definition, &format!("tokenizer: {error}")),
    };
    match Model::load(definition.clone(), tokenizer, template) {
        Ok(model) => {
            warm_up(&model);
            vm.models.borrow_mut().install(model);
            vm.count(host, Counter::AssetLoads);
            vm.record_stall(host, Histogram::AssetLoadUs, start);
            let took = host.now().saturating_sub(start);
            log::info!("model {} ({}) loaded in {took:?}", definition.name, definition.digest);
        }
        Err(error) => give_up(host, vm, &definition, &error.to_string()),
    }
}

/// V8 compiles functions when they are first called: the first request shall not wait for that. The results do not
/// matter, and a model that cannot key these prompts may key others.
fn warm_up(model: &Model) {
    let chat = br#"{"messages":[{"role":"system","content":"You are 1 helpful assistant."},{"role":"user","content":"Hello, how are you?"}]}"#;
    let text = br#"{"prompt":"The quick brown fox, 12 of them, can't jump over the lazy dog.\n"}"#;
    for (api, body) in [(Api::ChatCompletions, &chat[..]), (Api::Completions, &text[..])] {
        let keyed = request::parse(api, body).and_then(|request| model.keys(&request, None));
        if let Err(pass) = keyed {
            log::debug!("warming up: {pass}");
        }
    }
}

fn give_up(host: &dyn Host, vm: &Vm, definition: &ModelDefinition, message: &str) {
    log::error!("model {} is not steered until its definition changes: {message}", definition.name);
    vm.count(host, Counter::AssetErrors);
    vm.models.borrow_mut().give_up(&definition.digest);
}
