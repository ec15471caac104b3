//! Prompt to block keys.
//!
//! Bytes in, values out: no I/O, no clock, no threads, nothing of Envoy. The same code runs in the filter (Wasm), in
//! the indexer sidecar and in the simulator (native), so that all of them mean the same by a key.
//!
//! The way of the data: [`request`] reads an HTTP body, [`template`] renders a chat to text, [`tokenizer`] turns text
//! into token ids, [`block`] cuts ids into blocks and chains their keys. [`model`] holds one model's assets and takes
//! a request through all of it. [`definition`] is what the sidecar tells the filter about its models; [`renderer`] knows the
//! models whose chats no template renders; [`pass`] names
//! every reason for which a prompt is not keyed; [`fuzz`] says what must hold for any input.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod block;
pub mod definition;
pub mod fuzz;
pub mod model;
pub mod pass;
pub mod renderer;
pub mod request;
pub mod template;
pub mod tokenizer;
