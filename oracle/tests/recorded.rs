//! Recorded answers: the small folder of this repository, and those of vLLM where they are. `cargo xtask test` runs them
//! natively and in Wasm.

use std::path::{Path, PathBuf};

use warmpath_oracle::golden::{Golden, MAX_MODEL_LEN, Report};

fn run(directory: &Path, tokenizers: &Path) -> Report {
    Golden { directory, tokenizers, max_model_len: MAX_MODEL_LEN }.run().unwrap()
}

/// The workspace's directory. Without `..`, which WASI does not follow.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn every_kind_of_tokenizer_makes_the_recorded_ids() {
    let small = workspace().join("core/tests/data/golden");
    let report = run(&small, &small.join("tokenizers"));
    println!("{}", report.text());
    let counts = (report.equal(), report.different(), report.skipped());
    assert_eq!(counts, (8 * 64, 0, 0), "{}", report.text());
}

/// `WARMPATH_SHARED`, else `shared` beside the workspace.
#[test]
fn recorded_answers_of_vllm_are_ours() {
    let root = std::env::var_os("WARMPATH_SHARED")
        .map_or_else(|| workspace().with_file_name("shared"), PathBuf::from);
    let golden = root.join("golden");
    if !golden.is_dir() {
        println!("skipped: {} is missing", golden.display());
        return;
    }
    let report = run(&golden, &root.join("tokenizers"));
    println!("{}", report.text());
    assert_eq!(report.different(), 0, "{}", report.text());
    assert!(report.equal() >= 6_900, "{}", report.text());
}
