//! The failure table: one row per way in which something is missing, each ending in the request going on.

use std::time::Duration;

use warmpath_core::definition::Mode;
use warmpath_proto::v1::PickResponse;

use super::steering::{BODY, FILTER_STATE, HEADER, POST, answer, give, send};
use crate::mock::{MockHost, ROOT, Request, ready, root_with, tick};
use crate::root::Root;
use crate::stream::{COPIED_BYTES_MAX, Flow};

/// The request went on unsteered for `reason`, marked, and was resumed `resumed` times.
fn passed(host: &MockHost, reason: &str, resumed: usize) {
    assert_eq!(host.passes(reason), 1, "{reason}");
    assert_eq!(host.passes_total(), 1, "{reason}");
    assert_eq!(host.metric("warmpath.picks"), 0);
    assert_eq!(host.header("x-gateway-destination-endpoint"), None);
    assert_eq!(host.header("x-warmpath").as_deref(), Some("passed"), "{reason}");
    assert_eq!(host.state("warmpath_reason").as_deref(), Some(reason));
    assert_eq!(host.resumed.get(), resumed, "{reason}");
    assert_eq!(host.metric("warmpath.held"), host.metric("warmpath.released"));
}

#[test]
fn requests_that_are_not_ours_pass_without_a_hold() {
    let post = (":method", "POST");
    let path = (":path", "/v1/completions");
    type Case<'a> = (&'a [(&'a str, &'a str)], bool, &'a str);
    let cases: [Case; 9] = [
        (&[(":method", "GET"), path], true, "method"),
        (&[(":method", "GET"), path, ("upgrade", "websocket")], false, "method"),
        (&[post, (":path", "/v1/files")], false, "path"),
        (&[post, (":path", "/v1/completions/")], false, "path"),
        (&[post], false, "path"),
        (&[post, path, ("content-encoding", "gzip")], false, "content_encoding"),
        (&[post, path, ("content-length", "1048577")], false, "body_too_large"),
        (&[post, path], true, "malformed_json"),
        (&[], false, "method"),
    ];
    for (headers, end_of_stream, reason) in cases {
        let (host, _, mut stream) = ready(HEADER);
        host.request(headers);
        assert_eq!(stream.on_request_headers(&host, end_of_stream), Flow::Go, "{reason}");
        passed(&host, reason, 0);
        host.headers_writable.set(false);
        assert_eq!(stream.on_request_body(&host, 9_000_000, false), Flow::Go);
        assert_eq!(stream.on_request_trailers(&host), Flow::Go);
        stream.on_log(&host);
        stream.on_done(&host);
        assert_eq!((host.metric("warmpath.held"), host.metric("warmpath.wrong_phase")), (0, 0));
    }
}

#[test]
fn identity_encoding_and_fitting_length_are_taken() {
    let (host, _, mut stream) = ready(HEADER);
    let more = [("content-encoding", "identity"), ("content-length", "1048576")];
    host.request(&[POST, &more].concat());
    assert_eq!(stream.on_request_headers(&host, false), Flow::Hold);
}

