//! The ways of a request that goes well.

use prost::Message;
use warmpath_core::definition::Mode;
use warmpath_proto::v1::{AskResponse, PickResponse, ScoredEndpoint};

use crate::mock::{MockHost, Request, ready, root_with};
use crate::root::Root;
use crate::stream::Flow;

pub(super) const HEADER: &str = r#"{"steer": "header"}"#;
pub(super) const FILTER_STATE: &str = r#"{"steer": "filter_state"}"#;
pub(super) const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":path", "/v1/completions?x=1"),
    ("x-request-id", "r-1"),
    ("traceparent", "00-t"),
];
/// Five tokens: two blocks of 2, and the last token.
pub(super) const BODY: &[u8] = br#"{"model": "demo", "prompt": "a b a b a", "max_tokens": 9}"#;

pub(super) fn answer(pick_id: u64, addresses: &[&str]) -> PickResponse {
    let endpoints = addresses.iter().map(|address| ScoredEndpoint {
        address: (*address).to_owned(),
        match_blocks: 1,
        score: 0.5,
        ..ScoredEndpoint::default()
    });
    PickResponse { endpoints: endpoints.collect(), pick_id, ..PickResponse::default() }
}

/// Sends headers and a body in one piece; what the body callback said.
pub(super) fn send(host: &MockHost, stream: &mut Request, body: &[u8]) -> Flow {
    host.request(POST);
    stream.on_request_headers(host, false);
    host.body.replace(body.to_vec());
    stream.on_request_body(host, body.len(), true)
}

/// Answers the last ask.
pub(super) fn give(host: &MockHost, root: &mut Root, pick: PickResponse) {
    reply(host, root, &AskResponse { id: host.last_ask().id, status: 0, pick: Some(pick) });
}

/// A message of the sidecar on the newest stream.
pub(super) fn reply(host: &MockHost, root: &mut Root, answer: &AskResponse) {
    message(host, root, answer.encode_to_vec());
}

pub(super) fn message(host: &MockHost, root: &mut Root, message: Vec<u8>) {
    let bytes = message.len();
    host.grpc_answer.replace(message);
    root.on_line_message(host, host.line(), bytes);
}

#[test]
fn header_mode_holds_headers_and_body_until_the_answer() {
    let (host, mut root, mut stream) = ready(HEADER);
    host.request(POST);
    assert_eq!(stream.on_request_headers(&host, false), Flow::Hold);
    assert_eq!(host.header("x-warmpath"), None, "the guard route must match while held");
    let (half, rest) = BODY.split_at(20);
    host.body.replace(half.to_vec());
    assert_eq!(stream.on_request_body(&host, half.len(), false), Flow::Hold);
    host.body.replace([half, rest].concat());
    assert_eq!(stream.on_request_body(&host, BODY.len(), true), Flow::Hold);
    assert_eq!((host.metric("warmpath.held"), host.metric("warmpath.released")), (1, 0));

    let opened = host.opened.borrow().clone();
    assert_eq!(opened.len(), 1, "one stream for all");
    assert_eq!(opened[0].service.as_bytes(), b"\x0a\x0f\x0a\x0dwarmpath_pick");
    assert_eq!(opened[0].method, "Ask");
    assert_eq!(host.last_ask().traceparent, "00-t");
    let pick = host.last_pick();
    assert_eq!((pick.model.as_str(), pick.request_id.as_str()), ("demo", "r-1"));
    assert_eq!((pick.block_keys.len(), pick.token_count, pick.block_tokens), (2, 5, 2));
    assert_eq!((pick.output_tokens_max, pick.observe), (9, false));

    give(&host, &mut root, answer(3, &["10.0.0.1:80", "10.0.0.2:80"]));
    assert_eq!(host.resumed.get(), 1);
    assert_eq!(host.header("x-gateway-destination-endpoint").unwrap(), "10.0.0.1:80,10.0.0.2:80");
    assert_eq!(host.header("x-warmpath").unwrap(), "steered");
    assert_eq!(host.state("warmpath_reason").unwrap(), "steered");
    assert_eq!(host.state("warmpath_match").unwrap(), "1/2");
    assert_eq!(host.state("warmpath_endpoint").unwrap(), "10.0.0.1:80");
    assert_eq!((host.metric("warmpath.picks"), host.metric("warmpath.released")), (1, 1));
    assert_eq!(host.passes_total(), 0);
}

