//! The line to the sidecar: whatever becomes of it, each ask ends once.

use std::time::Duration;

use proptest::prelude::*;
use warmpath_core::definition::{Mode, ModelDefinition, Tokenize};
use warmpath_proto::v1::AskResponse;

use super::steering::{BODY, HEADER, answer, give, message, reply, send};
use crate::clock::quick as period;
use crate::config::CALLOUT_TIMEOUT;
use crate::line::{ASKED_BYTES_MAX, ASKS_MAX};
use crate::mock::{MockHost, ROOT, Request, catalog, definition, ready, serve, tick};
use crate::root::Root;
use crate::stream::Flow;

/// Requests that wait for the sidecar, and the numbers of their asks.
fn asking(host: &MockHost, root: &Root, count: usize) -> Vec<(Request, u64)> {
    let ask = || {
        let mut request = Request::new(root.vm());
        assert_eq!(send(host, &mut request, BODY), Flow::Hold);
        (request, host.last_ask().id)
    };
    std::iter::repeat_with(ask).take(count).collect()
}

fn good(id: u64) -> AskResponse {
    AskResponse { id, status: 0, pick: Some(answer(id, &["10.0.0.1:80"])) }
}

#[test]
fn many_ask_on_one_stream_and_are_answered_in_any_order() {
    let (host, mut root, _) = ready(HEADER);
    let requests = asking(&host, &root, 40);
    for (at, (_, id)) in requests.iter().enumerate().rev() {
        reply(&host, &mut root, &good(*id));
        assert_eq!(host.resumed.get(), 40 - at);
        // The same number once more is nobody's.
        reply(&host, &mut root, &good(*id));
    }
    assert_eq!((host.opened.borrow().len(), host.metric("warmpath.picks")), (1, 40));
    assert_eq!(host.metric("warmpath.answers_unused"), 40);
    assert_eq!(host.metric("warmpath.line_opened"), 1);
}

#[test]
fn an_ask_ends_at_its_deadline_and_its_late_answer_is_nobodys() {
    assert_eq!(period(Duration::from_millis(50)), Duration::from_millis(25));
    assert_eq!(period(Duration::from_millis(1)), Duration::from_millis(5));
    assert_eq!(period(Duration::from_secs(9)), Duration::from_millis(100));
    let (host, mut root, _) = ready(HEADER);
    let first = asking(&host, &root, 1);
    host.advance(CALLOUT_TIMEOUT - Duration::from_millis(1));
    let second = asking(&host, &root, 1);
    root.on_tick(&host);
    assert_eq!(host.resumed.get(), 0);
    host.advance(Duration::from_millis(1));
    root.on_tick(&host);
    assert_eq!((host.resumed.get(), host.passes("callout_timeout")), (1, 1));
    reply(&host, &mut root, &good(first[0].1));
    assert_eq!((host.resumed.get(), host.metric("warmpath.answers_unused")), (1, 1));
    reply(&host, &mut root, &good(second[0].1));
    assert_eq!((host.resumed.get(), host.metric("warmpath.picks")), (2, 1));
}

/// Keys that take long leave the sidecar its time.
#[test]
fn the_time_that_keys_take_is_not_the_sidecars() {
    let (host, mut root, mut request) = ready(HEADER);
    host.body_takes.set(Duration::from_millis(40));
    send(&host, &mut request, BODY);
    host.advance(CALLOUT_TIMEOUT - Duration::from_millis(1));
    root.on_tick(&host);
    assert_eq!(host.resumed.get(), 0);
    host.advance(Duration::from_millis(1));
    root.on_tick(&host);
    assert_eq!((host.resumed.get(), host.passes("callout_timeout")), (1, 1));
}

