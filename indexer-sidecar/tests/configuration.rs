//! The configuration file: the shipped examples, and what is said about mistakes.

mod support;

use std::path::Path;

use indexer_sidecar::config::{self, Config};
use indexer_sidecar::endpoints::follow;
use serde_json::{Value, json};
use warmpath_core::definition::Mode;

fn parse(config: &Value) -> Result<Config, String> {
    config::parse(&config.to_string(), Path::new("/etc/warmpath/config.yaml"))
        .map_err(|error| error.to_string())
}

#[test]
fn the_examples_are_valid_and_state_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml");
    let example = config::load(&file).unwrap();
    let mut least = json!({"seed": "0123456789abcdef", "models": [], "endpoints": {"file": "e.yaml"}});
    least["models"] = json!([{"name": "demo", "block_tokens": 64, "tokenizer": "tokenizer.json"}]);
    let least = parse(&least).unwrap();
    assert_eq!(example.mode, least.mode);
    assert_eq!(example.pick, least.pick);
    assert_eq!(example.assets, least.assets);
    assert_eq!(example.admin, least.admin);
    assert_eq!(example.index, least.index);
    assert_eq!(example.logs, least.logs);
    assert_eq!(example.endpoints.resolve_every, least.endpoints.resolve_every);
    assert_eq!(example.models[0].served_names(), least.models[0].served_names());
    assert_eq!(example.models[0].cache_salt, least.models[0].cache_salt);
    assert_eq!(example.seed(&file), Ok(0x0123_4567_89ab_cdef));
    assert_eq!(follow::read(&example.endpoints.file).unwrap().len(), 3);
}

#[test]
fn yaml_reads_off_as_a_mode_and_paths_start_at_the_file() {
    let text = "mode: off\nseed: 1f\nmodels: [{name: m, block_tokens: 16, tokenizer: t.json}]\nendpoints: {file: e}\n\
                assets: {file_bytes_max: 2MiB}\nlogs: {beat_every: 1m, level: warn}\npick: {unix: null}\n";
    let config = config::parse(text, Path::new("/etc/warmpath/config.yaml")).unwrap();
    assert_eq!(config.mode, Mode::Off);
    assert_eq!(config.models[0].tokenizer, Path::new("/etc/warmpath/t.json"));
    assert_eq!(config.endpoints.file, Path::new("/etc/warmpath/e"));
    assert_eq!(config.assets.file_bytes_max.as_u64(), 2 << 20);
    assert_eq!(config.logs.beat_every.as_secs(), 60);
    assert_eq!((&config.pick.unix, config.seed(Path::new(""))), (&None, Ok(0x1f)));
}

#[test]
fn mistakes_are_named_with_file_path_and_remedy() {
    let cases: [(&str, Value, &str); 17] = [
        ("/modle", json!("off"), "modle: unknown field `modle`, expected one of mode, "),
        ("/mode", json!("on"), "mode: unknown variant `on`, expected one of off, observe, steer"),
        ("/pick", json!({"unix": null, "tcp": null}), "pick: both `unix` and `tcp` are null"),
        ("/pick/tcp", json!("localhost"), "pick.tcp: invalid socket address"),
        ("/pick/keys_max", json!(0), "pick.keys_max: must be at least 1"),
        ("/assets/file_bytes_max", json!("1 Apple"), "assets.file_bytes_max: "),
        ("/seed", json!("xyz"), "seed: is not 1 to 16 hex digits"),
        ("/seed", Value::Null, "seed: missing: give `seed`"),
        ("/seed_file", json!("seed"), "seed_file: `seed` is there as well"),
        ("/models", json!([]), "models: there are 0"),
        ("/models/0/block_tokens", json!(0), "models[0].block_tokens: must be the engine's block size"),
        ("/models/0/blocktokens", json!(1), "models[0].blocktokens: unknown field"),
        (
            "/models/0/served_names",
            json!(["a", "a"]),
            "models[0].served_names: \"a\" is served by models[0] already",
        ),
        ("/endpoints/resolve_every", json!("5"), "endpoints.resolve_every: "),
        ("/endpoints/resolve_every", json!("1ms"), "endpoints.resolve_every: must be at least 100ms"),
        (
            "/central",
            json!({"bind": "0.0.0.0:1", "topics": {}}),
            "central.bind: \"0.0.0.0:1\" is no ZMQ address",
        ),
        (
            "/central",
            json!({"bind": "tcp://*:1", "topics": {"t": "pod"}}),
            "central.topics.t: \"pod\" is no address",
        ),
    ];
    for (pointer, value, expected) in cases {
        let mut config = support::config();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        let error = parse(&config).unwrap_err();
        assert!(error.starts_with(&format!("/etc/warmpath/config.yaml: {expected}")), "{pointer}: {error}");
        assert!(!error.contains("0123456789abcdef"), "the seed is in the error: {error}");
    }
}

#[test]
fn a_seed_file_may_end_in_a_line_break() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("seed"), "00ff\n").unwrap();
    let mut config = support::config();
    config.as_object_mut().unwrap().remove("seed");
    config["seed_file"] = json!("seed");
    let file = dir.path().join("config.json");
    let parsed = config::parse(&config.to_string(), &file).unwrap();
    assert_eq!(parsed.seed(&file), Ok(0xff));
    std::fs::write(dir.path().join("seed"), "secret").unwrap();
    let error = parsed.seed(&file).unwrap_err().to_string();
    assert!(error.contains("seed: is not 1 to 16 hex digits") && !error.contains("secret"), "{error}");
}
