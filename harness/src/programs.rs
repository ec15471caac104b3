//! Which programs to start: `cargo xtask` builds them and says where they are.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Paths of everything a stack starts.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Envoy (`WARMPATH_ENVOY`).
    pub envoy: PathBuf,
    /// The filter module after its post-processing (`WARMPATH_FILTER`).
    pub filter: PathBuf,
    /// The indexer sidecar (`WARMPATH_SIDECAR`).
    pub sidecar: PathBuf,
    /// The simulated pod (`WARMPATH_SIMULATOR`).
    pub simulator: PathBuf,
}

impl Programs {
    /// From the environment.
    ///
    /// # Errors
    /// When a variable is not set or names no file.
    pub fn from_env() -> Result<Self> {
        let path = |name: &str| -> Result<PathBuf> {
            let path = std::env::var_os(name).with_context(|| {
                format!("{name} is not set: `cargo xtask` starts this with everything that it needs")
            })?;
            // A relative path would mean another file to a test, which runs in its package's directory.
            std::fs::canonicalize(&path).with_context(|| format!("{name}={}", path.display()))
        };
        Ok(Programs {
            envoy: path("WARMPATH_ENVOY")?,
            filter: path("WARMPATH_FILTER")?,
            sidecar: path("WARMPATH_SIDECAR")?,
            simulator: path("WARMPATH_SIMULATOR")?,
        })
    }

    /// From the environment; none, said on stderr, when no Envoy is given: a plain `cargo test` has none.
    ///
    /// # Panics
    /// When an Envoy is given and something else is missing: then the test would pass without having run.
    #[must_use]
    pub fn or_skip(test: &str) -> Option<Self> {
        if std::env::var_os("WARMPATH_ENVOY").is_none() {
            skipped(test, "WARMPATH_ENVOY is not set; `cargo xtask test --only e2e` runs it");
            return None;
        }
        match Programs::from_env() {
            Ok(programs) => Some(programs),
            Err(error) => panic!("{error:#}"),
        }
    }
}

/// Say that a test did not run, and why: on stdout itself, past the capture of the test runner.
pub fn skipped(test: &str, why: &str) {
    // Nothing can be done when stdout is closed.
    let _ = writeln!(std::io::stdout(), "skipped {test}: {why}");
}