#[test]
fn a_status_of_an_answer_is_its_asks_alone() {
    for (status, reason) in [(4, "callout_timeout"), (8, "callout_error"), (12, "callout_error")] {
        let (host, mut root, _) = ready(HEADER);
        let requests = asking(&host, &root, 2);
        reply(&host, &mut root, &AskResponse { id: requests[0].1, status, pick: None });
        assert_eq!((host.resumed.get(), host.passes(reason)), (1, 1));
        reply(&host, &mut root, &good(requests[1].1));
        assert_eq!((host.resumed.get(), host.metric("warmpath.picks")), (2, 1));
    }
    let (host, mut root, _) = ready(HEADER);
    let id = asking(&host, &root, 1)[0].1;
    // No request waits under its number any more: it was dropped by Envoy.
    reply(&host, &mut root, &AskResponse { id, status: 0, pick: None });
    assert_eq!((host.resumed.get(), host.metric("warmpath.answers_unused")), (0, 1));
}

#[test]
fn a_closed_stream_lets_all_go_and_is_opened_again_after_a_pause() {
    let (host, mut root, _) = ready(HEADER);
    let waiting = asking(&host, &root, 3);
    let token = host.line();
    root.on_line_closed(&host, token + 1, 14);
    assert_eq!((host.resumed.get(), host.metric("warmpath.wrong_phase")), (0, 1), "another stream");
    root.on_line_closed(&host, token, 14);
    assert_eq!((host.resumed.get(), host.passes("callout_error")), (3, 3));
    assert!(host.opened.borrow()[0].cancelled, "Envoy keeps what nobody gives up");
    // Closed: nobody waits.
    let mut request = Request::new(root.vm());
    assert_eq!(send(&host, &mut request, BODY), Flow::Go);
    assert_eq!((host.resumed.get(), host.passes("callout_error")), (3, 4));
    // Not in the same moment, but soon.
    root.on_tick(&host);
    assert_eq!(host.opened.borrow().len(), 1);
    host.advance(Duration::from_millis(30));
    root.on_tick(&host);
    assert_eq!(host.opened.borrow().len(), 2);
    message(&host, &mut root, Vec::new());
    root.on_line_message(&host, token, 0);
    assert_eq!(host.metric("warmpath.wrong_phase"), 2, "the old stream's");
    let mut request = Request::new(root.vm());
    assert_eq!(send(&host, &mut request, BODY), Flow::Hold);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    assert_eq!(host.metric("warmpath.picks"), 1);
    drop(waiting);
}

#[test]
fn a_sidecar_that_refuses_is_asked_less_and_less_often() {
    let (host, mut root, _) = ready(HEADER);
    let mut tries = 0;
    for _ in 0..1000 {
        if host.opened.borrow().len() > tries {
            tries += 1;
            root.on_line_closed(&host, host.line(), 14);
        }
        host.advance(Duration::from_millis(10));
        root.on_tick(&host);
    }
    // In 10 s: after 20, 40 … 640 ms and then each second, with half as much again by chance.
    assert!((10..=16).contains(&tries), "{tries}");
    // Nor can Envoy be made to open one.
    host.failing.borrow_mut().push("open_stream");
    (0..100).for_each(|_| tick(&mut root, &host));
    host.failing.borrow_mut().clear();
    (0..15).for_each(|_| tick(&mut root, &host));
    assert_eq!(host.opened.borrow().len(), tries + 1);
    // An answer, and the first pause is short again.
    asking(&host, &root, 1);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    let before = host.opened.borrow().len();
    root.on_line_closed(&host, host.line(), 14);
    host.advance(Duration::from_millis(30));
    root.on_tick(&host);
    assert_eq!(host.opened.borrow().len(), before + 1);
}

#[test]
fn an_answer_that_cannot_be_read_closes_the_stream() {
    for junk in [vec![0xff; 4], vec![0; crate::pick::ANSWER_BYTES_MAX + 1]] {
        let (host, mut root, _) = ready(HEADER);
        let _waiting = asking(&host, &root, 2);
        message(&host, &mut root, junk);
        assert_eq!((host.resumed.get(), host.passes("callout_error")), (2, 2));
        assert!(host.opened.borrow()[0].cancelled);
        tick(&mut root, &host);
        assert_eq!(host.opened.borrow().len(), 2);
    }
}

