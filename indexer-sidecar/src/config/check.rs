//! Rules of the configuration that its types cannot state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;

use super::{Config, ConfigError, ModelConfig};
use crate::events::CentralConfig;

/// Models in one configuration: each is held by every filter VM (tens of MB), so a few at most make sense.
const MODELS_MAX: usize = 64;

/// Names (served and adapters) of one model.
const NAMES_MAX: usize = 4096;

/// The shortest time between two DNS resolutions or two log beats: below it the sidecar only keeps itself busy.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// The smallest index: each model reserves some MiB ahead of its writes.
const INDEX_BYTES_MIN: ByteSize = ByteSize::mib(64);

pub(super) const SEED_MISSING: &str =
    "missing: give `seed` (1 to 16 hex digits, for example from `openssl rand -hex 8`) or `seed_file`";

pub(super) fn check(config: &Config, file: &Path) -> Result<(), ConfigError> {
    let fail = |at: &str, message: String| Err(ConfigError::new(file, at, message));
    match (&config.seed, &config.seed_file) {
        (None, None) => return fail("seed", SEED_MISSING.into()),
        (Some(_), Some(_)) => {
            return fail("seed_file", "`seed` is there as well: keep one of the two".into());
        }
        (Some(text), None) => {
            seed(text).map_err(|message| ConfigError::new(file, "seed", message))?;
        }
        (None, Some(_)) => {}
    }
    if config.pick.unix.is_none() && config.pick.tcp.is_none() {
        return fail("pick", "both `unix` and `tcp` are null, so nobody could ask: give one".into());
    }
    if config.pick.keys_max == 0 {
        return fail("pick.keys_max", "must be at least 1".into());
    }
    if config.index.blocks_max == 0 {
        return fail("index.blocks_max", "must be at least 1".into());
    }
    if config.index.bytes_max < INDEX_BYTES_MIN {
        return fail("index.bytes_max", format!("must be at least {INDEX_BYTES_MIN}"));
    }
    for (medium, weight) in config.index.medium_weights.named() {
        if !(0.0..=1.0).contains(&weight) {
            return fail(&format!("index.medium_weights.{medium}"), format!("{weight}: give 0 to 1"));
        }
    }
    if config.assets.self_check_strings == 0 {
        return fail("assets.self_check_strings", "must be at least 1".into());
    }
    if config.prompts.at_once == 0 {
        return fail("prompts.at_once", "must be at least 1".into());
    }
    if config.prompts.deadline.is_zero() {
        return fail("prompts.deadline", "must be at least 1ms".into());
    }
    let periods = [
        ("endpoints.resolve_every", config.endpoints.resolve_every),
        ("logs.beat_every", config.logs.beat_every),
    ];
    for (at, period) in periods {
        if period < PERIOD_MIN {
            return fail(at, format!("must be at least {}ms", PERIOD_MIN.as_millis()));
        }
    }
    models(&config.models).or_else(|(at, message)| fail(&at, message))?;
    match &config.central {
        Some(central) => central_socket(central).or_else(|(at, message)| fail(&at, message)),
        None => Ok(()),
    }
}

/// A path in the configuration and what is wrong there.
type Fault = (String, String);

fn models(models: &[ModelConfig]) -> Result<(), Fault> {
    if models.is_empty() || models.len() > MODELS_MAX {
        return Err(("models".into(), format!("there are {}: give 1 to {MODELS_MAX}", models.len())));
    }
    let mut names = BTreeMap::new();
    let mut served = BTreeMap::new();
    let mut default = None;
    for (position, model) in models.iter().enumerate() {
        let at = format!("models[{position}]");
        let fault = |key: &str, message: String| Err((format!("{at}.{key}"), message));
        if model.name.is_empty() {
            return fault("name", "is empty: give the name that endpoints refer to".into());
        }
        if let Some(other) = names.insert(&model.name, position) {
            return fault("name", format!("{:?} is the name of models[{other}] as well", model.name));
        }
        if model.block_tokens == 0 {
            return fault("block_tokens", "must be the engine's block size, at least 1".into());
        }
        if model.max_model_len == Some(0) {
            return fault("max_model_len", "must be at least 1; leave it out if it is not known".into());
        }
        let limits = model.limits();
        let limits = [
            ("inline_bytes_max", limits.bytes_max),
            ("inline_tokens_max", limits.tokens_max),
            ("inline_merge_work_max", limits.merge_work_max),
        ];
        if let Some((key, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return fault(key, "must be at least 1".into());
        }
        if model.default
            && let Some(other) = default.replace(position)
        {
            return fault("default", format!("models[{other}] is the default already: keep one"));
        }
        let all: Vec<String> = model.served_names().into_iter().chain(model.lora_adapters.clone()).collect();
        if all.is_empty() || all.len() > NAMES_MAX {
            return fault("served_names", format!("{} names in all: give 1 to {NAMES_MAX}", all.len()));
        }
        for name in all {
            if let Some(other) = served.insert(name.clone(), position) {
                let message =
                    format!("{name:?} is served by models[{other}] already: a name means one model");
                return fault("served_names", message);
            }
        }
    }
    Ok(())
}

fn central_socket(central: &CentralConfig) -> Result<(), Fault> {
    if !central.bind.starts_with("tcp://") && !central.bind.starts_with("ipc://") {
        let message = format!("{:?} is no ZMQ address: write tcp://IP:PORT or ipc://PATH", central.bind);
        return Err(("central.bind".into(), message));
    }
    for (topic, address) in &central.topics {
        if address.parse::<SocketAddr>().is_err() {
            let message = format!("{address:?} is no address: write the endpoint's ip:port");
            return Err((format!("central.topics.{topic}"), message));
        }
    }
    Ok(())
}

/// Reads a seed: 1 to 16 hex digits.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("is not 1 to 16 hex digits; quote it, and make one with `openssl rand -hex 8`".into());
    }
    u64::from_str_radix(text, 16).map_err(|error| error.to_string())
}
