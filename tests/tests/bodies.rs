//! Bodies that cannot be keyed, bodies of any size, spoofed headers, a bad plugin configuration: requests pass, counted,
//! and the filter lives on.

#[macro_use]
mod common;

use std::io::Write;

use bytes::Bytes;
use common::{Outcome, complete, completion, ids, metrics, passes, send, start, still_steers};
use flate2::{Compression, write::GzEncoder};
use hyper::Method;
use serde_json::{Value, json};
use warmpath_harness::client::{Body, streamed, whole};
use warmpath_harness::{Endpoint, Stack, StackBuilder, Steer};
use warmpath_tests::recorder::Recorder;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const MIB: usize = 1 << 20;

/// Path, body, and why it cannot be steered.
fn unkeyable() -> Vec<(&'static str, String, &'static str)> {
    let chat = |content: Value| json!({"model": "demo", "messages": [{"role": "user", "content": content}]});
    let mut templated = chat("hello".into());
    templated["chat_template"] = json!("{{ messages }}");
    let mut tooled = chat("hello".into());
    tooled["tools"] = json!([]);
    let filled = json!({"model": "demo", "prompt": "hello", "suffix": "bye"});
    let scored = json!({"model": "demo", "prompt": "hello", "prompt_logprobs": 1});
    let unknown = json!({"model": "nobody", "prompt": "hello"});
    vec![
        (COMPLETIONS, r#"{"model": "demo", "prompt": "hel"#.to_owned(), "malformed_json"),
        (COMPLETIONS, "[1, 2]".to_owned(), "malformed_json"),
        (CHAT, "hello".to_owned(), "malformed_json"),
        (CHAT, String::new(), "malformed_json"),
        (COMPLETIONS, "[".repeat(100_000), "malformed_json"),
        (COMPLETIONS, unknown.to_string(), "unknown_model"),
        (COMPLETIONS, completion("").to_string(), "empty_prompt"),
        (COMPLETIONS, completion(json!({"text": 1})).to_string(), "invalid_field"),
        (COMPLETIONS, json!({"model": 7, "prompt": "hello"}).to_string(), "invalid_field"),
        (CHAT, json!({"model": "demo", "messages": "hello"}).to_string(), "invalid_field"),
        (CHAT, chat(json!(5)).to_string(), "invalid_field"),
        (CHAT, templated.to_string(), "template_error"),
        (CHAT, tooled.to_string(), "invalid_field"),
        (COMPLETIONS, filled.to_string(), "unsupported_field"),
        (COMPLETIONS, scored.to_string(), "cache_not_read"),
        (COMPLETIONS, completion(ids(1, 300)).to_string(), "prompt_too_long"),
        ("/tokenize", completion("hello").to_string(), "path"),
    ]
}

/// Sends a POST that must pass for that reason, counted once, and be answered by a pod and not with a 5xx.
async fn passed(stack: &Stack, path: &str, encoding: &str, body: Body, reason: &str) -> Outcome {
    let before = passes(&metrics(stack).await, reason);
    let client = stack.client();
    let request = client.json_request(path).header("content-encoding", encoding);
    let outcome = send(stack, &client, request, body).await;
    assert_eq!(outcome.reason(), reason, "{}", outcome.response.text());
    assert_eq!(passes(&metrics(stack).await, reason) - before, 1.0, "{reason}");
    outcome.pod();
    assert!(outcome.response.status.as_u16() < 500, "{reason}: {}", outcome.response.status);
    outcome
}

async fn what_cannot_be_keyed_passes(steer: Steer) {
    let Some(stack) = start("what_cannot_be_keyed_passes", steer, |builder| builder).await else { return };
    for (path, body, reason) in unkeyable() {
        passed(&stack, path, "identity", whole(body), reason).await;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(completion("hello").to_string().as_bytes()).unwrap();
    passed(&stack, COMPLETIONS, "gzip", whole(packed.finish().unwrap()), "content_encoding").await;

    let client = stack.client();
    let listed = send(&stack, &client, client.request(Method::GET, "/v1/models"), whole("")).await;
    assert_eq!((listed.response.status.as_u16(), listed.reason()), (200, "method"));
    still_steers(&stack).await;
}

/// A good request of about so many bytes, mostly white space.
fn large(bytes: usize) -> Bytes {
    let mut body = completion("hello").to_string();
    body.push_str(&" ".repeat(bytes - body.len()));
    body.into()
}

/// In pieces of 64 KiB, without a content length.
fn chunked(body: Bytes) -> Body {
    let pieces: Vec<Bytes> = body.chunks(64 << 10).map(Bytes::copy_from_slice).collect();
    streamed(futures::stream::iter(pieces), None)
}

async fn large_bodies(steer: Steer) {
    let Some(stack) = start("large_bodies", steer, |builder| builder).await else { return };
    // Up to body_bytes_max they are read, with a length and without.
    for body in [whole(large(MIB - 100)), chunked(large(MIB - 100))] {
        let client = stack.client();
        let outcome = send(&stack, &client, client.json_request(COMPLETIONS), body).await;
        assert_eq!((outcome.response.status.as_u16(), outcome.reason()), (200, "steered"));
    }
    for bytes in [5_000_000, 16 * MIB - 100] {
        for body in [whole(large(bytes)), chunked(large(bytes))] {
            let outcome = passed(&stack, COMPLETIONS, "identity", body, "body_too_large").await;
            assert_eq!(outcome.response.status, 200, "{bytes}: {}", outcome.response.text());
        }
    }
    // max_request_bytes of the buffer filter is 16 MiB; without that filter there is no such limit.
    for body in [whole(large(17 * MIB)), chunked(large(17 * MIB))] {
        let client = stack.envoy.http2();
        let outcome = send(&stack, &client, client.json_request(COMPLETIONS), body).await;
        match steer {
            Steer::Header => assert_eq!(outcome.response.status, 200),
            Steer::FilterState => assert_eq!(outcome.response.status, 413),
        }
    }
    still_steers(&stack).await;
}

async fn spoofed_headers(steer: Steer) {
    let mut pods = [Recorder::start().await.unwrap(), Recorder::start().await.unwrap()];
    let endpoints = pods.iter().map(|pod| Endpoint {
        address: pod.address,
        model: "demo".to_owned(),
        // Port 9 (discard): nobody publishes there.
        events: "127.0.0.1:9".to_owned(),
        replay: None,
        ranks: 1,
    });
    let endpoints: Vec<Endpoint> = endpoints.collect();
    let change = |builder: StackBuilder| builder.external_pods(endpoints);
    let Some(stack) = start("spoofed_headers", steer, change).await else { return };
    let addresses = pods.each_ref().map(|pod| pod.address.to_string());
    let client = stack.client();
    let spoof = |request: hyper::http::request::Builder| {
        let to = &addresses[1];
        request.header("x-gateway-destination-endpoint", to).header("x-warmpath", "spoofed")
    };
    // Unsteered: Envoy's own balancing spreads them, so not all 24 can be on the second pod.
    for _ in 0..24 {
        client.send(spoof(client.request(Method::GET, "/v1/models")), whole("")).await.unwrap().ok().unwrap();
    }
    let arrivals = pods.each_mut().map(Recorder::arrived);
    assert_eq!(arrivals[0].len() + arrivals[1].len(), 24);
    assert!(!arrivals[0].is_empty(), "a client chose its pod");
    for arrival in arrivals.iter().flatten() {
        assert!(!arrival.headers.contains_key("x-gateway-destination-endpoint"), "{:?}", arrival.headers);
        assert_ne!(arrival.headers["x-warmpath"], "spoofed");
    }
    // Steered: the header has what the sidecar listed and nothing else.
    let request =
        spoof(client.json_request(COMPLETIONS)).header("x-gateway-destination-endpoint", "9.9.9.9:9");
    client.send(request, whole(completion("hello").to_string())).await.unwrap().ok().unwrap();
    let arrivals = pods.each_mut().map(Recorder::arrived);
    let arrival = arrivals.iter().flatten().next().unwrap();
    let values: Vec<_> = arrival.headers.get_all("x-gateway-destination-endpoint").iter().collect();
    assert_eq!(values.len(), 1, "{values:?}");
    let mut listed: Vec<&str> = values[0].to_str().unwrap().split(',').collect();
    listed.sort_unstable();
    let mut known = addresses.each_ref().map(String::as_str);
    known.sort_unstable();
    assert_eq!(listed, known);
}

async fn a_bad_plugin_configuration(steer: Steer) {
    let change = |builder: StackBuilder| builder.plugin(json!({"stear": 1})).sidecar_absent();
    let Some(mut stack) = start("a_bad_plugin_configuration", steer, change).await else { return };
    for number in 0..4 {
        let outcome = complete(&stack, &ids(number, 2)).await;
        assert_eq!(outcome.reason(), "config_error");
    }
    let metrics = metrics(&stack).await;
    assert_eq!(passes(&metrics, "config_error"), 4.0);
    assert!(metrics.sum("warmpath_config_errors") >= 1.0);
    let log = stack.envoy.process().stderr();
    assert!(log.contains("plugin configuration: stear: unknown field"), "{log}");
}

in_both_wirings! {
    what_cannot_be_keyed_passes:
        bodies_that_cannot_be_keyed_pass_header, bodies_that_cannot_be_keyed_pass_filter_state;
    large_bodies:
        bodies_of_any_size_pass_header, bodies_beyond_max_request_bytes_are_413_filter_state;
    spoofed_headers:
        spoofed_headers_are_stripped_header, spoofed_headers_are_stripped_filter_state;
    a_bad_plugin_configuration:
        with_a_bad_plugin_configuration_requests_pass_header, with_a_bad_plugin_configuration_requests_pass_filter_state;
}
