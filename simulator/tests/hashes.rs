//! Block hashes against those that real vLLM servers published.

mod common;

use std::collections::HashMap;

use serde_json::Value;
use warmpath_simulator::engine::{BlockHasher, Digest, HashAlgorithm};

fn hex(digest: &Digest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn first_parents_are_those_of_vllm() {
    let default = HashAlgorithm::Sha256.none_hash("vllm-none-hash");
    assert_eq!(hex(&default), "066b1e8987e027138e98701c46128929378935f9b6cd1549105ae6b4f0d71198");
    let cbor = HashAlgorithm::Sha256Cbor.none_hash("0");
    assert_eq!(hex(&cbor), "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e");
}

#[test]
fn the_first_block_of_a_captured_prompt() {
    // Captured from vLLM 0.32.0: token ids 100 to 131, block size 32.
    let mut hasher = common::hasher(HashAlgorithm::Sha256, "vllm-none-hash");
    let first = hasher.block(None, 100..132, None, None);
    assert_eq!(first.low64(), 702_757_842_669_265_042);
    let second = hasher.block(Some(&first), 132..164, None, None);
    assert_eq!(second.low64(), 12_727_516_518_541_667_169);
}

#[test]
fn every_hash_of_the_default_capture() {
    let checked = check("kv-events/a_v0.32_default.json", HashAlgorithm::Sha256, "vllm-none-hash");
    assert!(checked.is_none_or(|checked| checked >= 100), "only {checked:?} hashes");
}

#[test]
fn every_hash_of_the_eviction_capture() {
    let checked = check("kv-events/b_v0.32_evict_24blocks.json", HashAlgorithm::Sha256, "vllm-none-hash");
    assert!(checked.is_none_or(|checked| checked >= 50), "only {checked:?} hashes");
}

/// Without those of LoRA requests: the adapter's path is part of the hash and not of the capture.
#[test]
fn every_hash_of_the_cbor_capture_without_lora() {
    let checked = check("kv-events/c_v0.32_lora_cbor_bytes_seed0.json", HashAlgorithm::Sha256Cbor, "0");
    assert!(checked.is_none_or(|checked| checked >= 5), "only {checked:?} hashes");
}

/// Recomputes all stored hashes of a capture; how many, or none where the file is missing.
fn check(file: &str, algorithm: HashAlgorithm, seed: &str) -> Option<usize> {
    let capture = common::shared(file)?;
    let mut hasher = common::hasher(algorithm, seed);
    let mut digests = HashMap::new();
    let mut checked = 0;
    for message in capture["messages"].as_array().expect("messages") {
        for event in message["decoded"][1].as_array().expect("events") {
            if event["type"] == "BlockStored" && event["lora_name"].is_null() {
                checked += check_stored(event, &mut hasher, &mut digests);
            }
        }
    }
    println!("{file}: {checked} hashes");
    Some(checked)
}

fn check_stored(event: &Value, hasher: &mut BlockHasher, digests: &mut HashMap<String, Digest>) -> usize {
    let name = |hash: &Value| match &hash["__bytes_hex__"] {
        Value::String(hex) => hex.clone(),
        _ => hash.to_string(),
    };
    let block_size = event["block_size"].as_u64().expect("block_size") as usize;
    let tokens: Vec<u32> = event["token_ids"]
        .as_array()
        .expect("ids")
        .iter()
        .map(|id| id.as_u64().expect("id") as u32)
        .collect();
    let salt = event["extra_keys"][0][0].as_str();
    let mut parent = match &event["parent_block_hash"] {
        Value::Null => None,
        hash => Some(*digests.get(&name(hash)).expect("a parent that was stored")),
    };
    let hashes = event["block_hashes"].as_array().expect("hashes");
    for (hash, tokens) in hashes.iter().zip(tokens.chunks_exact(block_size)) {
        let digest = hasher.block(parent.as_ref(), tokens.iter().copied(), None, salt);
        let ours = if hash.is_object() { hex(&digest) } else { digest.low64().to_string() };
        assert_eq!(ours, name(hash), "{event}");
        digests.insert(name(hash), digest);
        parent = Some(digest);
    }
    hashes.len()
}
