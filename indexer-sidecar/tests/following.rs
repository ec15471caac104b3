//! What changes while the sidecar runs: configuration, endpoints, DNS names; and its end.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Sidecar, config, endpoints, http, model_file, request, write};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use warmpath_proto::v1::INDEXER_SERVICE;

const PODS: [&str; 2] = ["127.0.0.1:8001", "127.0.0.1:8002"];

#[tokio::test]
async fn a_new_configuration_is_applied_and_a_bad_one_is_not() {
    let mut changed = config();
    let sidecar = Sidecar::boot(&changed, Some(&endpoints(&PODS))).await;
    let file = sidecar.dir.path().join("config.json");
    changed["mode"] = json!("observe");
    changed["models"][0]["lora_adapters"] = json!(["adapter"]);
    write(&file, &changed);
    sidecar.wait_for_catalog("/mode", &json!("observe")).await;
    sidecar.wait_for_catalog("/models/0/lora_adapters/0", &json!("adapter")).await;
    let good = sidecar.catalog().await;

    changed["modle"] = json!("off");
    write(&file, &changed);
    sidecar.wait_for_metric("warmpath_indexer_reloads_total{file=\"config\",result=\"rejected\"} 1").await;
    assert_eq!(sidecar.catalog().await, good);
}

#[tokio::test]
async fn a_changed_tokenizer_is_a_new_asset_and_leaves_a_switched_mode_alone() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = dir.path().join("tokenizer.json");
    let text = std::fs::read_to_string(model_file("tokenizer.json")).unwrap();
    std::fs::write(&tokenizer, &text).unwrap();
    let mut config = config();
    config["models"][0]["tokenizer"] = json!(tokenizer);
    let sidecar = Sidecar::boot(&config, Some(&endpoints(&PODS))).await;
    sidecar.admin("PUT", "/v1/mode", "{\"mode\": \"observe\"}").await;
    let before = sidecar.catalog().await;

    let asset =
        |catalog: &Value| catalog["models"][0]["tokenize"]["inline"]["sha256"].as_str().unwrap().to_owned();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 385, "content": "<new>", "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true}));
    write(&tokenizer, &changed);
    let mut after = before.clone();
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        after = sidecar.catalog().await;
        if after != before {
            break;
        }
    }
    assert_ne!(asset(&before), asset(&after));
    assert_ne!(before["models"][0]["digest"], after["models"][0]["digest"]);
    assert_eq!(after["mode"], "observe");
    let path = format!("/v1/assets/{}", asset(&after));
    assert_eq!(http(sidecar.addresses.assets, "GET", &path, "").await.0, 200);

    std::fs::write(&tokenizer, "{}").unwrap();
    sidecar.wait_for_metric("warmpath_indexer_reloads_total{file=\"config\",result=\"rejected\"} 1").await;
    assert_eq!(sidecar.catalog().await, after);
}

#[tokio::test]
async fn a_file_that_counts_without_being_named_is_seen_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    let settings = dir.path().join("tokenizer_config.json");
    write(&settings, &json!({"tokenizer_class": "PreTrainedTokenizerFast"}));
    config["models"][0]["tokenizer_config"] = json!(settings);
    let sidecar = Sidecar::boot(&config, Some(&endpoints(&PODS))).await;
    write(&dir.path().join("special_tokens_map.json"), &json!({"bos_token": "<late>"}));
    sidecar.wait_for_catalog("/models/0/special_tokens/bos_token", &json!("<late>")).await;
}

#[tokio::test]
async fn it_is_ready_once_the_endpoints_file_was_read() {
    let sidecar = Sidecar::boot(&config(), None).await;
    let (status, body) = sidecar.admin("GET", "/readyz", "").await;
    assert!(status == 503 && body.contains("endpoints file"), "{status} {body}");
    assert_eq!(sidecar.admin("GET", "/livez", "").await.0, 200);
    write(&sidecar.dir.path().join("endpoints.yaml"), &endpoints(&PODS));
    sidecar.wait_for_pods(&PODS).await;
    assert_eq!(sidecar.admin("GET", "/readyz", "").await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn endpoints_come_and_go_with_the_file_and_survive_a_bad_one() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let file = sidecar.dir.path().join("endpoints.yaml");
    write(&file, &endpoints(&[PODS[1], "127.0.0.1:8009"]));
    sidecar.wait_for_pods(&[PODS[1], "127.0.0.1:8009"]).await;
    write(&file, &json!({"endpoints": [{"address": "nonsense", "model": "demo"}]}));
    sidecar.wait_for_metric("warmpath_indexer_reloads_total{file=\"endpoints\",result=\"rejected\"} 1").await;
    sidecar.wait_for_pods(&[PODS[1], "127.0.0.1:8009"]).await;
}

#[tokio::test]
async fn a_dns_name_becomes_one_endpoint_per_address() {
    let addresses = tokio::net::lookup_host(("localhost", 8001)).await.unwrap();
    let mut expected: Vec<String> = addresses.map(|address| address.to_string()).collect();
    expected.sort();
    expected.dedup();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let sidecar = Sidecar::boot(&config(), Some(&endpoints(&["localhost:8001"]))).await;
    sidecar.wait_for_pods(&expected).await;
    let file = sidecar.dir.path().join("endpoints.yaml");
    write(&file, &endpoints(&["localhost:8001", "no-such-host.invalid:8001"]));
    let start = std::time::Instant::now();
    while !sidecar.metrics().await.lines().any(|line| {
        line.strip_prefix("warmpath_indexer_resolve_failures_total ").is_some_and(|count| count != "0")
    }) {
        assert!(start.elapsed() < Duration::from_secs(30), "no failure counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sidecar.wait_for_pods(&expected).await;
}

#[tokio::test]
async fn it_drains_at_the_end() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let socket = sidecar.addresses.pick_unix.clone().unwrap();
    let uri =
        format!("http://{}", sidecar.addresses.pick_tcp.unwrap()).parse::<tonic::transport::Uri>().unwrap();
    let mut health = HealthClient::new(tonic::transport::Channel::builder(uri).connect().await.unwrap());
    let ask = HealthCheckRequest { service: INDEXER_SERVICE.to_owned() };
    let mut statuses = health.watch(ask).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut client = sidecar.unix().await;
    support::pick(&mut client, request()).await;

    sidecar.shutdown.cancel();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop(statuses);
    let ended = tokio::time::timeout(Duration::from_secs(20), sidecar.task).await;
    ended.expect("did not end").unwrap().unwrap();
    assert!(!socket.exists());
    assert!(tokio::net::TcpStream::connect(sidecar.addresses.admin).await.is_err());
}

#[tokio::test]
async fn endpoints_of_an_unknown_model_are_told_of() {
    let mut listed = endpoints(&PODS);
    listed["endpoints"][1]["model"] = json!("nobody");
    let sidecar = Sidecar::boot(&config(), Some(&listed)).await;
    sidecar.wait_for_metric("warmpath_events_endpoints_unknown_model 1").await;
}
