//! Random callback sequences, most of which Envoy would never make: nothing panics, and every request that was held is
//! let go exactly once.

use std::time::Duration;

use proptest::prelude::*;
use warmpath_proto::v1::AskResponse;

use super::steering::{BODY, POST, answer, message, reply};
use crate::mock::{ROOT, ready};
use crate::stream::Flow;

#[derive(Clone, Debug)]
enum Callback {
    Headers { end_of_stream: bool },
    Body { cut: usize, end_of_stream: bool },
    Trailers,
    Answer { right_id: bool, status: u32, kind: u8 },
    Closed,
    Tick,
    ResponseHeaders,
    ResponseBody(usize),
    Log,
    Done,
    Wait(u64),
    Fail(&'static str),
    Work,
}

fn callback() -> impl Strategy<Value = Callback> {
    let call = prop::sample::select(vec![
        "request_header",
        "request_body",
        "open_stream",
        "send",
        "cancel",
        "act_for",
        "grpc_message",
        "set_request_header",
        "set_property",
        "property",
        "response_header",
    ]);
    prop_oneof![
        3 => any::<bool>().prop_map(|end_of_stream| Callback::Headers { end_of_stream }),
        6 => (0..=BODY.len(), any::<bool>())
            .prop_map(|(cut, end_of_stream)| Callback::Body { cut, end_of_stream }),
        1 => Just(Callback::Trailers),
        5 => (prop::bool::weighted(0.8), prop::sample::select(vec![0u32, 0, 0, 4, 14]), 0..4u8)
            .prop_map(|(right_id, status, kind)| Callback::Answer { right_id, status, kind }),
        1 => Just(Callback::Closed),
        1 => Just(Callback::Tick),
        1 => Just(Callback::ResponseHeaders),
        1 => (0..9usize).prop_map(Callback::ResponseBody),
        1 => Just(Callback::Log),
        1 => Just(Callback::Done),
        1 => (0..100u64).prop_map(Callback::Wait),
        1 => call.prop_map(Callback::Fail),
        2 => Just(Callback::Work),
    ]
}

const CONFIGS: [&str; 5] = [
    r#"{"steer": "header"}"#,
    r#"{"steer": "filter_state"}"#,
    r#"{"steer": "header", "mode": "observe"}"#,
    r#"{"steer": "filter_state", "body_bytes_max": "40B"}"#,
    r#"{"steer": "header", "paths": []}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn held_requests_are_released_exactly_once(
        config in prop::sample::select(CONFIGS.to_vec()),
        callbacks in prop::collection::vec(callback(), 0..25),
    ) {
        let (host, mut root, mut stream) = ready(config);
        let vm = root.vm();
        host.request(POST);
        // Whether Envoy holds the request, by what the callbacks returned and resumed.
        let (mut waits, mut releases, mut ended) = (false, 0u64, false);
        let mut follow = |flow: Flow, ended: bool| {
            if waits && flow == Flow::Go && !ended {
                releases += 1;
            }
            waits = flow == Flow::Hold && !ended;
            (waits, releases)
        };
        let mut state = (false, 0u64);
        for callback in callbacks {
            let resumed = host.resumed.get();
            match callback {
                Callback::Headers { end_of_stream } => {
                    let flow = stream.on_request_headers(&host, end_of_stream);
                    state = follow(flow, ended);
                }
                Callback::Body { cut, end_of_stream } => {
                    host.body.replace(BODY[..cut].to_vec());
                    let flow = stream.on_request_body(&host, cut, end_of_stream);
                    state = follow(flow, ended);
                }
                Callback::Trailers => {
                    let flow = stream.on_request_trailers(&host);
                    state = follow(flow, ended);
                }
                Callback::Answer { right_id, status, kind } => {
                    let last = host.sent.borrow().last().map_or(0, |sent| sent.id);
                    let id = if right_id { last } else { last + 1 };
                    let pick = match kind {
                        2 => Some(answer(0, &["10.0.0.1:80"])),
                        3 => Some(answer(7, &["10.0.0.1:80", "x"])),
                        _ => None,
                    };
                    match kind {
                        0 => message(&host, &mut root, Vec::new()),
                        1 => message(&host, &mut root, vec![0xff; 3]),
                        _ => reply(&host, &mut root, &AskResponse { id, status, pick }),
                    }
                }
                Callback::Closed => root.on_line_closed(&host, host.line(), 14),
                Callback::Tick => root.on_tick(&host),
                Callback::ResponseHeaders => stream.on_response_headers(&host),
                Callback::ResponseBody(bytes) => stream.on_response_body(&host, bytes),
                Callback::Log => {
                    stream.on_log(&host);
                    ended = true;
                }
                Callback::Done => {
                    stream.on_done(&host);
                    ended = true;
                }
                Callback::Wait(millis) => host.advance(Duration::from_millis(millis)),
                Callback::Fail(call) => host.failing.borrow_mut().push(call),
                Callback::Work => host.failing.borrow_mut().clear(),
            }
            prop_assert!(host.resumed.get() <= resumed + 1);
            if host.resumed.get() > resumed {
                prop_assert!(state.0, "resumed what was not held");
                state = follow(Flow::Go, ended);
            }
            host.acting.set(ROOT);
            let (held, released) = (host.metric("warmpath.held"), host.metric("warmpath.released"));
            prop_assert!(held - released <= 1);
            prop_assert!(held <= 1, "held twice");
        }
        stream.on_log(&host);
        stream.on_done(&host);
        prop_assert_eq!(host.metric("warmpath.held"), host.metric("warmpath.released"));
        prop_assert!(state.1 <= 1 && host.resumed.get() <= 1, "released twice");
        prop_assert!(host.passes_total() + host.metric("warmpath.picks") + host.metric("warmpath.observed") <= 1);
        prop_assert_eq!(vm.copied_bytes.get(), 0);
    }

    #[test]
    fn no_configuration_and_no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[ -~]{0,60}") {
        let _ = crate::config::parse(&bytes);
        let _ = crate::config::parse(format!(r#"{{"steer": "header", {text}}}"#).as_bytes());
        let read = crate::pick::decode(&bytes).and_then(|answer| crate::pick::read(answer.pick?).ok());
        for address in read.iter().flat_map(|answer| answer.header.split(',')) {
            prop_assert!(address.parse::<std::net::SocketAddr>().is_ok());
        }
    }
}
