//! Models come from the sidecar, and are changed while everything runs.

#[macro_use]
mod common;

use common::{LIMIT, ask, complete, events_arrive, eventually, ids, metrics, start};
use serde_json::{Value, json};
use warmpath_harness::{ModelFiles, Stack, StackBuilder, Steer};
use warmpath_tests::assets::{AssetProxy, Twist};

const CHAT: &str = "/v1/chat/completions";

/// Loads of models, over all VMs.
async fn loads(stack: &Stack) -> f64 {
    metrics(stack).await.sum("warmpath_asset_loads")
}

/// Changes the first model of the sidecar's configuration.
fn change(stack: &mut Stack, key: &str, value: Value) {
    let mut models = stack.files.config()["models"].clone();
    models[0][key] = value;
    stack.files.change(&json!({"models": models})).unwrap();
}

/// A definition with another digest: the old tokenizer goes, the new one comes, and no request is lost meanwhile.
async fn changed_model(steer: Steer) {
    let Some(mut stack) = start("changed_model", steer, |builder| builder).await else { return };
    let prompt = ids(0, 2);
    assert_eq!(complete(&stack, &prompt).await.reason(), "steered");
    let before = loads(&stack).await;

    change(&mut stack, "block_tokens", json!(32));
    // 129 tokens: 2 keys of 64 tokens before, 4 of 32 after. (The pods keep their blocks of 64: whether those of half the size
    // can be told from them is the sidecar's to say.)
    eventually("keys of the new size", async || {
        let outcome = complete(&stack, &prompt).await;
        assert!(["steered", "no_endpoints"].contains(&outcome.reason()), "{}", outcome.reason());
        let new = outcome.reason() == "no_endpoints" || outcome.matched().1 == 4;
        loads(&stack).await > before && new
    })
    .await;
    change(&mut stack, "block_tokens", json!(64));
    eventually("keys of the old size", async || {
        let outcome = complete(&stack, &prompt).await;
        outcome.reason() == "steered" && outcome.matched().1 == 2
    })
    .await;
}

/// Another tokenizer under traffic: the old one serves until the new one has come whole, and every request is steered.
async fn swapped_tokenizer(steer: Steer) {
    let Some(mut stack) = start("swapped_tokenizer", steer, |builder| builder).await else { return };
    let before = loads(&stack).await;
    let text = std::fs::read(ModelFiles::demo().tokenizer).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&text).unwrap();
    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
    let mut token = tokens.last().unwrap().clone();
    token["id"] = json!(token["id"].as_u64().unwrap() + 1);
    token["content"] = json!("<|new|>");
    tokens.push(token);
    let file = stack.directory().join("tokenizer.json");
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    change(&mut stack, "tokenizer", json!(file));

    let start = std::time::Instant::now();
    let mut number = 0;
    // One VM for the worker, one on the main thread.
    while loads(&stack).await < before + 2.0 {
        assert!(start.elapsed() < LIMIT, "the new tokenizer was not loaded");
        number += 1;
        assert_eq!(complete(&stack, &ids(number, 2)).await.reason(), "steered");
    }
    assert_eq!(complete(&stack, &ids(number + 1, 2)).await.reason(), "steered");
    assert_eq!(metrics(&stack).await.sum("warmpath_asset_errors"), 0.0);
}

/// What is no asset for this filter is refused, and the model before it goes on serving.
async fn refused_asset(steer: Steer) {
    let Some(mut stack) = start("refused_asset", steer, |builder| builder).await else { return };
    let before = loads(&stack).await;
    // The tokenizer.json itself: only a filter with the feature hf-tokenizers reads that.
    change(&mut stack, "tokenize", json!("inline-hf"));
    eventually("both VMs have refused it", async || {
        assert_eq!(complete(&stack, &ids(1, 2)).await.reason(), "steered");
        metrics(&stack).await.sum("warmpath_asset_errors") >= 2.0
    })
    .await;
    assert_eq!(complete(&stack, &ids(2, 2)).await.reason(), "steered");
    assert_eq!(loads(&stack).await, before);
}

/// A stack whose assets pass through a proxy that can spoil them.
async fn start_with_proxy(test: &str, steer: Steer) -> Option<(Stack, AssetProxy)> {
    let proxy = AssetProxy::start().await.unwrap();
    let stack = start(test, steer, |builder| builder.edit_envoy(proxy.wire())).await?;
    Some((stack, proxy))
}

/// Asks until both VMs have met `errors` assets that they refuse; every request meanwhile is steered as before.
async fn refused(stack: &Stack, errors: f64, keys: usize) {
    eventually("both VMs have refused it", async || {
        let outcome = complete(stack, &ids(1, 2)).await;
        assert_eq!((outcome.reason(), outcome.matched().1), ("steered", keys));
        metrics(stack).await.sum("warmpath_asset_errors") >= errors
    })
    .await;
    let outcome = complete(stack, &ids(2, 2)).await;
    assert_eq!((outcome.reason(), outcome.matched().1), ("steered", keys));
}

/// An asset that is damaged on its way is refused, the model before it serves on, and the next try takes it whole.
#[tokio::test]
async fn a_damaged_asset_leaves_the_old_one() {
    let Some((mut stack, proxy)) =
        start_with_proxy("a_damaged_asset_leaves_the_old_one", Steer::Header).await
    else {
        return;
    };
    let before = loads(&stack).await;
    proxy.twist(Twist::Damaged);
    change(&mut stack, "max_model_len", json!(8_192));
    refused(&stack, 2.0, 2).await;
    assert_eq!(loads(&stack).await, before);
    assert!(stack.envoy.process().stderr().contains("another checksum"));

    proxy.twist(Twist::None);
    eventually("both VMs have loaded it", async || loads(&stack).await == before + 2.0).await;
    assert_eq!(complete(&stack, &ids(3, 2)).await.reason(), "steered");
}

