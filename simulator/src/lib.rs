//! A vLLM look-alike: an engine model behind vLLM's HTTP API, KV events and metrics.
//!
//! It caches prefixes by vLLM's rules with vLLM's own block hashes, publishes the same events on the same wire, and
//! takes as long for a step as the model in [`engine::step_time`] says. It computes no attention and has no weights:
//! output is made up. It shares tokenizer and chat template with `warmpath-core`, and nothing of its matching.
//!
//! The way of a request: `server` reads it, [`model`] makes token ids, [`driver`] feeds the [`engine`] and hands its
//! tokens back; [`publisher`] sends the engine's events in the layout of [`wire`]. [`pod`] ties them together;
//! [`engine`] alone can be driven in virtual time.

pub mod config;
pub mod driver;
pub mod engine;
pub mod model;
pub mod pod;
pub mod publisher;
mod server;
pub mod stats;
pub mod wire;

pub use config::{NoneHash, PodConfig};
pub use pod::{Pod, PodHandle};
