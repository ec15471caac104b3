//! Where the pods are: the endpoints file, its DNS names, and the set of endpoints they come to.
//!
//! [`file`] reads the endpoints file into checked entries; [`resolve`] turns DNS names into addresses and remembers
//! the last answer of each; [`follow`] watches both and publishes an [`EndpointSet`] whenever it changes.

use std::sync::Arc;

pub mod file;
pub mod follow;
pub mod resolve;

/// One address that Envoy can send requests to, and where its KV-cache events come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// "ip:port", exactly as Envoy's cluster knows the host.
    pub address: Arc<str>,
    /// Name of the model definition that it serves.
    pub model: Arc<str>,
    /// Its event sources, one per data-parallel rank, rank 0 first.
    pub ranks: Vec<RankSource>,
}

/// Event source of one data-parallel rank.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RankSource {
    /// The data-parallel rank, from 0.
    pub rank: u32,
    /// "ip:port" of its PUB socket.
    pub events: String,
    /// "ip:port" of its replay socket; `None`: the engine has none.
    pub replay: Option<String>,
    /// Blocks that its GPU has memory for, where the operator says it.
    pub num_gpu_blocks: Option<u64>,
    /// "ip:port" of the HTTP server whose `/metrics` is asked for that otherwise; `None`: nobody is asked.
    pub metrics: Option<String>,
}

/// All endpoints, each address once, in the order of the file.
pub type EndpointSet = Vec<Endpoint>;
