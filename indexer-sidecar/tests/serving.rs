//! The whole sidecar, asked over its real sockets. No pod publishes here: see `picking.rs` for what is matched.

mod support;

use indexer_sidecar::pick::LISTED_MAX;
use serde_json::{Value, json};
use support::{Sidecar, ask, config, endpoints, http, listed, model_file, pick, report, request};
use tonic::Code;
use warmpath_core::definition::{AssetRef, ModelDefinition};
use warmpath_core::model::Model;
use warmpath_core::request::{self as body, Api};
use warmpath_core::tokenizer::HfTokenizer;
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{PickPromptRequest, PickRequest, Stage};

const PODS: [&str; 3] = ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"];

#[tokio::test]
async fn without_matches_the_least_outstanding_is_first_on_both_sockets() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let (mut tcp, mut unix) = (sidecar.tcp().await, sidecar.unix().await);
    let mut picks = Vec::new();
    for round in 0..6 {
        let client = if round % 2 == 0 { &mut tcp } else { &mut unix };
        let answer = pick(client, request()).await;
        assert_eq!(answer.endpoints.len(), 3);
        assert!(answer.endpoints.iter().all(|endpoint| endpoint.match_blocks == 0 && endpoint.score == 0.0));
        picks.push((answer.pick_id, answer.endpoints[0].address.clone()));
    }
    for pod in PODS {
        assert_eq!(picks.iter().filter(|(_, first)| first == pod).count(), 2, "{picks:?}");
        sidecar.wait_for_metric(&format!("warmpath_indexer_outstanding{{endpoint=\"{pod}\"}} 2")).await;
    }
    let (over, freed) = &picks[3];
    report(&mut tcp, *over, freed, Stage::End).await;
    report(&mut tcp, *over, freed, Stage::End).await;
    assert_eq!(listed(&pick(&mut unix, request()).await)[0], freed);
    let text = sidecar.metrics().await;
    for line in [
        "warmpath_indexer_reports_total{stage=\"end\",pick=\"followed\"} 1",
        "warmpath_indexer_reports_total{stage=\"end\",pick=\"unknown\"} 1",
        "warmpath_indexer_picks_total{outcome=\"unmatched\",observed=\"false\"} 7",
        "warmpath_indexer_endpoints{model=\"demo\"} 3",
        "warmpath_indexer_endpoints_live{model=\"demo\"} 0",
        "warmpath_indexer_mode{mode=\"steer\"} 1",
    ] {
        assert!(text.lines().any(|seen| seen == line), "no {line:?} in\n{text}");
    }
}

#[tokio::test]
async fn the_count_follows_the_endpoint_that_served() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let mut client = sidecar.unix().await;
    let answer = pick(&mut client, request()).await;
    let other = answer.endpoints[1].address.clone();
    report(&mut client, answer.pick_id, &other, Stage::FirstByte).await;
    let text = sidecar.metrics().await;
    assert!(text.contains(&format!("warmpath_indexer_outstanding{{endpoint=\"{other}\"}} 1")), "{text}");
    assert!(!text.contains(&format!("endpoint=\"{}\"", answer.endpoints[0].address)), "{text}");
    assert!(text.contains("warmpath_indexer_reports_total{stage=\"first_byte\",pick=\"moved\"} 1"), "{text}");
}

#[tokio::test]
async fn an_observed_pick_does_not_count() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let mut client = sidecar.tcp().await;
    for _ in 0..5 {
        let answer = pick(&mut client, PickRequest { observe: true, ..request() }).await;
        assert_eq!((answer.pick_id, answer.endpoints.len()), (0, 3));
    }
    let text = sidecar.metrics().await;
    assert!(!text.contains("warmpath_indexer_outstanding{"), "{text}");
}

