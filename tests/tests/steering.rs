//! Requests go to the pod that has cached the longest part of their prompt.

#[macro_use]
mod common;

use std::collections::BTreeSet;

use common::{
    Outcome, ask, complete, completion, events_arrive, eventually, ids, metrics, passes, scores, start,
};
use serde_json::{Value, json};
use warmpath_harness::{ModelFiles, PodOptions, Stack, StackBuilder, Steer};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn three_pods(builder: StackBuilder) -> StackBuilder {
    builder.pods(3, PodOptions::default())
}

/// A first request and the events that it causes.
async fn first(stack: &Stack, path: &str, body: &Value) -> Outcome {
    let outcome = ask(stack, path, body).await;
    assert_eq!((outcome.response.status.as_u16(), outcome.reason()), (200, "steered"));
    events_arrive(stack).await;
    outcome
}

/// A request whose whole prompt must be found on `pod`, and that is answered there.
async fn found_on(stack: &Stack, path: &str, body: &Value, pod: &str) -> Outcome {
    let outcome = ask(stack, path, body).await;
    let (matched, keys) = outcome.matched();
    assert!(matched > 0 && matched == keys, "{matched} of {keys}: {body}");
    assert_eq!((outcome.reason(), outcome.endpoint(), outcome.pod()), ("steered", pod, pod), "{body}");
    outcome
}

/// The score of each listed endpoint in the sidecar's log, that of `pod` first.
async fn logged_scores(stack: &Stack, outcome: &Outcome) -> (f64, Vec<f64>) {
    let mut lines = Vec::new();
    eventually("three scores in the sidecar's log", async || {
        lines = scores(stack, &outcome.id);
        lines.len() == 3
    })
    .await;
    assert!(lines.iter().all(|line| line["model"] == common::MODEL), "{lines:?}");
    let (own, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["endpoint"] == outcome.pod());
    (own[0]["score"].as_f64().unwrap(), others.iter().map(|line| line["score"].as_f64().unwrap()).collect())
}

async fn prompts_return_to_their_pod(stack: &Stack) {
    let mut pods = BTreeSet::new();
    for number in 0..6 {
        let body = completion(ids(number, 4));
        let new = first(stack, COMPLETIONS, &body).await;
        assert_eq!(new.matched(), (0, 4));
        assert_eq!(logged_scores(stack, &new).await, (0.0, vec![0.0, 0.0]));
        let again = found_on(stack, COMPLETIONS, &body, new.pod()).await;
        assert_eq!(again.matched(), (4, 4));
        assert_eq!(logged_scores(stack, &again).await, (1.0, vec![0.0, 0.0]));
        pods.insert(new.pod().to_owned());
    }
    assert!(pods.len() > 1, "prompts without a match are spread");
}

async fn longer_prompts_follow_their_prefix(stack: &Stack) {
    for number in 10..14 {
        let short = first(stack, COMPLETIONS, &completion(ids(number, 4))).await;
        let longer = first(stack, COMPLETIONS, &completion(ids(number, 6))).await;
        assert_eq!((longer.matched(), longer.pod()), ((4, 6), short.pod()));
        // Of two prompts with the same beginning the one that is cached further counts.
        let longest = first(stack, COMPLETIONS, &completion(ids(number, 8))).await;
        assert_eq!((longest.matched(), longest.pod()), ((6, 8), short.pod()));
        // An exact multiple of the block: the block with the last token is never reused.
        let exact = complete(stack, &ids(number, 6)[..6 * common::BLOCK]).await;
        assert_eq!((exact.matched(), exact.pod()), ((5, 5), short.pod()));
    }
}

