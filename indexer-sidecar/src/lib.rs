//! The indexer sidecar.
