//! Captured frames of real engines, from `WARMPATH_SHARED` (default: `../shared` beside the workspace root).
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod pod;

use std::path::PathBuf;

use indexer_sidecar::events::event::EngineHash;
use serde_json::Value as Json;

/// Live captures: one file is one publisher from its first to its last batch.
pub(crate) const CAPTURES: [&str; 4] = [
    "a_v0.32_default.json",
    "b_v0.32_evict_24blocks.json",
    "c_v0.32_lora_cbor_bytes_seed0.json",
    "g_v0.23_bs16_48blocks_scen_a.json",
];

/// One message as it was on the wire.
pub(crate) struct Message {
    pub(crate) topic: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) payload: Vec<u8>,
    /// What the capturing program's decoder made of the payload.
    pub(crate) decoded: Json,
}

/// A file of `kv-events`; `None` (and a line that says so) if it is not there.
pub(crate) fn shared_json(name: &str) -> Option<Json> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let root = std::env::var_os("WARMPATH_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = root.join("kv-events").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// The messages of a capture.
pub(crate) fn captured(name: &str) -> Option<Vec<Message>> {
    let file = shared_json(name)?;
    let messages = file["messages"].as_array().unwrap().iter();
    Some(messages.map(message).collect())
}

fn message(message: &Json) -> Message {
    let frame = |index: usize| hex::decode(message["frames_hex"][index].as_str().unwrap()).unwrap();
    Message {
        topic: frame(0),
        seq: u64::from_be_bytes(frame(1).try_into().unwrap()),
        payload: frame(2),
        decoded: message["decoded"].clone(),
    }
}

/// A hash as the capturing program wrote it.
pub(crate) fn hash(value: &Json) -> EngineHash {
    match value.get("__bytes_hex__") {
        Some(digest) => EngineHash::from_digest(&hex::decode(digest.as_str().unwrap()).unwrap()).unwrap(),
        None => EngineHash(u128::from(value.as_u64().unwrap())),
    }
}
