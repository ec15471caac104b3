//! What is in force: mode, models and their files. Replaced as a whole, so that readers always see one state.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use warmpath_core::definition::{Catalog, Mode};

use crate::catalog::Library;

/// One consistent state.
#[derive(Clone, Debug)]
pub struct State {
    /// What filters are told.
    pub catalog: Catalog,
    /// The catalog as it goes over the wire.
    pub catalog_json: Bytes,
    /// Models and their files.
    pub library: Arc<Library>,
    /// Whether every listed endpoint of every pick is logged.
    pub log_scores: bool,
}

impl State {
    fn new(library: Arc<Library>, mode: Mode, log_scores: bool) -> Self {
        let catalog = library.catalog(mode);
        // The catalog has no map with keys other than strings: writing it cannot fail.
        let catalog_json = serde_json::to_vec(&catalog).unwrap_or_default().into();
        Self { catalog, catalog_json, library, log_scores }
    }
}

/// The one place where the state is changed.
#[derive(Clone, Debug)]
pub struct StateHandle(watch::Sender<Arc<State>>);

impl StateHandle {
    /// A first state.
    pub fn new(library: Library, mode: Mode, log_scores: bool) -> Self {
        Self(watch::Sender::new(Arc::new(State::new(Arc::new(library), mode, log_scores))))
    }

    /// The state of now.
    pub fn get(&self) -> Arc<State> {
        self.0.borrow().clone()
    }

    /// Puts a mode in force.
    pub fn set_mode(&self, mode: Mode) {
        self.0.send_modify(|state| {
            *state = Arc::new(State::new(state.library.clone(), mode, state.log_scores));
        });
    }

    /// Puts models and log settings in force.
    pub fn set_library(&self, library: Arc<Library>, log_scores: bool) {
        self.0.send_modify(|state| {
            *state = Arc::new(State::new(library, state.catalog.mode, log_scores));
        });
    }
}
