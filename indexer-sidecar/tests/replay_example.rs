//! `cargo xtask replay` end to end: capture files in, a report out.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

/// The example, which cargo builds with the tests; none: only this test was asked for.
fn example() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent()?.parent()?.join("examples/replay");
    if !example.exists() {
        println!("skipped: {} is not built", example.display());
        return None;
    }
    Some(example)
}

fn batch(seq: u64, event: Value) -> [String; 3] {
    let payload = rmp_serde::to_vec(&json!([seq as f64, [event], 0])).unwrap();
    [hex::encode("topic"), hex::encode(seq.to_be_bytes()), hex::encode(payload)]
}

fn store(seq: u64, parent: Option<u64>, hashes: &[u64]) -> [String; 3] {
    let tokens: Vec<u64> = hashes.iter().flat_map(|hash| [*hash; 16]).collect();
    let event = json!({
        "type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens,
        "block_size": 16, "medium": "GPU",
    });
    batch(seq, event)
}

/// Plays the files with these further arguments; the one stream of the report.
fn play(example: &PathBuf, files: &[(&str, Value)], arguments: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(example);
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        command.arg(path);
    }
    let out = dir.path().join("out.json");
    let output = command.args(arguments).arg("--json").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("blocks held") && table.contains("live.json"), "{table}");
    report["streams"][0].clone()
}

#[test]
fn a_replay_fills_the_hole_of_the_live_capture_and_the_cap_holds() {
    let Some(example) = example() else { return };
    let batches = [store(0, None, &[1, 2]), store(1, Some(2), &[3]), store(2, Some(3), &[4])];
    let odd = batch(3, json!({"type": "KVCacheCreated"}));
    // A hit that is reported as a store.
    let again = store(4, None, &[1, 2, 3]);
    let message = |frames: &[String; 3]| json!({"endpoint": "tcp://pod:5557", "frames_hex": frames});
    let live =
        json!({"messages": [message(&batches[0]), message(&batches[2]), message(&odd), message(&again)]});
    let reply = |frames: &[String; 3]| json!(["", frames[0], frames[1], frames[2]]);
    let end = json!(["", "", hex::encode(u64::MAX.to_be_bytes()), ""]);
    let all = batches.iter().chain([&odd, &again]).map(reply).chain([end]).collect::<Vec<_>>();
    let files = [("live.json", live), ("replay_live.json", json!({"reply_messages": all}))];

    let stream = play(&example, &files, &[]);
    assert_eq!((&stream["trust"], &stream["blocks"]), (&json!("live"), &json!(4)));
    assert_eq!(stream["skipped_events"], json!({"unknown_type": 1}));
    assert_eq!(stream["groups"][0]["admitted"], 7);
    let stream = play(&example, &files, &["--num-gpu-blocks", "4"]);
    assert_eq!((&stream["trust"], &stream["blocks"]), (&json!("live"), &json!(4)));
    assert_eq!(stream["groups"][0]["skipped"], json!({"over_capacity": 3}));
}