#[test]
fn a_path_that_is_not_configured_passes() {
    let (host, _, mut stream) = ready(r#"{"steer": "header", "paths": ["/v1/chat/completions"]}"#);
    assert_eq!(send(&host, &mut stream, BODY), Flow::Go);
    passed(&host, "path", 0);
}

#[test]
fn a_bad_configuration_passes_everything() {
    let host = MockHost::new(r#"{"steer": "header", "breaker": {"open": "1s"}}"#);
    let mut root = Root::new(ROOT);
    root.on_vm_start(&host);
    root.on_configure(&host);
    assert_eq!(host.metric("warmpath.config_errors"), 1);
    assert_eq!(host.tick.get(), None);
    root.on_tick(&host);
    root.on_http_answer(&host, 1, 1, 1);
    let mut stream = Request::new(root.vm());
    assert_eq!(send(&host, &mut stream, BODY), Flow::Go);
    passed(&host, "config_error", 0);
    assert!(host.gets.borrow().is_empty());
}

#[test]
fn without_a_catalog_requests_pass() {
    let host = MockHost::new(HEADER);
    let mut root = Root::new(ROOT);
    root.on_vm_start(&host);
    root.on_configure(&host);
    let mut stream = Request::new(root.vm());
    assert_eq!(send(&host, &mut stream, BODY), Flow::Go);
    passed(&host, "not_ready", 0);
}

#[test]
fn bodies_that_cannot_be_keyed_pass_at_their_end() {
    let cases: [(&[u8], &str); 5] = [
        (b"{", "malformed_json"),
        (b"", "malformed_json"),
        (br#"{"model": "nope", "prompt": "a"}"#, "unknown_model"),
        (br#"{"prompt": ""}"#, "empty_prompt"),
        (br#"{"prompt": {"a": 1}}"#, "invalid_field"),
    ];
    for (body, reason) in cases {
        let (host, _, mut stream) = ready(HEADER);
        assert_eq!(send(&host, &mut stream, body), Flow::Go, "{reason}");
        passed(&host, reason, 0);
        assert!(host.sent.borrow().is_empty());
    }
}

#[test]
fn a_body_that_grows_too_large_is_let_go_in_the_middle() {
    let (host, _, mut stream) = ready(r#"{"steer": "header", "body_bytes_max": "100B"}"#);
    host.request(POST);
    stream.on_request_headers(&host, false);
    assert_eq!(stream.on_request_body(&host, 100, false), Flow::Hold);
    assert_eq!(stream.on_request_body(&host, 101, false), Flow::Go);
    host.headers_writable.set(false);
    assert_eq!(stream.on_request_body(&host, 5_000_000, true), Flow::Go);
    passed(&host, "body_too_large", 0);
    assert_eq!(host.metric("warmpath.held"), 1);
}

#[test]
fn observed_bodies_are_bounded_one_by_one_and_together() {
    let (host, _, mut stream) = ready(r#"{"steer": "header", "mode": "observe", "body_bytes_max": "100B"}"#);
    host.request(POST);
    stream.on_request_headers(&host, false);
    host.body.replace(vec![b' '; 60]);
    stream.on_request_body(&host, 60, false);
    stream.on_request_body(&host, 60, false);
    passed(&host, "body_too_large", 0);

    let (host, root, mut stream) = ready(r#"{"steer": "header", "mode": "observe"}"#);
    let vm = root.vm();
    vm.copied_bytes.set(COPIED_BYTES_MAX - 10);
    host.request(POST);
    stream.on_request_headers(&host, false);
    host.body.replace(vec![b' '; 10]);
    stream.on_request_body(&host, 10, false);
    assert_eq!(vm.copied_bytes.get(), COPIED_BYTES_MAX);
    stream.on_request_body(&host, 1, false);
    passed(&host, "copy_limit", 0);
    assert_eq!(vm.copied_bytes.get(), COPIED_BYTES_MAX - 10, "given back");
}

#[test]
fn an_answer_of_no_use_passes() {
    let cases = [
        (PickResponse::default(), "no_endpoints"),
        (answer(0, &[]), "no_endpoints"),
        (answer(1, &["pod:80"]), "no_endpoints"),
    ];
    for (message, reason) in cases {
        let (host, mut root, mut stream) = ready(HEADER);
        send(&host, &mut stream, BODY);
        give(&host, &mut root, message);
        passed(&host, reason, 1);
    }
}

#[test]
fn the_breaker_stops_asking_and_tries_again() {
    let config = r#"{"steer": "header", "breaker": {"consecutive_timeouts": 2, "open_for": "1s"}}"#;
    let (host, mut root, _) = ready(config);
    let vm = root.vm();
    let next = || Request::new(vm.clone());
    for _ in 0..2 {
        let mut stream = next();
        send(&host, &mut stream, BODY);
        tick(&mut root, &host);
    }
    assert_eq!((host.passes("callout_timeout"), host.metric("warmpath.breaker_opened")), (2, 1));
    tick(&mut root, &host);
    let asks = host.sent.borrow().len();
    assert_eq!(send(&host, &mut next(), BODY), Flow::Go, "not held");
    assert_eq!((host.passes("breaker_open"), host.sent.borrow().len()), (1, asks));
    host.advance(Duration::from_secs(1));
    let mut trial = next();
    assert_eq!(send(&host, &mut trial, BODY), Flow::Hold);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    let mut after = next();
    assert_eq!(send(&host, &mut after, BODY), Flow::Hold);
    assert_eq!(host.metric("warmpath.picks"), 1);
}

#[test]
fn every_host_call_may_fail() {
    // (call, reason, resumed): what fails only after the answer resumes the request.
    let cases = [
        ("request_header", "host_error", 0),
        ("request_body", "host_error", 0),
        ("send", "callout_error", 0),
        ("grpc_message", "callout_error", 1),
        ("set_request_header", "host_error", 1),
    ];
    for (call, reason, resumed) in cases {
        let (host, mut root, mut stream) = ready(HEADER);
        host.failing.borrow_mut().push(call);
        let flow = send(&host, &mut stream, BODY);
        if flow == Flow::Hold {
            give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
        }
        assert_eq!(host.passes(reason), 1, "{call}");
        assert_eq!(host.passes_total(), 1, "{call}");
        assert_eq!(host.resumed.get(), resumed, "{call}");
        assert_eq!(host.metric("warmpath.held"), host.metric("warmpath.released"), "{call}");
        assert_eq!(host.metric("warmpath.host_errors") > 0, call != "send", "{call}");
    }
}

#[test]
fn filter_state_that_cannot_be_written_passes() {
    let (host, mut root, mut stream) = ready(FILTER_STATE);
    send(&host, &mut stream, BODY);
    host.failing.borrow_mut().push("set_property");
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!((host.passes("host_error"), host.resumed.get()), (1, 1));
}

#[test]
fn metrics_that_cannot_be_had_change_nothing() {
    let host = MockHost::new(HEADER);
    host.failing.borrow_mut().extend(["define_metric", "increment_metric", "record_metric"]);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = Request::new(root.vm());
    assert_eq!(send(&host, &mut stream, BODY), Flow::Hold);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!(host.header("x-warmpath").unwrap(), "steered");
}

#[test]
fn a_client_that_leaves_while_held_is_released_and_counted() {
    for asking in [false, true] {
        let (host, _, mut stream) = ready(HEADER);
        host.request(POST);
        stream.on_request_headers(&host, false);
        host.body.replace(BODY.to_vec());
        stream.on_request_body(&host, BODY.len(), asking);
        stream.on_log(&host);
        stream.on_done(&host);
        assert_eq!(host.passes("client_gone"), 1);
        assert_eq!((host.metric("warmpath.held"), host.metric("warmpath.released")), (1, 1));
        assert_eq!(host.resumed.get(), 0);
    }
}

#[test]
fn a_reply_of_envoys_own_ends_the_hold() {
    let (host, mut root, mut stream) = ready(HEADER);
    send(&host, &mut stream, BODY);
    stream.on_response_headers(&host);
    assert_eq!(host.passes("replied_early"), 1);
    host.headers_writable.set(false);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!((host.resumed.get(), host.metric("warmpath.answers_unused")), (0, 1));
    assert_eq!(host.metric("warmpath.released"), 1);
}

#[test]
fn callbacks_in_the_wrong_phase_do_nothing() {
    let (host, mut root, mut stream) = ready(HEADER);
    assert_eq!(stream.on_request_body(&host, 3, true), Flow::Go);
    assert_eq!(stream.on_request_trailers(&host), Flow::Go);
    assert_eq!(host.metric("warmpath.wrong_phase"), 2);
    send(&host, &mut stream, BODY);
    assert_eq!(stream.on_request_headers(&host, false), Flow::Hold, "still held");
    assert_eq!(host.metric("warmpath.wrong_phase"), 3);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!((host.resumed.get(), host.metric("warmpath.answers_unused")), (1, 1));
    stream.on_done(&host);
    assert_eq!(stream.on_request_headers(&host, false), Flow::Go);
    assert_eq!(stream.on_request_body(&host, 3, true), Flow::Go);
    assert_eq!(host.metric("warmpath.wrong_phase"), 5);
}

#[test]
fn a_request_keeps_the_configuration_it_came_under() {
    let (host, mut root, mut stream) = ready(HEADER);
    send(&host, &mut stream, BODY);
    root.vm().set_config(None);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!(host.resumed.get(), 1);
    assert_eq!(host.metric("warmpath.picks"), 1);
}
