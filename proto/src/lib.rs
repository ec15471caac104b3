//! The gRPC contract between the filter and the indexer sidecar, as `proto/warmpath/v1/indexer.proto` states it.
//!
//! Messages are for both sides and compile to Wasm; service code (tonic) comes with the feature `service` and is
//! native only. There is no logic here.

/// Version 1 of the contract.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from the commented .proto file")]
    include!(concat!(env!("OUT_DIR"), "/warmpath.v1.rs"));

    /// Full name of the service, as gRPC health checks and Envoy's callout spell it.
    pub const INDEXER_SERVICE: &str = "warmpath.v1.Indexer";
}