#[test]
fn filter_state_mode_holds_the_body_and_touches_no_header() {
    let (host, mut root, mut stream) = ready(FILTER_STATE);
    host.request(POST);
    assert_eq!(stream.on_request_headers(&host, false), Flow::Go);
    host.headers_writable.set(false);
    host.body.replace(BODY.to_vec());
    assert_eq!(stream.on_request_body(&host, BODY.len(), true), Flow::Hold);
    give(&host, &mut root, answer(3, &["10.0.0.1:80"]));
    assert_eq!(host.resumed.get(), 1);
    assert_eq!(host.state("kv_endpoint").unwrap(), "10.0.0.1:80");
    assert_eq!(host.header("x-warmpath"), None);
    assert_eq!(host.state("warmpath_reason").unwrap(), "steered");
}

/// The answer to [`BODY`] of an endpoint whose ranks share one port.
fn ranked(rank: Option<u32>) -> PickResponse {
    let endpoint = ScoredEndpoint {
        address: "10.0.0.1:80".into(),
        match_blocks: 1,
        data_parallel_rank: rank,
        ..ScoredEndpoint::default()
    };
    PickResponse { endpoints: vec![endpoint], pick_id: 3, ..PickResponse::default() }
}

#[test]
fn the_engine_is_told_the_picked_rank_in_place_of_the_clients() {
    // A rank that no pick names is the client's affair.
    for (rank, told) in [(Some(1), "1"), (Some(0), "0"), (None, "7")] {
        let with_client = [POST, &[("x-data-parallel-rank", "7")]].concat();
        let (host, mut root, mut stream) = ready(HEADER);
        host.request(&with_client);
        stream.on_request_headers(&host, false);
        host.body.replace(BODY.to_vec());
        stream.on_request_body(&host, BODY.len(), true);
        give(&host, &mut root, ranked(rank));
        assert_eq!(host.header("x-data-parallel-rank").as_deref(), Some(told));
        assert_eq!(host.header("x-gateway-destination-endpoint").as_deref(), Some("10.0.0.1:80"));

        let (host, mut root, mut stream) = ready(FILTER_STATE);
        send(&host, &mut stream, BODY);
        give(&host, &mut root, ranked(rank));
        assert_eq!(host.state("warmpath_rank"), rank.map(|rank| rank.to_string()));
    }
}

