//! Boots the real thing on loopback: Envoy with the shipped configuration and the filter, the sidecar, and pods.
//!
//! For tests, demo and benchmarks. It is not a mock: every part is the program that an operator runs, started as a child
//! process on free ports in a directory of its own, and killed by its pid when its owner is dropped. What differs
//! from the shipped Envoy files is replaced in them here (addresses, paths, ports); there is no second copy.

pub mod client;
pub mod envoy;
pub mod load;
pub mod metrics;
pub mod model;
pub mod pod;
pub mod process;
pub mod programs;
pub mod sidecar;
pub mod stack;
pub mod vllm;

pub use client::{Client, Response};
pub use envoy::{Envoy, Steer};
pub use metrics::Metrics;
pub use model::ModelFiles;
pub use pod::{Endpoint, Pod, PodOptions};
pub use process::Process;
pub use programs::Programs;
pub use sidecar::Sidecar;
pub use stack::{Stack, StackBuilder};
