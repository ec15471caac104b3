//! Support of the tests in `tests/`: what an operator applies, read as Istio reads it, and an upstream that records. No
//! tests of the project's own behaviour live here, and no processes: the harness crate boots those.

pub mod istio;
pub mod recorder;
