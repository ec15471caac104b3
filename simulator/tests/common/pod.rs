//! A pod of the demo's model, and HTTP to it.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use warmpath_simulator::driver::Pace;
use warmpath_simulator::model::{ModelConfig, PodModel};
use warmpath_simulator::{Pod, PodConfig, PodHandle};

pub const LIMIT: Duration = Duration::from_secs(60);
pub const BLOCK: usize = 16;

pub fn model() -> Arc<PodModel> {
    static MODEL: OnceLock<Arc<PodModel>> = OnceLock::new();
    let load = || {
        let asset = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo/assets").join(name);
        Arc::new(
            PodModel::load(ModelConfig {
                name: "demo".to_owned(),
                tokenizer: asset("tokenizer.json"),
                tokenizer_config: Some(asset("tokenizer_config.json")),
                config: Some(asset("config.json")),
                chat_template: Some(asset("chat_template.jinja")),
                lora_adapters: vec!["adapter".to_owned()],
                max_model_len: 4096,
            })
            .expect("the demo's assets load"),
        )
    };
    MODEL.get_or_init(load).clone()
}

pub fn config() -> PodConfig {
    PodConfig { pace: Pace::Instant, block_size: BLOCK, gpu_blocks: 512, ..PodConfig::new(model()) }
}

pub fn start() -> PodHandle {
    Pod::start(config()).expect("a pod starts on free ports")
}

/// Status, head and body of an answer; an error when the connection is cut.
pub fn http(
    pod: &str,
    method: &str,
    path: &str,
    head: &str,
    body: &str,
) -> std::io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(pod)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n{head}content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok((status, head.to_owned(), body.to_owned()))
}

pub fn post(pod: &PodHandle, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, body) = http(&pod.listen, "POST", path, "", &body.to_string()).expect("an answer");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

pub fn complete(pod: &PodHandle, tokens: std::ops::Range<u32>) -> Value {
    let prompt: Vec<u32> = tokens.collect();
    let (status, answer) = post(pod, "/v1/completions", &json!({"prompt": prompt, "max_tokens": 1}));
    assert_eq!(status, 200, "{answer}");
    answer
}

pub fn switch(pod: &PodHandle, path: &str) {
    let (status, _, body) = http(&pod.listen, "POST", path, "", "").expect("an answer");
    assert_eq!(status, 200, "{body}");
}

pub fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("cached_tokens")
}
