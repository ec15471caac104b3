//! Support of the tests in `tests/`: what an operator applies, read as Istio reads it, an upstream that records, and an
//! asset port that spoils. No
//! tests of the project's own behaviour live here, and no processes: the harness crate boots those.

pub mod assets;
pub mod istio;
pub mod recorder;
