//! Follows the endpoints file and its DNS names, and publishes what they come to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::EndpointSet;
use super::file::{self, Entry};
use super::resolve::Names;
use crate::config::{ConfigError, read_text};
use crate::files::{POLL_EVERY, Stamps};
use crate::metrics::{Metrics, Reloaded};

/// The endpoints file of one sidecar.
pub struct Follow {
    /// Path of the file.
    pub file: PathBuf,
    /// Time between two resolutions of its names.
    pub resolve_every: Duration,
    /// Where the set is published; empty until the file was read once.
    pub publish: watch::Sender<Arc<EndpointSet>>,
    /// Set to true once the file was read.
    pub read: watch::Sender<bool>,
    /// Counts reloads and failures.
    pub metrics: Arc<Metrics>,
}

impl Follow {
    /// Runs until `shutdown`. A file that cannot be used leaves the last set in force and is counted.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut names = Names::default();
        let mut stamps = None;
        let mut poll = interval(POLL_EVERY);
        let mut resolve = interval(self.resolve_every);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resolve.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = poll.tick() => {
                    let now = Stamps::of([&self.file]);
                    if stamps.as_ref() == Some(&now) {
                        continue;
                    }
                    stamps = Some(now);
                    match self.read_file() {
                        Some(read) => entries = read,
                        None => continue,
                    }
                }
                _ = resolve.tick() => {}
            }
            names.refresh(&entries, &self.metrics).await;
            self.publish_if_new(names.endpoints(&entries, &self.metrics));
        }
    }

    fn read_file(&self) -> Option<Vec<Entry>> {
        match read(&self.file) {
            Ok(entries) => {
                self.metrics.reloaded("endpoints", Reloaded::Applied);
                self.read.send_replace(true);
                log::info!(entries = entries.len(); "endpoints file read");
                Some(entries)
            }
            Err(error) => {
                self.metrics.reloaded("endpoints", Reloaded::Rejected);
                log::error!(error = error.to_string().as_str(); "endpoints file not usable; the last one stays in force");
                None
            }
        }
    }

    fn publish_if_new(&self, set: EndpointSet) {
        self.publish.send_if_modified(|published| {
            let new = **published != set;
            if new {
                log::info!(endpoints = set.len(); "endpoints changed");
                *published = Arc::new(set);
            }
            new
        });
    }
}

/// Reads and checks an endpoints file.
pub fn read(file: &std::path::Path) -> Result<Vec<Entry>, ConfigError> {
    file::parse(&read_text(file)?, file)
}
