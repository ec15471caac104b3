//! What is said of folders of recorded answers: differences, what is missing, what is skipped.
#![cfg(not(target_arch = "wasm32"))]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use warmpath_oracle::golden::{Golden, MAX_MODEL_LEN, Report};

fn run(directory: &Path, tokenizers: &Path) -> anyhow::Result<Report> {
    Golden { directory, tokenizers, max_model_len: MAX_MODEL_LEN }.run()
}

fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/data/golden")
}

#[track_caller]
fn counts(report: &Report, equal: usize, different: usize, skipped: usize) {
    let found = (report.equal(), report.different(), report.skipped());
    assert_eq!(found, (equal, different, skipped), "{}", report.text());
}

/// A folder with one row of tokens, changed.
fn folder_with(row: &serde_json::Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tokens")).unwrap();
    fs::write(folder.path().join("tokens/qwen.jsonl"), format!("{row}\n")).unwrap();
    folder
}

#[test]
fn wrong_ids_a_wrong_sha1_and_a_wrong_count_are_differences() {
    let tokenizers = small().join("tokenizers");
    let right = json!({"id": 0, "text": "a.", "ids": [64, 13], "n": 2, "sha1": "48e1d38e45e9e1cd5bfd6eae4b5a7d6a1a1a1a1a"});
    for (key, value, different) in [
        ("sha1", json!(null), 0),
        ("ids", json!([64, 14]), 1),
        ("sha1", json!("0000"), 1),
        ("n", json!(3), 1),
        ("ids_sp", json!([1, 64, 13]), 1),
    ] {
        let mut row = right.clone();
        row["sha1"] = json!(null);
        row[key] = value;
        let report = run(folder_with(&row).path(), &tokenizers).unwrap();
        assert_eq!(report.different(), different, "{row}: {}", report.text());
    }
}

#[test]
fn what_is_missing_is_skipped_with_its_reason_or_an_error() {
    let row = json!({"id": 0, "text": "a", "ids": [64]});
    let empty = tempfile::tempdir().unwrap();
    let report = run(folder_with(&row).path(), empty.path()).unwrap();
    counts(&report, 0, 0, 1);
    assert!(report.text().contains("has no qwen.json"), "{}", report.text());
    let error = run(empty.path(), empty.path()).err().unwrap().to_string();
    assert!(error.contains("has no case"), "{error}");
}

#[test]
fn a_folder_of_renders_and_prompts_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let template = "{% for m in messages %}<{{ m.content }}>{% endfor %}";
    put("templates/t.jinja", template.to_owned());
    let request = |content: &str| json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    let conversations =
        [json!({"id": "one", "request": request("x")}), json!({"id": "bad", "request": {"messages": []}})];
    put("conversations.jsonl", conversations.map(|row| row.to_string()).join("\n"));
    let rows = [
        json!({"case": "one", "template": "t", "status": 200, "prompt": "<x>"}),
        json!({"case": "bad", "template": "t", "status": 400, "error": {"message": "no"}}),
        json!({"case": "one", "template": "t", "status": 200, "prompt": "<y>"}),
        json!({"case": "gone", "template": "t", "status": 200, "prompt": "<y>"}),
        json!({"case": "one", "template": "none", "status": 200, "prompt": "<x>"}),
    ];
    put("renders/t.jsonl", rows.map(|row| row.to_string()).join("\n"));
    put("prompts/qwen/chat_template.jinja", template.to_owned());
    let row = |path: &str, body: serde_json::Value, status: u16, ids: &[u32]| json!({"id": path, "endpoint": path, "body": body, "status": status, "token_ids": [ids]});
    let rows = [
        row("/v1/chat/completions", request("a"), 200, &[27, 64, 29]),
        row("/v1/completions", json!({"model": "m", "prompt": "a."}), 200, &[64, 13]),
        row("/v1/completions", json!({"model": "m", "prompt": "a."}), 200, &[64, 14]),
        row("/v1/completions", json!({"model": "m", "prompt": ""}), 400, &[]),
        row("/v1/completions", json!({"model": "m", "prompt": "a"}), 400, &[]),
        row("/v1/completions", json!({"model": "other", "prompt": "a"}), 404, &[]),
    ];
    put("prompts/qwen.jsonl", rows.map(|row| row.to_string()).join("\n"));
    let report = run(folder.path(), &small().join("tokenizers")).unwrap();
    println!("{}", report.text());
    let by_file: Vec<(&str, usize, usize, usize)> = report
        .files
        .iter()
        .map(|file| (file.file.as_str(), file.cases(), file.equal, file.different.len()))
        .collect();
    assert_eq!(by_file, [("renders/t", 5, 2, 1), ("prompts/qwen", 6, 4, 2)], "{}", report.text());
}
