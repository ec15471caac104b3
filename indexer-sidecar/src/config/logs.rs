//! What is logged.

use std::time::Duration;

use serde::Deserialize;

/// What is logged.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// The least severe level that is written.
    pub level: Level,
    /// One line "Calculated score" per pick and listed endpoint. Applied while running.
    pub scores: bool,
    /// Time between two "metrics beat" lines.
    #[serde(with = "humantime_serde")]
    pub beat_every: Duration,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { level: Level::Info, scores: true, beat_every: Duration::from_secs(60) }
    }
}

/// Severity of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The level's name, as the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
