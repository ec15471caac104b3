//! The plugin configuration: JSON in, checked values out. Everything but `steer` has a default.
//!
//! ```
//! let config = warmpath_filter::config::parse(br#"{"steer": "header", "callout_timeout": "20ms"}"#).unwrap();
//! assert_eq!(config.callout_timeout.as_millis(), 20);
//! let error = warmpath_filter::config::parse(br#"{"steer": "header", "breaker": {"opened": 1}}"#).unwrap_err();
//! assert_eq!(error.path, "breaker.opened");
//! ```

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};
use warmpath_core::definition::Mode;
use warmpath_core::request::Api;

/// How long a request waits for the sidecar. The sidecar answers from memory in well under a millisecond, so 50 ms is
/// reached only when it is stopped or starved, and stays small beside the time to the first token of any model.
pub const CALLOUT_TIMEOUT: Duration = Duration::from_millis(50);

/// The largest body that is held and read: a prompt of 128k tokens in JSON is about 600 KiB, and Envoy's listeners
/// buffer 1 MiB unless told otherwise.
pub const BODY_BYTES_MAX: ByteSize = ByteSize::mib(1);

/// The most keys sent in one pick: 64 KiB on the wire, 128k tokens at vLLM's smallest usual block of 16.
pub const KEYS_MAX: usize = 8192;

/// Timeouts in a row after which the sidecar counts as gone: one or two may be a scheduling hiccup, five in a row are
/// not.
pub const BREAKER_CONSECUTIVE_TIMEOUTS: u32 = 5;

/// How long the sidecar is left alone then: at most one request in this time waits in vain, per worker.
pub const BREAKER_OPEN_FOR: Duration = Duration::from_secs(2);

/// How often the sidecar's catalog is read: a change of mode or model is seen within this time. One request over
/// loopback per worker.
pub const CATALOG_POLL: Duration = Duration::from_secs(2);

/// `envoy_grpc.cluster_name` is sent with one-byte lengths, twice; see [`crate::pick::grpc_service`].
const CLUSTER_NAME_BYTES_MAX: usize = 125;

/// Bounds on every duration: Envoy takes milliseconds, zero means "for ever" to some of its timers, and an hour is
/// surely a mistake.
const DURATION_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// Where the picked endpoints are written, which depends on how the filter is wired into Envoy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// Into the request header; needs `allow_on_headers_stop_iteration: true` in the Wasm filter's configuration.
    Header,
    /// Into filter state; needs `buffer` and `header_mutation` after the filter.
    FilterState,
}

/// A checked plugin configuration.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the picked endpoints are written. No default: the wrong one hangs requests.
    pub steer: Steer,
    /// How far the filter goes, at most; the sidecar's catalog can only be more careful.
    #[serde(default)]
    pub mode: Mode,
    /// Envoy cluster of the sidecar's gRPC port (HTTP/2).
    #[serde(default = "pick_cluster")]
    pub pick_cluster: String,
    /// Envoy cluster of the sidecar's asset port (HTTP/1).
    #[serde(default = "assets_cluster")]
    pub assets_cluster: String,
    /// Request paths whose POSTs are held, without query.
    #[serde(default = "paths")]
    pub paths: Vec<String>,
    /// How long a request waits for the sidecar.
    #[serde(default = "callout_timeout", with = "humantime_serde")]
    pub callout_timeout: Duration,
    /// The largest body that is read.
    #[serde(default = "body_bytes_max")]
    pub body_bytes_max: ByteSize,
    /// The most keys sent in one pick; a longer prompt is known by its first `keys_max`.
    #[serde(default = "keys_max", deserialize_with = "whole")]
    pub keys_max: usize,
    /// When to stop asking.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// How often the sidecar's catalog is read.
    #[serde(default = "catalog_poll", with = "humantime_serde")]
    pub catalog_poll: Duration,
}

/// When to stop asking a sidecar that does not answer.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    /// Timeouts in a row that open the breaker.
    #[serde(default = "consecutive_timeouts", deserialize_with = "whole")]
    pub consecutive_timeouts: usize,
    /// How long the sidecar is not asked.
    #[serde(default = "open_for", with = "humantime_serde")]
    pub open_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { consecutive_timeouts: consecutive_timeouts(), open_for: BREAKER_OPEN_FOR }
    }
}

fn pick_cluster() -> String {
    "warmpath_pick".to_owned()
}
fn assets_cluster() -> String {
    "warmpath_assets".to_owned()
}
fn paths() -> Vec<String> {
    Api::ALL.into_iter().map(|api| api.path().to_owned()).collect()
}
fn callout_timeout() -> Duration {
    CALLOUT_TIMEOUT
}
fn body_bytes_max() -> ByteSize {
    BODY_BYTES_MAX
}
fn keys_max() -> usize {
    KEYS_MAX
}
fn consecutive_timeouts() -> usize {
    BREAKER_CONSECUTIVE_TIMEOUTS as usize
}
fn open_for() -> Duration {
    BREAKER_OPEN_FOR
}
fn catalog_poll() -> Duration {
    CATALOG_POLL
}

/// A count; also as a JSON double without fraction, which is what a number that went through a protobuf `Struct`
/// (Istio's `pluginConfig`) may be.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
        return Err(serde::de::Error::custom(format!(
            "{number} is not a whole number from 0 to {}",
            u32::MAX
        )));
    }
    Ok(number as usize)
}