#[test]
fn an_observed_pick_names_no_rank() {
    let (host, mut root, mut stream) = ready(r#"{"steer": "header", "mode": "observe"}"#);
    send(&host, &mut stream, BODY);
    give(&host, &mut root, ranked(Some(1)));
    assert_eq!((host.header("x-data-parallel-rank"), host.state("warmpath_rank")), (None, None));
}

#[test]
fn a_pass_in_filter_state_mode_names_no_endpoint() {
    let (host, _, mut stream) = ready(FILTER_STATE);
    host.request(POST);
    stream.on_request_headers(&host, false);
    host.headers_writable.set(false);
    host.body.replace(b"{".to_vec());
    assert_eq!(stream.on_request_body(&host, 1, true), Flow::Go);
    assert_eq!(host.state("kv_endpoint"), None);
    assert_eq!(host.state("warmpath_reason").unwrap(), "malformed_json");
    assert_eq!(host.resumed.get(), 0, "going on by itself");
}

#[test]
fn trailers_end_the_body() {
    for config in [HEADER, FILTER_STATE] {
        let (host, mut root, mut stream) = ready(config);
        host.request(POST);
        stream.on_request_headers(&host, false);
        host.body.replace(BODY.to_vec());
        assert_eq!(stream.on_request_body(&host, BODY.len(), false), Flow::Hold);
        assert_eq!(stream.on_request_trailers(&host), Flow::Hold);
        give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
        assert_eq!((host.resumed.get(), host.metric("warmpath.picks")), (1, 1));
        assert_eq!(stream.on_request_trailers(&host), Flow::Go);
    }
}

#[test]
fn observing_holds_nothing_and_asks_all_the_same() {
    for config in
        [r#"{"steer": "header", "mode": "observe"}"#, r#"{"steer": "filter_state", "mode": "observe"}"#]
    {
        let (host, mut root, mut stream) = ready(config);
        let vm = root.vm();
        host.request(POST);
        assert_eq!(stream.on_request_headers(&host, false), Flow::Go);
        assert_eq!(host.header("x-warmpath").is_some(), config.contains("header"));
        host.headers_writable.set(false);
        for part in BODY.chunks(10) {
            host.body.replace(part.to_vec());
            assert_eq!(stream.on_request_body(&host, part.len(), false), Flow::Go);
        }
        assert_eq!(vm.copied_bytes.get(), BODY.len());
        assert_eq!(stream.on_request_body(&host, 0, true), Flow::Go);
        assert_eq!(vm.copied_bytes.get(), 0);
        let pick = host.last_pick();
        assert!(pick.observe);
        assert_eq!(pick.block_keys.len(), 2);
        give(&host, &mut root, answer(0, &["10.0.0.1:80"]));
        assert_eq!((host.resumed.get(), host.metric("warmpath.held")), (0, 0));
        assert_eq!((host.metric("warmpath.observed"), host.metric("warmpath.picks")), (1, 0));
        assert_eq!((host.state("kv_endpoint"), host.header("x-gateway-destination-endpoint")), (None, None));
        assert_eq!(host.state("warmpath_reason").unwrap(), "observed");
        assert_eq!(host.state("warmpath_match").unwrap(), "1/2");
    }
}

#[test]
fn the_more_careful_mode_wins() {
    let cases = [
        ("steer", Mode::Off, "mode_off"),
        ("off", Mode::Steer, "mode_off"),
        ("observe", Mode::Steer, "observed"),
        ("steer", Mode::Observe, "observed"),
        ("steer", Mode::Steer, "steered"),
    ];
    for (own, catalog, reason) in cases {
        let host = MockHost::new(&format!(r#"{{"steer": "header", "mode": "{own}"}}"#));
        let mut root = root_with(&host, catalog, &["demo"]);
        let mut stream = Request::new(root.vm());
        send(&host, &mut stream, BODY);
        if reason != "mode_off" {
            give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
        }
        assert_eq!(host.state("warmpath_reason").unwrap(), reason, "{own} {catalog:?}");
    }
}

#[test]
fn a_chat_is_keyed_through_the_template() {
    let (host, _, mut stream) = ready(HEADER);
    let chat: &[(&str, &str)] = &[(":method", "POST"), (":path", "/v1/chat/completions")];
    host.request(chat);
    stream.on_request_headers(&host, false);
    let body = br#"{"messages": [{"role": "user", "content": "a b a b"}]}"#;
    host.body.replace(body.to_vec());
    assert_eq!(stream.on_request_body(&host, body.len(), true), Flow::Hold);
    let pick = host.last_pick();
    assert_eq!((pick.token_count, pick.block_keys.len()), (5, 2));
}

#[test]
fn models_are_told_apart_by_the_requests_model() {
    let host = MockHost::new(HEADER);
    let vm = root_with(&host, Mode::Steer, &["demo", "other"]).vm();
    let cases = [("", "demo"), (r#""model": "other","#, "other"), (r#""model": "other-lora","#, "other")];
    let mut keys = Vec::new();
    for (field, model) in cases {
        let mut stream = Request::new(vm.clone());
        let body = format!(r#"{{{field} "prompt": "a b a b a"}}"#);
        assert_eq!(send(&host, &mut stream, body.as_bytes()), Flow::Hold);
        let pick = host.last_pick();
        assert_eq!(pick.model, model);
        keys.push(pick.block_keys);
    }
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

#[test]
fn many_keys_are_cut_and_counted() {
    let (host, mut root, mut stream) = ready(r#"{"steer": "header", "keys_max": 3}"#);
    let body = format!(r#"{{"prompt": "{}"}}"#, "a b ".repeat(10));
    send(&host, &mut stream, body.as_bytes());
    let pick = host.last_pick();
    assert_eq!((pick.block_keys.len(), pick.token_count), (3, 20));
    assert_eq!(host.metric("warmpath.keys_truncated"), 1);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!(host.state("warmpath_match").unwrap(), "1/3");
}

#[test]
fn our_headers_from_a_client_are_stripped() {
    for (config, path) in
        [(HEADER, "/v1/completions"), (FILTER_STATE, "/v1/completions"), (FILTER_STATE, "/other")]
    {
        let (host, _, mut stream) = ready(config);
        host.request(&[
            (":method", "POST"),
            (":path", path),
            ("x-gateway-destination-endpoint", "6.6.6.6:80"),
            ("x-warmpath", "steered"),
        ]);
        stream.on_request_headers(&host, false);
        assert_eq!(host.header("x-gateway-destination-endpoint"), None);
        assert_eq!(host.header("x-warmpath"), None, "{config} {path}");
    }
}
