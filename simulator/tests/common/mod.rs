//! What several of the tests need.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod pod;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use warmpath_simulator::engine::{
    BlockHasher, EngineConfig, ExtraForm, HashAlgorithm, Limits, StepTime, hash::NONE_HASH_SEED,
};

/// A file beside the workspace, `None` (and a line that says "skipped") where it is missing.
pub fn shared(name: &str) -> Option<serde_json::Value> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let root = std::env::var_os("WARMPATH_SHARED").map_or_else(beside, PathBuf::from);
    let path = root.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).expect("a JSON file")),
        Err(_) => {
            println!("skipped: {} is not there", path.display());
            None
        }
    }
}

pub fn hasher(algorithm: HashAlgorithm, seed: &str) -> BlockHasher {
    BlockHasher::new(algorithm, ExtraForm::Tagged, algorithm.none_hash(seed))
}

/// A small engine: blocks of 4 tokens.
pub fn engine(gpu_blocks: usize, limits: Limits) -> EngineConfig {
    EngineConfig {
        block_size: 4,
        gpu_blocks,
        limits,
        step_time: StepTime::QWEN3_32B_2XH100,
        hasher: hasher(HashAlgorithm::Xxhash, NONE_HASH_SEED),
        events: true,
        output_vocabulary: Arc::from([0, 1, 2]),
    }
}
