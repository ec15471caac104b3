//! The shipped WasmPlugin, EnvoyFilters and sidecar configuration, with the real filter and sidecar and simulated pods:
//! the gateway steers by what the pods have cached.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use warmpath_harness::{ModelFiles, Pod, PodOptions, Programs, Stack, client::whole};
use warmpath_tests::istio::{Manifests, extend, gateway};

/// Longest wait for something that must happen, and how often it is looked at.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The model that the shipped sidecar configuration names, with the demo's files in the place of its volume's.
fn model(sidecar: &Value) -> ModelFiles {
    let shipped = &sidecar["models"][0];
    let mut model = ModelFiles::demo();
    assert_eq!(shipped["name"], model.name);
    model.block_tokens = shipped["block_tokens"].as_u64().unwrap() as u32;
    model.max_model_len = shipped["max_model_len"].as_u64().unwrap() as u32;
    model
}

/// The shipped sidecar configuration without the places that a pod's volumes and a free port decide.
fn sidecar_config(shipped: &Value, model: &ModelFiles) -> Value {
    let mut config = shipped.clone();
    for place in ["pick", "assets", "admin", "seed_file"] {
        config.as_object_mut().unwrap().remove(place).unwrap();
    }
    config["models"][0]["tokenizer"] = json!(model.tokenizer);
    config["models"][0]["tokenizer_config"] = json!(model.tokenizer_config);
    config["models"][0]["config"] = json!(model.config);
    config["models"][0]["chat_template"] = json!(model.chat_template);
    config
}

/// Replaces a wired static configuration by that of the Istio gateway, with the same pods, module and sidecar.
fn as_istio_gateway(config: &mut Value) -> Result<()> {
    let module = find(config, "filename").and_then(Value::as_str).context("no module")?.to_owned();
    let cluster = |name: &str| {
        let clusters = config["static_resources"]["clusters"].as_array();
        clusters
            .and_then(|clusters| clusters.iter().find(|cluster| cluster["name"] == name))
            .context(name.to_owned())
    };
    let (pick, assets) = (cluster("warmpath_pick")?.clone(), cluster("warmpath_assets")?.clone());
    let pods = cluster("warmpath_pool")?["load_assignment"]["endpoints"][0]["lb_endpoints"]
        .as_array()
        .context("pods")?;
    let pods = pods.iter().map(|pod| {
        let address = &pod["endpoint"]["address"]["socket_address"];
        let (host, port) = (address["address"].as_str().context("pod")?, &address["port_value"]);
        Ok(format!("{host}:{port}").parse()?)
    });
    let endpoints = gateway::Endpoints::from([("vllm".to_owned(), pods.collect::<Result<Vec<_>>>()?)]);

    let manifests = Manifests::shipped()?;
    let listen = "127.0.0.1:0".parse()?;
    let mut istio = gateway::bootstrap(&manifests, "inference", listen, &endpoints)?;
    extend(&mut istio, &manifests, &manifests.gateway_labels()?, module.as_ref())?;
    patient(&mut istio)?;
    for place in [pick, assets] {
        let clusters = istio["static_resources"]["clusters"].as_array_mut().context("clusters")?;
        let shipped =
            clusters.iter_mut().find(|cluster| cluster["name"] == place["name"]).context("cluster")?;
        shipped["load_assignment"] = place["load_assignment"].clone();
    }
    *config = istio;
    Ok(())
}

/// Lets the filter wait for the sidecar for as long as a busy machine may need: nothing here is about time.
fn patient(istio: &mut Value) -> Result<()> {
    for manager in gateway::http_connection_managers(istio, gateway::HTTP_CONNECTION_MANAGER) {
        let text = &mut manager["http_filters"][0]["typed_config"]["config"]["configuration"]["value"];
        let mut plugin: Value = serde_json::from_str(text.as_str().context("no plugin configuration")?)?;
        plugin["callout_timeout"] = json!("30s");
        *text = json!(plugin.to_string());
    }
    Ok(())
}

/// The first value of that key, anywhere.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) => {
            object.get(key).or_else(|| object.values().find_map(|value| find(value, key)))
        }
        Value::Array(list) => list.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

