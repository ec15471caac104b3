//! A whole pod as an HTTP client sees it.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::pod::{BLOCK, LIMIT, cached, complete, config, http, post, start, switch};
use serde_json::{Value, json};
use tokio::time::timeout;
use warmpath_simulator::driver::Pace;
use warmpath_simulator::pod::End;
use warmpath_simulator::publisher::EventsAt;
use warmpath_simulator::{Pod, PodConfig};

#[test]
fn answers_have_vllms_shape_and_say_what_was_cached() {
    let pod = start();
    assert_eq!(cached(&complete(&pod, 0..40)), 0);
    let again = complete(&pod, 0..40);
    assert_eq!(cached(&again), 32);
    assert_eq!(again["object"], "text_completion");
    assert_eq!(again["choices"][0]["finish_reason"], "length");
    let messages = json!([{"role": "user", "content": "Where do the birds go in winter?"}]);
    let chat = json!({"model": "demo", "messages": messages, "max_completion_tokens": 5});
    let (status, answer) = post(&pod, "/v1/chat/completions", &chat);
    assert_eq!((status, &answer["usage"]["completion_tokens"]), (200, &json!(5)));
    assert!(!answer["choices"][0]["message"]["content"].as_str().expect("text").is_empty());
    let several = json!({"prompt": ["one", "two", [1, 2, 3]], "max_tokens": 2});
    let (_, answer) = post(&pod, "/v1/completions", &several);
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(3));
    let (_, head, _) = http(&pod.listen, "GET", "/health", "", "").expect("an answer");
    assert!(head.contains(&format!("x-pod: {}", pod.listen)), "{head}");
}

#[test]
fn the_apis_that_are_not_openais_first_two_have_their_own_shapes() {
    let pod = start();
    let messages = json!([{"role": "user", "content": "Where do the birds go in winter?"}]);
    let asked = json!({"model": "demo", "messages": messages, "max_tokens": 3});
    let (_, message) = post(&pod, "/v1/messages", &asked);
    assert_eq!((&message["type"], &message["usage"]["output_tokens"]), (&json!("message"), &json!(3)));
    assert!(!message["content"][0]["text"].as_str().expect("text").is_empty(), "{message}");
    let asked = json!({"input": "Where do the birds go in winter?", "max_output_tokens": 3});
    let (_, response) = post(&pod, "/v1/responses", &asked);
    assert_eq!(response["usage"]["input_tokens"], message["usage"]["input_tokens"]);
    assert!(!response["output"][0]["content"][0]["text"].as_str().expect("text").is_empty(), "{response}");
    let asked = json!({"token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 2}});
    let (_, generated) = post(&pod, "/inference/v1/generate", &asked);
    assert_eq!(generated["choices"][0]["token_ids"].as_array().map(Vec::len), Some(2));
    let asked = json!({"input": "hello", "stream": true});
    assert_eq!(post(&pod, "/v1/responses", &asked).0, 400);
}

#[test]
fn an_answer_sent_back_is_found_in_the_cache() {
    let pod = start();
    let prompt = "Tell me about the sea, the wind and the people who live by it, as long as you can.";
    let (_, answer) = post(&pod, "/v1/completions", &json!({"prompt": prompt, "max_tokens": 80}));
    let text = answer["choices"][0]["text"].as_str().expect("text");
    let before = answer["usage"]["prompt_tokens"].as_u64().expect("prompt_tokens");
    let (_, answer) =
        post(&pod, "/v1/completions", &json!({"prompt": format!("{prompt}{text}"), "max_tokens": 1}));
    assert_eq!(answer["usage"]["prompt_tokens"], before + 80);
    // All but the token generated last was computed; only full blocks count.
    assert_eq!(cached(&answer), (before + 79) / BLOCK as u64 * BLOCK as u64);
}

#[test]
fn streams_end_with_usage_and_done() {
    let pod = start();
    let body = json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "stream": true,
        "stream_options": {"include_usage": true}});
    let (status, head, text) =
        http(&pod.listen, "POST", "/v1/chat/completions", "", &body.to_string()).expect("an answer");
    assert_eq!(status, 200);
    assert!(head.contains("text/event-stream"), "{head}");
    let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    // The role, three tokens, usage, the end.
    assert_eq!(data.len(), 6, "{text}");
    let usage: Value = serde_json::from_str(data[4]).expect("JSON");
    assert_eq!(usage["usage"]["completion_tokens"], 3);
    assert_eq!(data[5], "[DONE]");
}

#[test]
fn bad_bodies_get_vllms_errors_and_unknown_features_an_answer() {
    let pod = start();
    let raw = |body: &str| http(&pod.listen, "POST", "/v1/completions", "", body).expect("an answer").0;
    assert_eq!(raw("{\"prompt\""), 400);
    assert_eq!(raw("[]"), 400);
    assert_eq!(raw("{\"prompt\": 5}"), 400);
    assert_eq!(raw("{\"prompt\": \"\"}"), 400);
    assert_eq!(raw("{\"prompt\": \"x\", \"max_tokens\": 0}"), 400);
    assert_eq!(raw("{\"prompt\": \"x\", \"max_tokens\": 4096}"), 400);
    assert_eq!(raw("{\"prompt\": \"x\", \"model\": \"other\"}"), 404);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let body = json!({"messages": image, "tools": tools, "max_tokens": 2});
    assert_eq!(post(&pod, "/v1/chat/completions", &body).0, 200);
    let large = json!({"prompt": "word ".repeat(200_000)});
    assert_eq!(post(&pod, "/v1/completions", &large).0, 400);
}

#[test]
fn a_hanging_pod_answers_when_it_is_released() {
    let pod = start();
    switch(&pod, "/sim/hang");
    let mut stream = TcpStream::connect(&pod.listen).expect("connects");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    write!(stream, "GET /health HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n").expect("writes");
    assert!(stream.read(&mut [0; 16]).is_err(), "it answers while it hangs");
    switch(&pod, "/sim/release");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pod_cuts_its_streams_and_frees_its_ports() {
    let slow = PodConfig { pace: Pace::Scale(1.0), ..config() };
    let pod = Pod::start(slow.clone()).expect("a pod starts");
    let listen = pod.listen.clone();
    let streaming = std::thread::spawn({
        let listen = listen.clone();
        move || {
            let body = json!({"prompt": "x", "max_tokens": 4000, "stream": true}).to_string();
            http(&listen, "POST", "/v1/completions", "", &body).map(|(_, _, text)| text.contains("[DONE]"))
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _ = http(&listen, "POST", "/sim/kill", "", "");
    assert_eq!(timeout(LIMIT, pod.ended()).await.expect("in time"), End::Killed);
    let cut = streaming.join().expect("no panic");
    assert!(!matches!(cut, Ok(true)), "the stream came to its end");
    let events = pod.events[0].clone();
    pod.kill();
    assert!(TcpStream::connect(&listen).is_err());
    let again = PodConfig { listen, events: Some(EventsAt::Bind(events)), ..slow };
    Pod::start(again).expect("the ports are free").shutdown();
}

#[test]
fn metrics_have_vllms_names_and_count_tokens() {
    let pod = start();
    complete(&pod, 0..40);
    complete(&pod, 0..40);
    let (_, _, text) = http(&pod.listen, "GET", "/metrics", "", "").expect("an answer");
    for line in [
        "vllm:num_requests_running{engine=\"0\",model_name=\"demo\"} 0.0",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"demo\"} 0.0",
        "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"demo\"} 80.0",
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"demo\"} 32.0",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"demo\"} 2.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
    }
    assert!(text.contains("vllm:cache_config_info{block_size=\"16\""), "{text}");
}