#[test]
fn a_client_that_leaves_is_not_acted_for() {
    let (host, mut root, _) = ready(HEADER);
    let mut requests = asking(&host, &root, 3);
    requests[0].0.on_log(&host);
    requests[0].0.on_done(&host);
    // Envoy has forgotten the second without a word, and the third is dropped.
    host.gone.borrow_mut().push(requests[1].0.context);
    requests.pop();
    for id in host.sent.borrow().iter().map(|sent| sent.id).collect::<Vec<_>>() {
        reply(&host, &mut root, &good(id));
    }
    assert_eq!((host.resumed.get(), host.metric("warmpath.answers_unused")), (0, 3));
    assert_eq!(host.passes("client_gone"), 1);
    assert_eq!(host.acting.get(), ROOT);
}

#[test]
fn what_waits_is_bounded_by_number_and_by_bytes() {
    let (host, mut root, _) = ready(HEADER);
    let waiting = asking(&host, &root, ASKS_MAX);
    let mut more = Request::new(root.vm());
    assert_eq!(send(&host, &mut more, BODY), Flow::Go);
    assert_eq!(host.passes("line_full"), 1);
    reply(&host, &mut root, &good(waiting[0].1));
    asking(&host, &root, 1);

    let host = MockHost::new(HEADER);
    let mut root = Root::new(ROOT);
    root.on_vm_start(&host);
    root.on_configure(&host);
    let remote = ModelDefinition { tokenize: Tokenize::Sidecar, ..definition("demo", "1") };
    serve(&mut root, &host, &catalog(Mode::Steer, vec![remote]));
    let long = format!(r#"{{"model": "demo", "prompt": "{}"}}"#, "a".repeat(1_000_000));
    let mut held = Vec::new();
    loop {
        let mut request = Request::new(root.vm());
        if send(&host, &mut request, long.as_bytes()) == Flow::Go {
            break;
        }
        held.push(request);
    }
    assert_eq!((host.passes("line_full"), held.len()), (1, ASKED_BYTES_MAX / 1_000_000));
    // The stream's end gives everything back.
    root.on_line_closed(&host, host.line(), 14);
    tick(&mut root, &host);
    let mut request = Request::new(root.vm());
    assert_eq!(send(&host, &mut request, long.as_bytes()), Flow::Hold);
}

#[test]
fn a_sidecar_that_hangs_is_tried_on_a_new_stream() {
    let config = r#"{"steer": "header", "breaker": {"consecutive_timeouts": 2, "open_for": "1s"}}"#;
    let (host, mut root, _) = ready(config);
    let _two = asking(&host, &root, 2);
    host.advance(Duration::from_millis(49));
    let _young = asking(&host, &root, 1);
    host.advance(Duration::from_millis(1));
    root.on_tick(&host);
    // Those who were in time go on too: on this stream nothing will be answered soon.
    assert_eq!((host.passes("callout_timeout"), host.passes("callout_error"), host.resumed.get()), (2, 1, 3));
    assert!(host.opened.borrow()[0].cancelled);
    assert_eq!(send(&host, &mut Request::new(root.vm()), BODY), Flow::Go);
    assert_eq!(host.passes("breaker_open"), 1, "while there is no stream, too");
    tick(&mut root, &host);
    assert_eq!(host.opened.borrow().len(), 2);
    assert_eq!(send(&host, &mut Request::new(root.vm()), BODY), Flow::Go);
    assert_eq!(host.passes("breaker_open"), 2, "a new stream does not close the breaker");
    host.advance(Duration::from_secs(1));
    let _trial = asking(&host, &root, 1);
    give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    asking(&host, &root, 1);
    assert_eq!(host.metric("warmpath.breaker_opened"), 1);
}

/// One is late now and then, and the sidecar answers all others: no reason to stop.
#[test]
fn an_answer_that_never_comes_opens_the_line_anew_in_the_end() {
    let (host, mut root, _) = ready(HEADER);
    let _lost = asking(&host, &root, 1);
    for _ in 0..290 {
        tick(&mut root, &host);
        let _next = asking(&host, &root, 1);
        give(&host, &mut root, answer(1, &["10.0.0.1:80"]));
    }
    assert_eq!(host.opened.borrow().len(), 1);
    (0..20).for_each(|_| tick(&mut root, &host));
    assert_eq!(host.opened.borrow().len(), 2);
    assert_eq!(host.passes("callout_timeout"), 1);
}

#[test]
fn a_line_is_opened_when_there_is_something_to_ask() {
    let host = MockHost::new(HEADER);
    let mut root = Root::new(ROOT);
    root.on_vm_start(&host);
    root.on_configure(&host);
    (0..5).for_each(|_| tick(&mut root, &host));
    assert!(host.opened.borrow().is_empty(), "no catalog, no asks");
}

#[derive(Clone, Debug)]
enum Event {
    Ask,
    Answer { which: usize, status: u32 },
    Leave(usize),
    Close,
    Junk,
    Tick(u64),
    Fail(&'static str),
    Work,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Ask),
        6 => (any::<usize>(), prop::sample::select(vec![0u32, 0, 0, 4, 8]))
            .prop_map(|(which, status)| Event::Answer { which, status }),
        2 => any::<usize>().prop_map(Event::Leave),
        1 => Just(Event::Close),
        1 => Just(Event::Junk),
        4 => (0..80u64).prop_map(Event::Tick),
        1 => prop::sample::select(vec!["send", "open_stream", "cancel", "act_for"]).prop_map(Event::Fail),
        2 => Just(Event::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Beside a plain list of who waits since when: whatever happens, nobody waits longer than the deadline and one turn
    /// of the clock, nobody is let go twice, and every request is counted once.
    #[test]
    fn every_ask_ends_once_and_in_time(events in prop::collection::vec(event(), 0..60)) {
        let (host, mut root, _) = ready(r#"{"steer": "header", "breaker": {"consecutive_timeouts": 3, "open_for": "200ms"}}"#);
        let mut waiting: Vec<(Request, u64, Duration)> = Vec::new();
        let mut asks = 0;
        for event in events {
            let (before, resumed) = (host.passes_total() + host.metric("warmpath.picks"), host.resumed.get());
            match event {
                Event::Ask => {
                    asks += 1;
                    let mut request = Request::new(root.vm());
                    if send(&host, &mut request, BODY) == Flow::Hold {
                        waiting.push((request, host.last_ask().id, host.now.get()));
                    }
                }
                Event::Answer { which, status } if !waiting.is_empty() => {
                    let id = waiting[which % waiting.len()].1;
                    let pick = (status == 0).then(|| answer(1, &["10.0.0.1:80"]));
                    reply(&host, &mut root, &AskResponse { id, status, pick });
                }
                Event::Leave(which) if !waiting.is_empty() => {
                    let (mut request, ..) = waiting.swap_remove(which % waiting.len());
                    request.on_log(&host);
                    request.on_done(&host);
                }
                Event::Close => root.on_line_closed(&host, host.line(), 14),
                Event::Junk => message(&host, &mut root, vec![0xff]),
                Event::Tick(millis) => {
                    host.advance(Duration::from_millis(millis));
                    root.on_tick(&host);
                }
                // A request that cannot be acted for is gone.
                Event::Fail("act_for") | Event::Answer { .. } | Event::Leave(_) => {}
                Event::Fail(call) => host.failing.borrow_mut().push(call),
                Event::Work => host.failing.borrow_mut().clear(),
            }
            let now = host.now.get();
            waiting.retain(|(request, ..)| request.is_held());
            for (_, id, since) in &waiting {
                prop_assert!(now < *since + CALLOUT_TIMEOUT + Duration::from_millis(80), "{id} still waits");
            }
            let ended = host.passes_total() + host.metric("warmpath.picks") - before;
            prop_assert!(host.resumed.get() - resumed <= ended as usize);
            prop_assert_eq!(host.acting.get(), ROOT);
        }
        prop_assert_eq!(host.passes_total() + host.metric("warmpath.picks") + waiting.len() as u64, asks);
        prop_assert_eq!(host.metric("warmpath.held") - host.metric("warmpath.released"), waiting.len() as u64);
        prop_assert!(host.opened.borrow().iter().filter(|opened| !opened.cancelled).count() <= 1);
    }
}