async fn start(test: &str) -> Option<Stack> {
    let programs = Programs::or_skip(test)?;
    let shipped = Manifests::shipped().unwrap().config_map("warmpath-sidecar", "config.yaml").unwrap();
    let model = model(&shipped);
    let builder = Stack::builder(programs)
        .pods(3, PodOptions::default())
        .sidecar(sidecar_config(&shipped, &model))
        .models(vec![model])
        .edit_envoy(as_istio_gateway);
    Some(builder.start().await.unwrap())
}

/// A chat of some blocks whose first block already has the number.
fn chat(number: usize) -> Value {
    let story = "The lamp by the window was still warm when they came home. ".repeat(12);
    let system = format!("Number {number} of the stories.");
    json!({ "model": "demo", "max_tokens": 1, "messages": [
        { "role": "system", "content": system },
        { "role": "user", "content": story },
    ] })
}

/// Prompt tokens that the pods have served from their caches.
async fn cached_tokens(pods: &[Pod]) -> f64 {
    let mut sum = 0.0;
    for pod in pods {
        sum += pod.metrics().await.unwrap().sum("vllm:prefix_cache_hits_total");
    }
    sum
}

#[tokio::test]
async fn the_same_prompt_goes_to_the_pod_that_has_it() {
    let Some(stack) = start("the_same_prompt_goes_to_the_pod_that_has_it").await else { return };
    let client = stack.client();
    let mut pods_used = BTreeSet::new();
    for number in 0..6 {
        let admitted = admissions(&stack).await;
        let hits = cached_tokens(&stack.pods).await;
        let first = client.post_json("/v1/chat/completions", &chat(number)).await.unwrap().ok().unwrap();
        assert_eq!(cached_tokens(&stack.pods).await, hits, "chat {number} was cached before");
        wait_for_more_than(admitted, &stack).await;
        for _ in 0..3 {
            let again = client.post_json("/v1/chat/completions", &chat(number)).await.unwrap().ok().unwrap();
            assert_eq!(again.pod(), first.pod(), "chat {number}");
        }
        assert!(cached_tokens(&stack.pods).await > hits, "chat {number}");
        pods_used.insert(first.pod().unwrap().to_owned());
    }
    assert!(pods_used.len() > 1, "chats without a match are spread: {pods_used:?}");
    // Istio's inclusion list lets the filter's own metrics through.
    let metrics = stack.envoy.metrics().await.unwrap();
    assert_eq!(metrics.sum("warmpath_picks"), 24.0);
}

#[tokio::test]
async fn large_bodies_are_read_or_passed() {
    let Some(stack) = start("large_bodies_are_read_or_passed").await else { return };
    // The listener of this gateway buffers 32 KiB. The filter reads up to 1 MiB, the hold takes 16 MiB.
    for (spaces, reason) in [(200 << 10, None), (5 << 20, Some("body_too_large"))] {
        let picks = stack.envoy.metrics().await.unwrap().sum("warmpath_picks");
        let body = chat(spaces).to_string() + &" ".repeat(spaces);
        let request = stack.client().json_request("/v1/chat/completions");
        let response = stack.client().send(request, whole(body)).await.unwrap();
        assert_eq!(response.status, 200, "{spaces} spaces: {}", response.text());
        let metrics = stack.envoy.metrics().await.unwrap();
        assert_eq!(metrics.sum("warmpath_picks") - picks, f64::from(reason.is_none()), "{spaces} spaces");
        if let Some(reason) = reason {
            assert_eq!(metrics.sum(&format!("warmpath_passes_{reason}")), 1.0);
        }
    }
}

/// Copies of blocks that the sidecar has taken into its index.
async fn admissions(stack: &Stack) -> f64 {
    stack.sidecar_metrics().await.unwrap().sum("warmpath_index_admissions_total")
}

/// Waits until the sidecar has taken in what a pod has just cached.
async fn wait_for_more_than(before: f64, stack: &Stack) {
    let grown = async {
        while admissions(stack).await <= before {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, grown).await.expect("the events of a pod reach the index");
}