#[tokio::test]
async fn candidates_are_honoured_and_unknown_models_get_nothing() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let mut client = sidecar.tcp().await;
    let subset = vec![PODS[2].to_owned(), "10.0.0.9:1".to_owned()];
    let answer = pick(&mut client, PickRequest { candidates: subset, ..request() }).await;
    assert_eq!(listed(&answer), [PODS[2]]);
    let nobody = vec!["10.0.0.9:1".to_owned()];
    let answer = pick(&mut client, PickRequest { candidates: nobody, ..request() }).await;
    assert_eq!((listed(&answer).len(), answer.pick_id), (0, 0));
    let answer = pick(&mut client, PickRequest { model: "other".into(), ..request() }).await;
    assert_eq!((listed(&answer).len(), answer.pick_id), (0, 0));
    let text = sidecar.metrics().await;
    assert!(
        text.contains("warmpath_indexer_picks_total{outcome=\"no_endpoint\",observed=\"false\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("warmpath_indexer_picks_total{outcome=\"unknown_model\",observed=\"false\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn an_answer_lists_a_bounded_number_of_endpoints() {
    let pods: Vec<String> = (1..=40).map(|port| format!("127.0.0.1:{port}")).collect();
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let sidecar = Sidecar::boot(&config(), Some(&endpoints(&pods))).await;
    sidecar.wait_for_metric("warmpath_indexer_endpoints{model=\"demo\"} 40").await;
    let answer = pick(&mut sidecar.tcp().await, request()).await;
    assert_eq!(answer.endpoints.len(), LISTED_MAX);
}

#[tokio::test]
async fn the_asset_port_hands_out_the_catalog_and_its_files() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let catalog = sidecar.catalog().await;
    let model = &catalog["models"][0];
    assert_eq!((&catalog["mode"], &model["served_names"]), (&json!("steer"), &json!(["demo"])));
    let get = async |asset: &Value| {
        let asset: AssetRef = serde_json::from_value(asset.clone()).unwrap();
        let (status, body) = http(sidecar.addresses.assets, "GET", &asset.path(), "").await;
        assert_eq!(status, 200);
        assert_eq!(asset, AssetRef::new(asset.sha256.clone(), &body));
        body
    };
    let template = std::fs::read(model_file("chat_template.jinja")).unwrap();
    assert_eq!(get(&model["chat_template"]).await, template);
    assert!(!get(&model["tokenize"]["inline"]).await.is_empty());
    let (status, shown) = sidecar.admin("GET", "/v1/models", "").await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (status, &shown[0]["tokenize"], &shown[0]["chat"]),
        (200, &json!("inline"), &json!("template"))
    );
    let (status, _) = http(sidecar.addresses.assets, "GET", "/v1/assets/00", "").await;
    assert_eq!(status, 404);
}

