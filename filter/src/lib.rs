//! The proxy-wasm filter: turns a prompt into block keys inside Envoy, asks the indexer sidecar once, and names the
//! endpoints where Envoy's load balancer looks for them.
//!
//! It is not a load balancer, reads no response body, and changes nothing but two request headers and filter state.
//! It never makes a request fail: whatever goes wrong, the request goes on as if the filter were not there, and the
//! reason is counted ([`outcome`]).
//!
//! The way of the data: Envoy calls `envoy.rs` (Wasm only), which hands each callback to a [`stream::Stream`] (one per
//! request, one phase enum) or to the [`root::Root`] (one per VM: configuration, clock tick, asset fetches, reports).
//! Both reach Envoy only through the [`host::Host`] trait, so everything but `envoy.rs` runs and is tested natively.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the plugin configuration, checked |
//! | [`host`] | the host calls that are used, as Results |
//! | [`root`] | what happens outside requests: configure, tick, answers to the VM's own calls |
//! | [`vm`] | what all requests of one VM share |
//! | [`catalog`] | the models of the sidecar's catalog that are loaded |
//! | `engine` | from an asset's bytes to a tokenizer |
//! | [`fetch`] | catalog and assets from the sidecar: fetch, check, load, swap |
//! | [`stream`] | one request: its phases and transitions |
//! | [`clock`] | how often the root's clock turns |
//! | [`line`] | the stream to the sidecar, and who waits for an answer on it |
//! | [`pick`] | what is asked on it, and the answer |
//! | [`breaker`] | stops asking a sidecar that does not answer |
//! | [`report`] | what became of picks: a bounded queue |
//! | [`outcome`] | every reason for which a request is not steered |
//! | [`metrics`] | the counters and histograms on Envoy's `/stats/prometheus` |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod breaker;
pub mod catalog;
pub mod clock;
pub mod config;
mod engine;
#[cfg(target_arch = "wasm32")]
mod envoy;
pub mod fetch;
pub mod host;
pub mod line;
pub mod metrics;
pub mod outcome;
pub mod pick;
pub mod report;
pub mod root;
pub mod stream;
pub mod vm;

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;

/// Version and git hash, as logged when a VM starts.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("WARMPATH_GIT_HASH"), ")");
