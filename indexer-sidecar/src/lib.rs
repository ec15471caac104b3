//! The indexer sidecar: follows the KV-cache events of every vLLM pod and answers which pod holds a prompt.
//!
//! It is the only process of the project with threads and sockets. It never sees a prompt: block keys come in, an
//! order of endpoints goes out. It is not a proxy, and traffic does not depend on it: when it is gone, Envoy
//! balances as it always did.
//!
//! Inwards: [`endpoints`] says which pods there are, [`events`] follows their streams into the [`index`]. Outwards:
//! [`pick`] answers from the index and the [`load`], [`assets`] hands the [`catalog`] to the filters, [`admin`] shows
//! and switches. [`config`] is read once and followed by [`reload`]; [`sidecar`] puts all of it together.

pub mod admin;
pub mod assets;
pub mod catalog;
pub mod config;
pub mod endpoints;
pub mod events;
pub mod files;
pub mod index;
pub mod listeners;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod pick;
pub mod reload;
pub mod sidecar;
pub mod state;
