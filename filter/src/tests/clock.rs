//! The root's clock: quick where somebody may wait, slow elsewhere.

use std::time::Duration;

use warmpath_core::definition::Mode;
use warmpath_proto::v1::AskResponse;

use super::steering::{BODY, HEADER, reply, send};
use crate::clock::SLOW;
use crate::mock::{MockHost, ROOT, Request, answer_get, catalog, definition, ready, tick_until_get};
use crate::root::Root;

const QUICK: Duration = Duration::from_millis(25);

/// The next poll of the catalog, answered with what is known.
fn poll(root: &mut Root, host: &MockHost) {
    assert_eq!(tick_until_get(root, host), "/v1/catalog");
    let same = catalog(Mode::Steer, vec![definition("demo", "demo")]);
    answer_get(root, host, "200", &serde_json::to_vec(&same).unwrap());
}

/// A gateway at rest.
fn rested() -> (MockHost, Root) {
    let (host, mut root, _) = ready(HEADER);
    assert_eq!(host.tick.get(), Some(QUICK), "it has opened the line just now");
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(SLOW));
    (host, root)
}

#[test]
fn it_is_quick_from_an_ask_on_and_slow_when_none_came_for_a_while() {
    let (host, mut root) = rested();
    let mut request = Request::new(root.vm());
    send(&host, &mut request, BODY);
    assert_eq!(host.tick.get(), Some(QUICK));
    // The ask waits, and then one has waited a moment ago.
    request.on_log(&host);
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(QUICK));
}

#[test]
fn it_rests_when_nothing_waits_and_nothing_has_waited_since_the_poll_before() {
    let (host, mut root) = rested();
    let mut request = Request::new(root.vm());
    send(&host, &mut request, BODY);
    // Nobody has answered; at its deadline the ask ends, and its place is kept for the answer.
    host.advance(Duration::from_secs(1));
    root.on_tick(&host);
    poll(&mut root, &host);
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(QUICK), "the answer may still come");
    let id = host.last_ask().id;
    reply(&host, &mut root, &AskResponse { id, ..AskResponse::default() });
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(QUICK), "something has waited since it was seen last");
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(SLOW));
}

#[test]
fn it_opens_a_closed_line_as_soon_as_it_may() {
    let (host, mut root) = rested();
    root.on_line_closed(&host, host.line(), 14);
    assert_eq!(host.tick.get(), Some(QUICK));
    poll(&mut root, &host);
    poll(&mut root, &host);
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(SLOW), "the line is open again");
}

#[test]
fn an_ask_is_not_sent_without_a_clock_that_ends_it() {
    let (host, root) = rested();
    host.failing.borrow_mut().push("set_tick_period");
    let mut request = Request::new(root.vm());
    send(&host, &mut request, BODY);
    assert_eq!(host.passes("callout_error"), 1);
    assert!(!request.is_held());
}

#[test]
fn an_envoy_that_refuses_costs_nothing_but_a_count() {
    let (host, mut root, _) = ready(HEADER);
    host.failing.borrow_mut().push("set_tick_period");
    let before = host.metric("warmpath.host_errors");
    poll(&mut root, &host);
    assert_eq!(host.metric("warmpath.host_errors"), before + 1);
    assert_eq!((host.tick.get(), host.acting.get()), (Some(QUICK), ROOT));
    host.failing.borrow_mut().clear();
    poll(&mut root, &host);
    assert_eq!(host.tick.get(), Some(SLOW));
}
