//! The program as it is started: its line on standard output, its logs, its end, its errors.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{config, endpoints, pick, request, write};
use warmpath_proto::v1::PickRequest;
use warmpath_proto::v1::indexer_client::IndexerClient;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_indexer-sidecar"))
}

/// Ends the child if the test fails before it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(child: &Child) {
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_logs_every_pick_and_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config["logs"] = json!({"beat_every": "100ms"});
    write(&dir.path().join("config.json"), &config);
    write(&dir.path().join("endpoints.yaml"), &endpoints(&["127.0.0.1:8001"]));
    let stderr = dir.path().join("stderr");
    let mut child = Running(
        program()
            .arg("--config")
            .arg(dir.path().join("config.json"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(listening["msg"], "listening");
    let mut client =
        IndexerClient::connect(format!("http://{}", listening["pick_tcp"].as_str().unwrap())).await.unwrap();
    let start = Instant::now();
    let asked = || PickRequest { request_id: "request-1".into(), ..request() };
    while pick(&mut client, asked()).await.endpoints.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "the endpoint is never listed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while !std::fs::read_to_string(&stderr).unwrap().contains("metrics beat") {
        assert!(start.elapsed() < Duration::from_secs(60), "no beat");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(client);
    terminate(&child.0);
    assert!(child.0.wait().unwrap().success());
    let logs = std::fs::read_to_string(&stderr).unwrap();
    assert!(!dir.path().join("pick.sock").exists());
    let find = |needle: &str| -> Value {
        let line = logs
            .lines()
            .find(|line| line.contains(needle))
            .unwrap_or_else(|| panic!("no {needle} in {logs}"));
        serde_json::from_str(line).unwrap()
    };
    let score = find("\"msg\":\"Calculated score\"");
    assert_eq!(score["x-request-id"], "request-1");
    assert_eq!((&score["model"], &score["endpoint"]), (&json!("demo"), &json!("127.0.0.1:8001")));
    assert_eq!((&score["score"], &score["match_blocks"]), (&json!(0.0), &json!(0)));
    let beat = find("\"msg\":\"metrics beat\"");
    for key in ["admissions", "evictions", "lookups", "hits", "latency_mean_us"] {
        assert!(beat[key].is_number(), "{key} in {beat}");
    }
}

fn check(file: &Path) -> (bool, String) {
    let output = program().arg("--check-config").arg(file).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_configuration_is_checked_with_all_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let mut config = config();
    write(&file, &config);
    let (ok, error) = check(&file);
    assert!(!ok && error.contains("endpoints.yaml: cannot be read"), "{error}");
    write(&dir.path().join("endpoints.yaml"), &endpoints(&["127.0.0.1:8001"]));
    assert_eq!(check(&file), (true, String::new()));
    std::fs::write(dir.path().join("broken.json"), "{}").unwrap();
    config["models"][0]["tokenizer"] = json!("broken.json");
    write(&file, &config);
    let (ok, error) = check(&file);
    assert!(!ok && error.contains("broken.json: model.vocab: is no vocabulary"), "{error}");
}
