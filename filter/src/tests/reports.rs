//! What the sidecar is told of its picks.

use std::time::Duration;

use warmpath_core::definition::Mode;
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{AskRequest, PickReport, Stage};

use super::steering::{BODY, HEADER, answer, give, send};
use crate::mock::{MockHost, Request, root_with, tick};
use crate::report::QUEUED_MAX;
use crate::root::{REPORT_EVERY, Root};

fn reports(host: &MockHost, root: &mut Root) -> Vec<PickReport> {
    let before = host.sent.borrow().len();
    tick(root, host);
    match host.sent.borrow().get(before).cloned() {
        Some(AskRequest { id: 0, ask: Some(Ask::Reports(sent)), .. }) => sent.reports,
        Some(other) => panic!("not reports: {other:?}"),
        None => Vec::new(),
    }
}

fn served(host: &MockHost, root: &mut Root) -> Request {
    let mut stream = Request::new(root.vm());
    send(host, &mut stream, BODY);
    give(host, root, answer(3, &["10.0.0.1:80"]));
    stream
}

#[test]
fn first_byte_and_end_are_told_once_each() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = served(&host, &mut root);
    assert_eq!(reports(&host, &mut root), []);
    host.advance(Duration::from_micros(700));
    host.response.borrow_mut().insert(":status".to_owned(), b"200".to_vec());
    host.upstream.replace(Some(b"10.0.0.2:80".to_vec()));
    stream.on_response_headers(&host);
    stream.on_response_body(&host, 0);
    host.advance(Duration::from_micros(300));
    stream.on_response_body(&host, 5);
    stream.on_response_body(&host, 5);
    let first = PickReport {
        pick_id: 3,
        endpoint: "10.0.0.2:80".to_owned(),
        stage: Stage::FirstByte.into(),
        status: 200,
        first_byte_us: 101_000,
        duration_us: 0,
    };
    assert_eq!(reports(&host, &mut root), std::slice::from_ref(&first));
    host.advance(Duration::from_micros(500));
    stream.on_log(&host);
    stream.on_done(&host);
    let end = PickReport { stage: Stage::End.into(), duration_us: 201_500, ..first };
    assert_eq!(reports(&host, &mut root), [end]);
    assert_eq!((host.metric("warmpath.reports_sent"), host.metric("warmpath.reports_dropped")), (2, 0));
    assert_eq!(reports(&host, &mut root), []);
}

#[test]
fn a_pick_without_a_response_ends_too() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = served(&host, &mut root);
    stream.on_log(&host);
    let told = reports(&host, &mut root);
    assert_eq!((told.len(), told[0].pick_id, told[0].stage()), (1, 3, Stage::End));
    assert_eq!((told[0].endpoint.as_str(), told[0].status, told[0].first_byte_us), ("", 0, 0));
}

#[test]
fn requests_without_a_pick_are_not_told() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = Request::new(root.vm());
    send(&host, &mut stream, b"{");
    stream.on_response_headers(&host);
    stream.on_response_body(&host, 5);
    stream.on_log(&host);
    assert_eq!(reports(&host, &mut root), []);
}

#[test]
fn reports_without_a_sidecar_are_counted_as_lost() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let leave = |root: &mut Root| served(&host, root).on_log(&host);
    leave(&mut root);
    assert_eq!(reports(&host, &mut root).len(), 1);
    leave(&mut root);
    leave(&mut root);
    assert_eq!(reports(&host, &mut root).len(), 2);
    assert_eq!((host.metric("warmpath.reports_sent"), host.metric("warmpath.reports_dropped")), (3, 0));
    // Envoy refuses the message.
    leave(&mut root);
    host.failing.borrow_mut().push("send");
    assert_eq!(reports(&host, &mut root).len(), 0);
    assert_eq!(host.metric("warmpath.reports_dropped"), 1);
    host.failing.borrow_mut().clear();
    // The stream is closed and cannot be opened.
    leave(&mut root);
    host.failing.borrow_mut().push("open_stream");
    root.on_line_closed(&host, host.line(), 14);
    assert_eq!(reports(&host, &mut root).len(), 0);
    assert_eq!((host.metric("warmpath.reports_sent"), host.metric("warmpath.reports_dropped")), (3, 2));
}

/// Often enough for the sidecar's counts, and not with each turn of the clock.
#[test]
fn reports_go_ten_times_a_second() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    served(&host, &mut root).on_log(&host);
    assert_eq!(reports(&host, &mut root).len(), 1);
    served(&host, &mut root).on_log(&host);
    let sent = host.sent.borrow().len();
    host.advance(REPORT_EVERY - Duration::from_millis(1));
    root.on_tick(&host);
    assert_eq!(host.sent.borrow().len(), sent);
    host.advance(Duration::from_millis(1));
    root.on_tick(&host);
    assert_eq!(host.sent.borrow().len(), sent + 1);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    for _ in 0..QUEUED_MAX {
        assert!(root.vm().reports.borrow_mut().push(PickReport::default()));
    }
    served(&host, &mut root).on_log(&host);
    assert_eq!(host.metric("warmpath.reports_dropped"), 1);
}