/// Text, lists and token ids of one prompt are one prompt; so are both ways to write a chat.
async fn all_ways_to_write_a_prompt(stack: &Stack) {
    let text = "The lamp by the window was still warm when they came home. ".repeat(30);
    let tokens = stack.pods[0].client().post_json("/tokenize", &completion(text.as_str())).await.unwrap();
    let tokens = tokens.ok().unwrap().json().unwrap()["tokens"].clone();
    let new = first(stack, COMPLETIONS, &completion(text.as_str())).await;
    assert_eq!(new.matched().0, 0);
    for prompt in [json!(text), json!([text]), tokens.clone(), json!([tokens])] {
        found_on(stack, COMPLETIONS, &completion(prompt), new.pod()).await;
    }

    let chat = |content: Value| json!({"model": common::MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": content}]});
    let new = first(stack, CHAT, &chat(json!(text))).await;
    // The template begins otherwise than the text: another prompt.
    assert_eq!(new.matched().0, 0);
    found_on(stack, CHAT, &chat(json!([{"type": "text", "text": text}])), new.pod()).await;
    let mut streamed = chat(json!(text));
    streamed["stream"] = json!(true);
    found_on(stack, CHAT, &streamed, new.pod()).await;
}

/// One chat through every API that takes chats, and as the ids that they become: one prompt.
async fn all_apis(stack: &Stack) {
    let text = "Nobody had lit the lamp by the window, and still they came home. ".repeat(30);
    let messages = json!([{"role": "user", "content": text}]);
    let new = json!({"model": common::MODEL, "max_tokens": 1, "messages": messages});
    let tokens =
        stack.pods[0].client().post_json("/tokenize", &new).await.unwrap().ok().unwrap().json().unwrap();
    let first = first(stack, "/v1/messages", &new).await;
    assert_eq!(first.matched().0, 0);
    let mut blocks = new.clone();
    blocks["messages"][0]["content"] = json!([{"type": "text", "text": text}]);
    let ids =
        json!({"model": common::MODEL, "token_ids": tokens["tokens"], "sampling_params": {"max_tokens": 1}});
    for (path, body) in [
        ("/v1/messages", blocks),
        (CHAT, new),
        ("/v1/responses", json!({"model": common::MODEL, "max_output_tokens": 1, "input": text})),
        ("/v1/responses", json!({"model": common::MODEL, "max_output_tokens": 1, "input": messages})),
        ("/inference/v1/generate", ids),
    ] {
        found_on(stack, path, &body, first.pod()).await;
    }
}

async fn steers(steer: Steer) {
    let Some(stack) = start("steers", steer, three_pods).await else { return };
    prompts_return_to_their_pod(&stack).await;
    longer_prompts_follow_their_prefix(&stack).await;
    all_ways_to_write_a_prompt(&stack).await;
    all_apis(&stack).await;
    let metrics = metrics(&stack).await;
    assert_eq!(metrics.starting("warmpath_passes").map(|series| series.value).sum::<f64>(), 0.0);
}

/// Blocks of a pod of which a test evicts some.
const FEW_BLOCKS: u32 = 40;

/// Fills a pod's cache past Envoy, so that all it had is gone.
async fn fill(stack: &Stack, pod: &str, number: u32) {
    let pod = stack.pods.iter().find(|other| other.address().to_string() == pod).unwrap();
    // One block is vLLM's own, one takes the last token of the prompt and the answer.
    let body = completion(ids(number, FEW_BLOCKS as usize - 2));
    pod.client().post_json(COMPLETIONS, &body).await.unwrap().ok().unwrap();
}

async fn eviction_moves_a_prompt(steer: Steer) {
    let few = PodOptions { gpu_blocks: FEW_BLOCKS, ..PodOptions::default() };
    let Some(stack) = start("eviction_moves_a_prompt", steer, |builder| builder.pods(2, few)).await else {
        return;
    };
    let body = completion(ids(0, 6));
    let one = first(&stack, COMPLETIONS, &body).await.pod().to_owned();
    let other = stack.pods.iter().find(|pod| pod.address().to_string() != one).unwrap();
    // The other pod gets the first four blocks of the prompt: it is second best.
    other.client().post_json(COMPLETIONS, &completion(ids(0, 4))).await.unwrap().ok().unwrap();
    events_arrive(&stack).await;
    found_on(&stack, COMPLETIONS, &body, &one).await;
    fill(&stack, &one, 1).await;
    events_arrive(&stack).await;
    let moved = first(&stack, COMPLETIONS, &body).await;
    assert_eq!((moved.matched(), moved.pod()), ((4, 6), other.address().to_string().as_str()));
    fill(&stack, moved.pod(), 2).await;
    events_arrive(&stack).await;
    assert_eq!(first(&stack, COMPLETIONS, &body).await.matched(), (0, 6));
    assert!(stack.sidecar_metrics().await.unwrap().sum("warmpath_index_evictions_total") >= 6.0);
}

/// Asks for the same prompt until it has become `reason`, and a few times more.
async fn turns_into(stack: &Stack, number: u32, reason: &str) -> Vec<Outcome> {
    let prompt = ids(number, 4);
    eventually(reason, async || complete(stack, &prompt).await.reason() == reason).await;
    events_arrive(stack).await;
    let mut outcomes = Vec::new();
    eventually("twelve more of them", async || {
        let outcome = complete(stack, &prompt).await;
        // On a busy machine an observed request may be over before its pick is answered.
        let over_first = (reason, outcome.reason()) == ("observed", "client_gone");
        if !over_first {
            assert_eq!(outcome.reason(), reason);
            outcomes.push(outcome);
        }
        outcomes.len() == 12
    })
    .await;
    outcomes
}

fn pods(outcomes: &[Outcome]) -> BTreeSet<&str> {
    outcomes.iter().map(Outcome::pod).collect()
}

async fn modes_are_switched_while_it_runs(steer: Steer) {
    // Slow pods: an observed request does not wait for its pick, and one that is over first is not observed.
    let slow = PodOptions { instant: false, time_scale: 3.0, ..PodOptions::default() };
    let observe = |builder: StackBuilder| builder.pods(3, slow).sidecar(json!({"mode": "observe"}));
    let Some(mut stack) = start("modes_are_switched_while_it_runs", steer, observe).await else { return };
    // Picks are made and logged, but the cluster balances as it always did.
    let observed = turns_into(&stack, 0, "observed").await;
    assert!(pods(&observed).len() > 1, "the same prompt always went to {:?}", pods(&observed));
    assert!(observed.iter().all(|outcome| outcome.matched() == (4, 4)));
    assert!(observed.iter().any(|outcome| outcome.endpoint() != outcome.pod()));
    let counted = metrics(&stack).await;
    assert_eq!(counted.sum("warmpath_picks") + counted.sum("warmpath_held"), 0.0);
    assert!(counted.sum("warmpath_observed") >= 12.0);

    set_mode(&stack, "steer").await;
    let steered = turns_into(&stack, 1, "steered").await;
    assert!(steered.iter().all(|outcome| outcome.matched() == (4, 4) && outcome.endpoint() == outcome.pod()));

    set_mode(&stack, "off").await;
    let off = turns_into(&stack, 2, "mode_off").await;
    assert!(pods(&off).len() > 1);
    let counted = metrics(&stack).await;
    assert!(passes(&counted, "mode_off") >= 12.0);

    // The file has the last word when it changes.
    stack.files.change(&json!({"mode": "steer"})).unwrap();
    turns_into(&stack, 3, "steered").await;
}

async fn set_mode(stack: &Stack, mode: &str) {
    let client = stack.sidecar.as_ref().unwrap().client();
    let request = client.request(hyper::Method::PUT, "/v1/mode");
    let body = json!({"mode": mode}).to_string();
    client.send(request, warmpath_harness::client::whole(body)).await.unwrap().ok().unwrap();
}

/// An adapter and a salt have caches of their own, in the pods and so in the keys.
async fn adapters_and_salts(steer: Steer) {
    let arguments = ["--lora-adapter", "poet", "--lora-adapter", "clerk"].map(str::to_owned).to_vec();
    let model = ModelFiles::demo();
    let definition = json!([{
        "name": model.name, "default": true, "lora_adapters": ["poet", "clerk"],
        "block_tokens": model.block_tokens, "max_model_len": model.max_model_len, "tokenizer": model.tokenizer,
        "tokenizer_config": model.tokenizer_config, "config": model.config, "chat_template": model.chat_template,
    }]);
    let change = |builder: StackBuilder| {
        builder
            .pods(3, PodOptions { arguments, ..PodOptions::default() })
            .sidecar(json!({"models": definition}))
    };
    let Some(stack) = start("adapters_and_salts", steer, change).await else { return };
    let mut bodies = Vec::new();
    for model in [common::MODEL, "poet", "clerk"] {
        for salt in [Value::Null, json!("tenant-a"), json!("tenant-b")] {
            let mut body = completion(ids(0, 4));
            body["model"] = json!(model);
            if !salt.is_null() {
                body["cache_salt"] = salt;
            }
            bodies.push(body);
        }
    }
    let mut pods = Vec::new();
    for body in &bodies {
        let new = first(&stack, COMPLETIONS, body).await;
        assert_eq!(new.matched(), (0, 4), "{body}");
        pods.push(new.pod().to_owned());
    }
    for (body, pod) in bodies.iter().zip(&pods) {
        found_on(&stack, COMPLETIONS, body, pod).await;
    }
}

in_both_wirings! {
    steers: a_prompt_goes_to_the_pod_that_cached_it_header, a_prompt_goes_to_the_pod_that_cached_it_filter_state;
    eviction_moves_a_prompt: an_evicted_prompt_moves_header, an_evicted_prompt_moves_filter_state;
    modes_are_switched_while_it_runs: modes_are_switched_header, modes_are_switched_filter_state;
    adapters_and_salts: adapters_and_salts_are_apart_header, adapters_and_salts_are_apart_filter_state;
}