/// An asset of a version that this filter does not read is refused before the model that serves is given up for it.
#[tokio::test]
async fn an_asset_of_another_version_leaves_the_old_one() {
    let Some((mut stack, proxy)) =
        start_with_proxy("an_asset_of_another_version_leaves_the_old_one", Steer::FilterState).await
    else {
        return;
    };
    let before = loads(&stack).await;
    proxy.twist(Twist::OtherVersion);
    refused(&stack, 2.0, 2).await;
    assert_eq!(loads(&stack).await, before);
    assert!(stack.envoy.process().stderr().contains("this build reads version"));
}

/// More than `inline_bytes_max` of prompt: the sidecar gets the body and keys the whole; what is shorter stays here.
#[tokio::test]
async fn what_is_too_long_goes_to_the_sidecar() {
    let Some(mut stack) = start("what_is_too_long_goes_to_the_sidecar", Steer::Header, patient_prompts).await
    else {
        return;
    };
    let mut models = stack.files.config()["models"].clone();
    models[0]["overflow"] = json!("sidecar");
    models[0]["inline_bytes_max"] = json!("2KiB");
    stack.files.change(&json!({ "models": models })).unwrap();
    let sent = async |stack: &Stack| metrics(stack).await.sum("warmpath_prompts_sent");
    let chat = |text: &str, times: usize| json!({"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": text.repeat(times)}]});
    let (long, short) =
        ("Too long for a filter, so the sidecar reads it. ", "Short enough to stay in the gateway. ");
    eventually("a long prompt goes to the sidecar", async || {
        assert_eq!(ask(&stack, CHAT, &chat(long, 100)).await.reason(), "steered");
        sent(&stack).await > 0.0
    })
    .await;
    events_arrive(&stack).await;
    let before = sent(&stack).await;
    let outcome = ask(&stack, CHAT, &chat(long, 100)).await;
    let (matched, keys) = outcome.matched();
    // All of it is keyed: a prefix of 2 KiB would be a tenth of these keys.
    assert!(matched == keys && keys >= 15, "{matched} of {keys}");
    assert_eq!(sent(&stack).await, before + 1.0);
    let outcome = ask(&stack, CHAT, &chat(short, 20)).await;
    assert_eq!((outcome.reason(), sent(&stack).await), ("steered", before + 1.0));
    assert_eq!(metrics(&stack).await.sum("warmpath_prompts_cut"), 0.0);
}

/// Two base models in one filter; the pods serve the first.
async fn two_models(steer: Steer) {
    let mut other = ModelFiles::demo();
    other.name = "other".to_owned();
    let models = vec![ModelFiles::demo(), other];
    let Some(stack) = start("two_models", steer, |builder| builder.models(models)).await else { return };
    let named = async |name: &str| {
        let body = json!({"model": name, "prompt": ids(1, 2), "max_tokens": 1});
        ask(&stack, "/v1/completions", &body).await.reason().to_owned()
    };
    assert_eq!(named("demo").await, "steered");
    assert_eq!(named("other").await, "no_endpoints");
    assert_eq!(named("nobody").await, "unknown_model");
}

/// The sidecar may take as long for a prompt as a busy machine needs.
fn patient_prompts(builder: StackBuilder) -> StackBuilder {
    builder.sidecar(json!({"prompts": {"deadline": "10s"}}))
}

/// The sidecar tokenizes: the filter has no tokenizer, and the second prompt finds the first one's blocks.
async fn sidecar_tokenizes(steer: Steer) {
    let Some(mut stack) = start("sidecar_tokenizes", steer, patient_prompts).await else { return };
    change(&mut stack, "tokenize", json!("sidecar"));
    let text = "Every word of this long prompt is told to the sidecar, and to nobody else. ".repeat(20);
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 1});
    eventually("prompts go to the sidecar", async || {
        let outcome = ask(&stack, "/v1/chat/completions", &body).await;
        assert_eq!(outcome.reason(), "steered");
        metrics(&stack).await.sum("warmpath_prompts_sent") > 0.0
    })
    .await;
    events_arrive(&stack).await;
    let outcome = ask(&stack, "/v1/chat/completions", &body).await;
    let (matched, keys) = outcome.matched();
    assert!(matched > 0 && matched == keys, "{matched} of {keys}");
    let keyed = stack.sidecar_metrics().await.unwrap().sum("warmpath_indexer_prompts_total");
    assert!(keyed >= 2.0, "{keyed}");
}

in_both_wirings! {
    changed_model:
        a_changed_model_is_loaded_while_it_runs_header, a_changed_model_is_loaded_while_it_runs_filter_state;
    swapped_tokenizer: a_tokenizer_is_swapped_under_traffic_header, a_tokenizer_is_swapped_under_traffic_filter_state;
    refused_asset: a_refused_asset_leaves_the_old_one_header, a_refused_asset_leaves_the_old_one_filter_state;
    two_models: two_models_are_keyed_in_one_filter_header, two_models_are_keyed_in_one_filter_filter_state;
    sidecar_tokenizes: the_sidecar_tokenizes_header, the_sidecar_tokenizes_filter_state;
}