/// vLLM runs Mistral's own tokenizer and renders chats with it, unless it is told otherwise.
#[tokio::test]
async fn mistrals_own_files_make_completions_and_refuse_chats() {
    let recorded = include_str!("../../core/tests/data/pipeline/mistral.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let folder = tempfile::tempdir().unwrap();
    support::write(&folder.path().join("tekken.json"), &recorded["tekken"][0]["tekken"]);
    for (mode, class, chat) in [("auto", "Tekkenizer", "refused"), ("hf", "TokenizersBackend", "template")] {
        let mut config = config();
        let model = &mut config["models"][0];
        std::fs::copy(model_file("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        model["tokenizer"] = json!(folder.path().join("tokenizer.json"));
        model["tokenizer_mode"] = json!(mode);
        let sidecar = Sidecar::boot(&config, None).await;
        let (_, shown) = sidecar.admin("GET", "/v1/models", "").await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let seen = (&shown[0]["class"], &shown[0]["chat"], &shown[0]["tokenize"]);
        assert_eq!(seen, (&json!(class), &json!(chat), &json!("inline")), "{shown}");
        let why = shown[0]["chat_refused"].as_str().unwrap_or_default();
        assert_eq!(why.contains("`tokenizer_mode`"), mode == "auto", "{shown}");
    }
}

#[tokio::test]
async fn the_mode_is_switched_on_the_admin_port() {
    let sidecar = Sidecar::with_pods(&PODS).await;
    let before = sidecar.catalog().await;
    let (status, body) = sidecar.admin("PUT", "/v1/mode", "{\"mode\": \"off\"}").await;
    assert_eq!((status, body.as_str()), (200, "{\"mode\":\"off\"}"));
    let after = sidecar.catalog().await;
    assert_eq!(after["mode"], "off");
    assert_ne!(before["digest"], after["digest"]);
    assert_eq!(before["models"], after["models"]);
    assert!(pick(&mut sidecar.tcp().await, request()).await.endpoints.is_empty());
    let (status, body) = sidecar.admin("PUT", "/v1/mode", "{\"mode\": \"on\"}").await;
    assert!(status == 400 && body.contains("unknown variant `on`"), "{status} {body}");
}

#[tokio::test]
async fn too_many_keys_are_cut_and_a_message_beyond_all_bounds_is_refused() {
    let mut config = config();
    config["pick"]["keys_max"] = json!(100);
    config["prompts"] = json!({"body_bytes_max": "1KiB"});
    let sidecar = Sidecar::boot(&config, Some(&endpoints(&PODS))).await;
    sidecar.wait_for_pods(&PODS).await;
    let mut client = sidecar.tcp().await;
    let answer = pick(&mut client, PickRequest { block_keys: vec![7; 150], ..request() }).await;
    assert_eq!(answer.endpoints.len(), 3);
    sidecar.wait_for_metric("warmpath_indexer_keys_cut_total 1").await;
    let huge = Ask::Pick(PickRequest { block_keys: vec![7; 100_000], ..request() });
    let refused = ask(&mut client, [huge]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
}

/// The keys that a filter would send for this body.
fn keys_of(text: &str) -> Vec<u64> {
    let definition = ModelDefinition {
        name: "demo".to_owned(),
        default: true,
        seed: 0x0123_4567_89ab_cdef,
        block_tokens: 16,
        ..ModelDefinition::default()
    };
    let tokenizer = std::fs::read(model_file("tokenizer.json")).unwrap();
    let template = std::fs::read_to_string(model_file("chat_template.jinja")).unwrap();
    let tokenizer = Box::new(HfTokenizer::from_json(&tokenizer).unwrap());
    let model = Model::load(definition, tokenizer, Some(&template)).unwrap();
    let request = body::parse(Api::ChatCompletions, text.as_bytes()).unwrap();
    model.keys(&request, None).unwrap().keys.iter().map(|key| key.0).collect()
}

#[tokio::test]
async fn a_prompt_is_keyed_here_where_the_model_says_so() {
    let mut config = config();
    config["models"][0]["tokenize"] = json!("sidecar");
    config["prompts"] = json!({"deadline": "10s"});
    let sidecar = Sidecar::boot(&config, Some(&endpoints(&PODS))).await;
    sidecar.wait_for_metric("warmpath_indexer_endpoints{model=\"demo\"} 3").await;
    assert_eq!(sidecar.catalog().await["models"][0]["tokenize"], "sidecar");
    let text = "the quick brown fox jumps over the lazy dog ".repeat(20);
    let body = json!({"messages": [{"role": "user", "content": text}]}).to_string();
    let prompt = |path: &str, body: &str| PickPromptRequest {
        pick: Some(PickRequest { model: "demo".to_owned(), block_tokens: 16, ..PickRequest::default() }),
        path: path.to_owned(),
        body: body.as_bytes().to_vec(),
    };
    let mut client = sidecar.tcp().await;
    let mut asked = async |prompt| ask(&mut client, [Ask::Prompt(prompt)]).await.unwrap().remove(0);
    let answer = asked(prompt("/v1/chat/completions", &body)).await.pick.unwrap();
    assert_eq!(answer.endpoints.len(), 3);
    assert_eq!(answer.prompt_keys as usize, keys_of(&body).len());
    let answer = asked(prompt("/v1/chat/completions", "{}")).await.pick.unwrap();
    assert!(answer.endpoints.is_empty() && !answer.pass_reason.is_empty(), "{answer:?}");
    let mut unknown = prompt("/v1/chat/completions", &body);
    unknown.pick.as_mut().unwrap().model = "nobody".to_owned();
    let refused = asked(unknown).await;
    assert_eq!((refused.status, refused.pick), (Code::FailedPrecondition as u32, None));
    sidecar.wait_for_metric("warmpath_indexer_prompts_total{outcome=\"keyed\"} 1").await;
    sidecar
        .wait_for_metric("warmpath_indexer_models{model=\"demo\",tokenize=\"sidecar\",chat=\"template\"} 1")
        .await;
}