/// What is wrong with a plugin configuration, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("plugin configuration: {path}: {message}")]
pub struct ConfigError {
    /// Dotted path of the offending key; `.` for the whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ConfigError {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Reads and checks a plugin configuration (JSON).
pub fn parse(json: &[u8]) -> Result<Config, ConfigError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let config: Config = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| ConfigError::new(error.path().to_string(), error.inner().to_string()))?;
    deserializer.end().map_err(|error| ConfigError::new(".", error.to_string()))?;
    check(&config)?;
    Ok(config)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    for (path, name) in [("pick_cluster", &config.pick_cluster), ("assets_cluster", &config.assets_cluster)] {
        if name.is_empty() || name.len() > CLUSTER_NAME_BYTES_MAX {
            let message = format!("an Envoy cluster's name has 1 to {CLUSTER_NAME_BYTES_MAX} bytes");
            return Err(ConfigError::new(path, message));
        }
    }
    for (index, path) in config.paths.iter().enumerate() {
        if Api::from_path(path).is_none() || path.contains('?') {
            let message = format!("{path:?} is not the path of an API whose prompts can be keyed");
            return Err(ConfigError::new(format!("paths[{index}]"), message));
        }
    }
    let durations = [
        ("callout_timeout", config.callout_timeout),
        ("breaker.open_for", config.breaker.open_for),
        ("catalog_poll", config.catalog_poll),
    ];
    for (path, duration) in durations {
        if !DURATION_BOUNDS.contains(&duration) {
            return Err(ConfigError::new(path, format!("{duration:?} is not between 1ms and 1h")));
        }
    }
    let counts = [
        ("body_bytes_max", config.body_bytes_max.as_u64()),
        ("keys_max", config.keys_max as u64),
        ("breaker.consecutive_timeouts", config.breaker.consecutive_timeouts as u64),
    ];
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((path, _)) => Err(ConfigError::new(*path, "must be at least 1")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> ConfigError {
        parse(json.as_bytes()).unwrap_err()
    }

    #[test]
    fn only_steer_is_required() {
        let config = parse(br#"{"steer": "filter_state"}"#).unwrap();
        assert_eq!(config.steer, Steer::FilterState);
        assert_eq!(config.mode, Mode::Steer);
        assert_eq!(config.pick_cluster, "warmpath_pick");
        assert_eq!(config.assets_cluster, "warmpath_assets");
        let paths = ["/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"];
        assert_eq!(config.paths[..4], paths);
        assert_eq!(config.paths[4..], ["/inference/v1/generate"]);
        assert_eq!(config.callout_timeout, CALLOUT_TIMEOUT);
        assert_eq!(config.body_bytes_max.as_u64(), 1 << 20);
        assert_eq!(config.keys_max, 8192);
        assert_eq!(
            config.breaker,
            BreakerConfig { consecutive_timeouts: 5, open_for: Duration::from_secs(2) }
        );
        assert_eq!(config.catalog_poll, Duration::from_secs(2));
        assert!(refused("{}").message.contains("steer"));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            br#"{"steer": "header", "mode": "observe", "pick_cluster": "a", "assets_cluster": "b",
                 "paths": ["/v1/completions"], "callout_timeout": "7ms", "body_bytes_max": "64KiB", "keys_max": 16.0,
                 "breaker": {"consecutive_timeouts": 2, "open_for": "1s"}, "catalog_poll": "300ms"}"#,
        )
        .unwrap();
        assert_eq!(config.mode, Mode::Observe);
        assert_eq!((config.pick_cluster.as_str(), config.assets_cluster.as_str()), ("a", "b"));
        assert_eq!(config.paths, ["/v1/completions"]);
        assert_eq!(config.callout_timeout, Duration::from_millis(7));
        assert_eq!(config.body_bytes_max.as_u64(), 64 << 10);
        assert_eq!(config.keys_max, 16);
        assert_eq!(
            config.breaker,
            BreakerConfig { consecutive_timeouts: 2, open_for: Duration::from_secs(1) }
        );
        assert_eq!(config.catalog_poll, Duration::from_millis(300));
    }

    #[test]
    fn errors_name_the_path() {
        let cases = [
            (r#"{"steer": "header", "stear": 1}"#, "stear", "unknown field"),
            (r#"{"steer": "header", "breaker": {"open": "1s"}}"#, "breaker.open", "unknown field"),
            (r#"{"steer": "sideways"}"#, "steer", "unknown variant"),
            (r#"{"steer": "header", "mode": "on"}"#, "mode", "unknown variant"),
            (r#"{"steer": "header", "callout_timeout": 50}"#, "callout_timeout", "expected"),
            (r#"{"steer": "header", "callout_timeout": "50"}"#, "callout_timeout", "expected a duration"),
            (r#"{"steer": "header", "callout_timeout": "0ms"}"#, "callout_timeout", "between"),
            (r#"{"steer": "header", "breaker": {"open_for": "2h"}}"#, "breaker.open_for", "between"),
            (r#"{"steer": "header", "body_bytes_max": "1 parsec"}"#, "body_bytes_max", ""),
            (r#"{"steer": "header", "body_bytes_max": "0"}"#, "body_bytes_max", "at least 1"),
            (r#"{"steer": "header", "keys_max": 1.5}"#, "keys_max", "whole number"),
            (r#"{"steer": "header", "keys_max": -1}"#, "keys_max", "whole number"),
            (r#"{"steer": "header", "pick_cluster": ""}"#, "pick_cluster", "1 to 125"),
            (r#"{"steer": "header", "paths": ["/v1/completions", "/v1/files"]}"#, "paths[1]", "/v1/files"),
            (r#"{"steer": "header"} {}"#, ".", "trailing"),
            ("", ".", "EOF"),
        ];
        for (json, path, message) in cases {
            let error = refused(json);
            assert_eq!(error.path, path, "{json}: {error}");
            assert!(error.message.contains(message), "{json}: {error}");
        }
    }
}
