//! One stream of asks over the sidecar's real sockets: order, bounds, ends.

mod support;

use std::time::Duration;

use indexer_sidecar::pick::ask::PROMPTS_MAX;
use serde_json::json;
use support::{Sidecar, ask, config, endpoints, request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{AskRequest, AskResponse, PickPromptRequest};

const PODS: [&str; 2] = ["127.0.0.1:8001", "127.0.0.1:8002"];

/// How long an answer may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn pick(id: u64) -> AskRequest {
    AskRequest { id, ask: Some(Ask::Pick(request())), ..AskRequest::default() }
}

/// A body that takes long beside a pick.
fn prompt() -> Ask {
    let body = json!({"prompt": "the quick brown fox jumps over the lazy dog ".repeat(20_000)}).to_string();
    let pick = Some(request());
    Ask::Prompt(PickPromptRequest { pick, path: "/v1/completions".to_owned(), body: body.into_bytes() })
}

async fn with_prompts() -> Sidecar {
    let mut config = config();
    config["models"][0]["tokenize"] = json!("sidecar");
    config["prompts"] = json!({"deadline": "30s", "at_once": 1});
    let sidecar = Sidecar::boot(&config, Some(&endpoints(&PODS))).await;
    sidecar.wait_for_metric("warmpath_indexer_endpoints{model=\"demo\"} 2").await;
    sidecar
}

/// A stream that stays open.
async fn open(sidecar: &Sidecar) -> (mpsc::Sender<AskRequest>, Streaming<AskResponse>) {
    let (asks, asked) = mpsc::channel(1024);
    let answers = sidecar.unix().await.ask(ReceiverStream::new(asked)).await.unwrap().into_inner();
    (asks, answers)
}

async fn next(answers: &mut Streaming<AskResponse>) -> Option<AskResponse> {
    tokio::time::timeout(SOON, answers.message()).await.expect("no answer").unwrap()
}

#[tokio::test]
async fn each_ask_has_one_answer_under_its_number() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let (asks, mut answers) = open(&sidecar).await;
    let ids = [7, u64::MAX, 0, 7];
    for id in ids {
        asks.send(pick(id)).await.unwrap();
        let answer = next(&mut answers).await.unwrap();
        assert_eq!((answer.id, answer.status, answer.pick.unwrap().endpoints.len()), (id, 0, 2));
    }
    // Many at once, and then the asker is done.
    for id in 0..1000 {
        asks.send(pick(id)).await.unwrap();
    }
    drop(asks);
    for id in 0..1000 {
        assert_eq!(next(&mut answers).await.unwrap().id, id);
    }
    assert_eq!(next(&mut answers).await, None);
}

#[tokio::test]
async fn an_ask_of_a_kind_that_is_not_known_is_answered_so() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let (asks, mut answers) = open(&sidecar).await;
    asks.send(AskRequest { id: 5, ..AskRequest::default() }).await.unwrap();
    let answer = next(&mut answers).await.unwrap();
    assert_eq!((answer.id, answer.status, answer.pick), (5, Code::Unimplemented as u32, None));
    asks.send(pick(6)).await.unwrap();
    assert_eq!(next(&mut answers).await.unwrap().id, 6, "the stream goes on");
}

#[tokio::test]
async fn a_prompt_holds_up_no_pick_that_comes_after_it() {
    let sidecar = with_prompts().await;
    let answers = ask(&mut sidecar.tcp().await, [prompt(), Ask::Pick(request())]).await.unwrap();
    let ids: Vec<_> = answers.iter().map(|answer| (answer.id, answer.status)).collect();
    assert_eq!(ids, [(2, 0), (1, 0)]);
    assert!(answers[1].pick.as_ref().unwrap().prompt_keys > 0);
}

#[tokio::test]
async fn prompts_of_a_stream_are_bounded() {
    let sidecar = with_prompts().await;
    let body = Ask::Prompt(PickPromptRequest {
        pick: Some(request()),
        path: "/v1/completions".to_owned(),
        body: br#"{"prompt": "a"}"#.to_vec(),
    });
    // The first takes the only place, so that the others wait.
    let asks = std::iter::once(prompt()).chain(std::iter::repeat_n(body, PROMPTS_MAX));
    let answers = ask(&mut sidecar.tcp().await, asks).await.unwrap();
    assert_eq!(answers.len(), PROMPTS_MAX + 1);
    let busy: Vec<_> =
        answers.iter().filter(|answer| answer.status == Code::ResourceExhausted as u32).collect();
    assert_eq!(busy.iter().map(|answer| answer.id).collect::<Vec<_>>(), [PROMPTS_MAX as u64 + 1]);
    sidecar.wait_for_metric("warmpath_indexer_prompts_total{outcome=\"busy\"} 1").await;
}

#[tokio::test]
async fn the_end_of_the_sidecar_ends_its_streams_after_their_answers() {
    let sidecar = with_prompts().await;
    let (asks, mut answers) = open(&sidecar).await;
    let (_idle, mut idle_answers) = open(&sidecar).await;
    asks.send(AskRequest { id: 1, ask: Some(prompt()), ..AskRequest::default() }).await.unwrap();
    asks.send(pick(2)).await.unwrap();
    assert_eq!(next(&mut answers).await.unwrap().id, 2);
    sidecar.shutdown.cancel();
    assert_eq!(next(&mut idle_answers).await, None);
    assert_eq!(next(&mut answers).await.unwrap().id, 1);
    assert_eq!(next(&mut answers).await, None);
    tokio::time::timeout(SOON, sidecar.task).await.expect("does not end").unwrap().unwrap();
}
