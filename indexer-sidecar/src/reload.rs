//! Follows the configuration file and the files of its models, and puts changes in force.
//!
//! Mode, models and `logs.scores` are applied while running; anything else that changed is named in the log and waits
//! for a restart. A configuration that cannot be used leaves the last one in force, is logged and counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Library};
use crate::config::{self, Config, ConfigError};
use crate::files::{POLL_EVERY, Stamps};
use crate::index::KeyRules;
use crate::metrics::{Metrics, Reloaded, mode_name};
use crate::state::StateHandle;

/// How each model's keys are made, by the model's name.
pub type Rules = Arc<HashMap<Arc<str>, KeyRules>>;

/// The configuration of one sidecar, while it runs.
pub struct Reload {
    /// Path of the configuration file.
    pub file: PathBuf,
    /// The configuration in force.
    pub config: Config,
    /// Where mode and models are put in force.
    pub state: StateHandle,
    /// Where key rules are published.
    pub rules: watch::Sender<Rules>,
    /// Counts reloads and failures.
    pub metrics: Arc<Metrics>,
}

impl Reload {
    /// Runs until `shutdown`. `stamps` are those of the files as they were before they were read at start.
    pub async fn run(mut self, mut stamps: Stamps, shutdown: CancellationToken) {
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = poll.tick() => {}
            }
            let now = stamps.again();
            if now == stamps {
                continue;
            }
            stamps = now;
            let file = self.file.clone();
            let known = self.state.get().library.clone();
            // Loading a tokenizer takes long enough to hold up picks.
            let attempt = tokio::task::spawn_blocking(move || attempt(file, &known));
            match attempt.await {
                Ok((watched, result)) => {
                    stamps = watched.unwrap_or(stamps);
                    self.take(result);
                }
                Err(error) => {
                    log::error!(error = error.to_string().as_str(); "configuration load ended early")
                }
            }
        }
    }

    fn take(&mut self, result: Result<(Config, Library), ConfigError>) {
        match result {
            Ok((config, library)) => {
                self.apply(config, library);
                self.metrics.reloaded("config", Reloaded::Applied);
            }
            Err(error) => {
                self.metrics.reloaded("config", Reloaded::Rejected);
                log::error!(error = error.to_string().as_str(); "configuration not usable; the last one stays in force");
            }
        }
    }

    fn apply(&mut self, config: Config, library: Library) {
        let library = Arc::new(library);
        self.rules.send_replace(Arc::new(library.key_rules()));
        self.state.set_library(library, config.logs.scores);
        // A mode set on the admin port stays until the file says something new.
        if config.mode != self.config.mode {
            self.state.set_mode(config.mode);
        }
        for key in needs_restart(&self.config, &config) {
            log::warn!(key = key; "changed, but only applied by a restart");
        }
        let state = self.state.get();
        log::info!(
            mode = mode_name(state.catalog.mode),
            models = state.catalog.models.len(),
            digest = state.catalog.digest.as_str();
            "configuration applied"
        );
        self.config = config;
    }
}

/// Loads everything that can be applied. Also says which files to watch from now on, if the configuration could be
/// read at all: a file that it names may turn up later.
fn attempt(file: PathBuf, known: &Library) -> (Option<Stamps>, Result<(Config, Library), ConfigError>) {
    let config = match config::load(&file) {
        Ok(config) => config,
        Err(error) => return (None, Err(error)),
    };
    let stamps = Stamps::of(catalog::files(&config, &file));
    let library = Library::load(&config, &file, known);
    (Some(stamps), library.map(|library| (config, library)))
}

fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let same_logs = old.logs.level == new.logs.level && old.logs.beat_every == new.logs.beat_every;
    let parts = [
        ("pick", old.pick == new.pick),
        ("assets", old.assets == new.assets),
        ("prompts", old.prompts == new.prompts),
        ("admin", old.admin == new.admin),
        ("endpoints", old.endpoints == new.endpoints),
        ("index", old.index == new.index),
        ("logs", same_logs),
        ("central", old.central == new.central),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_needs_a_restart_is_named_and_what_does_not_is_not() {
        let text = "seed: 1f\nmodels: [{name: m, block_tokens: 16, tokenizer: t}]\nendpoints: {file: e}\n";
        let parse = |more: &str| config::parse(&format!("{text}{more}"), Path::new("c")).unwrap();
        let applied = parse("mode: off\nlogs: {scores: false}\n");
        assert!(needs_restart(&parse(""), &applied).is_empty());
        let waiting = parse("logs: {level: warn}\nindex: {blocks_max: 7}\nadmin: {listen: '127.0.0.1:1'}\n");
        assert_eq!(needs_restart(&parse(""), &waiting), ["admin", "index", "logs"]);
    }
}
