//! Support of the tests in `tests/`: what an operator applies, read as Istio reads it. Nothing here is a test of its own
//! subject; the harness crate boots the processes.

pub mod istio;
