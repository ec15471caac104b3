//! What the sidecar is told of its picks.

use std::time::Duration;

use prost::Message;
use warmpath_core::definition::Mode;
use warmpath_proto::v1::{PickReport, ReportRequest, Stage};

use super::steering::{BODY, HEADER, answer, give, send};
use crate::mock::{MockHost, root_with};
use crate::report::QUEUED_MAX;
use crate::root::{Root, TICK};
use crate::stream::Stream;

fn reports(host: &MockHost, root: &mut Root) -> Vec<PickReport> {
    let before = host.grpc.borrow().len();
    root.on_tick(host);
    match host.grpc.borrow().get(before) {
        Some(call) => {
            assert_eq!(call.method, "Report");
            ReportRequest::decode(call.message.as_slice()).unwrap().reports
        }
        None => Vec::new(),
    }
}

fn served(host: &MockHost, root: &Root) -> Stream {
    let mut stream = Stream::new(root.vm());
    send(host, &mut stream, BODY);
    give(host, &mut stream, answer(3, &["10.0.0.1:80"]));
    stream
}

#[test]
fn first_byte_and_end_are_told_once_each() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = served(&host, &root);
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
        first_byte_us: 1000,
        duration_us: 0,
    };
    assert_eq!(reports(&host, &mut root), std::slice::from_ref(&first));
    root.on_grpc_answer(&host, host.last_grpc().token, 0);
    host.advance(Duration::from_micros(500));
    stream.on_log(&host);
    stream.on_done(&host);
    let end = PickReport { stage: Stage::End.into(), duration_us: 1500, ..first };
    assert_eq!(reports(&host, &mut root), [end]);
    root.on_grpc_answer(&host, host.last_grpc().token, 0);
    assert_eq!((host.metric("warmpath.reports_sent"), host.metric("warmpath.reports_dropped")), (2, 0));
    assert_eq!(reports(&host, &mut root), []);
}

#[test]
fn a_pick_without_a_response_ends_too() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = served(&host, &root);
    stream.on_log(&host);
    let told = reports(&host, &mut root);
    assert_eq!((told.len(), told[0].pick_id, told[0].stage()), (1, 3, Stage::End));
    assert_eq!((told[0].endpoint.as_str(), told[0].status, told[0].first_byte_us), ("", 0, 0));
}

#[test]
fn requests_without_a_pick_are_not_told() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let mut stream = Stream::new(root.vm());
    send(&host, &mut stream, b"{");
    stream.on_response_headers(&host);
    stream.on_response_body(&host, 5);
    stream.on_log(&host);
    assert_eq!(reports(&host, &mut root), []);
}

#[test]
fn one_batch_at_a_time_and_lost_ones_are_counted() {
    let host = MockHost::new(HEADER);
    let mut root = root_with(&host, Mode::Steer, &["demo"]);
    let end = |host: &MockHost, root: &Root| served(host, root).on_log(host);
    end(&host, &root);
    assert_eq!(reports(&host, &mut root).len(), 1);
    end(&host, &root);
    end(&host, &root);
    assert_eq!(reports(&host, &mut root).len(), 0, "the first batch is under way");
    root.on_grpc_answer(&host, 9999, 0);
    assert_eq!(host.metric("warmpath.wrong_phase"), 1);
    let token = host.grpc.borrow().iter().rev().find(|call| call.method == "Report").unwrap().token;
    root.on_grpc_answer(&host, token, 14);
    assert_eq!(host.metric("warmpath.reports_dropped"), 1);
    assert_eq!(reports(&host, &mut root).len(), 2);
    // No answer at all: given up after a while.
    end(&host, &root);
    host.advance(Duration::from_secs(2));
    assert_eq!(reports(&host, &mut root).len(), 1);
    assert_eq!(host.metric("warmpath.reports_dropped"), 3);
    // Envoy refuses the call.
    host.advance(Duration::from_secs(2));
    end(&host, &root);
    host.failing.borrow_mut().push("grpc_call");
    root.on_tick(&host);
    assert_eq!(host.metric("warmpath.reports_dropped"), 5);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let host = MockHost::new(HEADER);
    let root = root_with(&host, Mode::Steer, &["demo"]);
    for _ in 0..QUEUED_MAX {
        assert!(root.vm().reports.borrow_mut().push(PickReport::default()));
    }
    served(&host, &root).on_log(&host);
    assert_eq!(host.metric("warmpath.reports_dropped"), 1);
    assert!(TICK < Duration::from_secs(1));
}
