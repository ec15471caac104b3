//! Core against what is known to be right.
//!
//! [`golden`] runs folders of recorded answers of vLLM, [`differ`] compares our tokenizer runtime with the crate
//! `tokenizers` over generated strings. `cargo xtask golden` and `cargo xtask differ` start the program of this crate,
//! natively or as a WASI module in Node; the tests of this crate call the same functions. Not here: expectations that
//! we wrote ourselves (those are tests of `core`), and anything that measures time.

pub mod differ;
pub mod engine;
pub mod files;
pub mod golden;
