//! A pod is killed under load: only requests in flight on it fail, it is not listed while others are, and it comes back.

#[macro_use]
mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{BLOCK, access_log, complete, completion, events_arrive, eventually, ids, scores, start};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use warmpath_harness::load::{Job, Sample, closed_loop};
use warmpath_harness::{PodOptions, Stack, StackBuilder, Steer};

const PODS: usize = 3;
const REQUESTS: u32 = 240;
const CLIENTS: usize = 12;
/// Requests that have been answered when the pod is killed.
const KILL_AFTER: usize = 30;
/// Requests that are sent when Envoy has no connection to the dead pod any more.
const REQUESTS_AFTER: u32 = 60;

fn three_real_time_pods(builder: StackBuilder) -> StackBuilder {
    builder.pods(PODS, PodOptions { instant: false, ..PodOptions::default() })
}

/// Every other answer is a stream: those that are cut have a status of 200.
fn job(number: u32) -> Job {
    let body = json!({
        "model": common::MODEL, "prompt": ids(number, 4), "max_tokens": 16, "stream": number.is_multiple_of(2),
    });
    Job { path: "/v1/completions", body }
}

/// Sends the load and kills pod 0 in the midst of it, when a request is in flight there: it answers nothing any more
/// before, so that what is in flight stays so.
async fn load_and_kill(stack: &mut Stack) -> Vec<Sample> {
    let done = Arc::new(AtomicUsize::new(0));
    let load = tokio::spawn({
        let (client, done) = (stack.client(), done.clone());
        async move {
            let jobs = (0..REQUESTS).map(job).collect();
            closed_loop(&client, jobs, CLIENTS, move |_| {
                done.fetch_add(1, Ordering::Relaxed);
            })
            .await
        }
    });
    eventually("some requests are answered", async || done.load(Ordering::Relaxed) >= KILL_AFTER).await;
    stack.pods[0].client().post_json("/sim/hang", &Value::Null).await.unwrap().ok().unwrap();
    eventually("the pod has a request in flight", async || in_flight(stack).await > 0.0).await;
    stack.pods[0].process().kill();
    load.await.unwrap()
}

/// Requests that Envoy has sent to pod 0 and that are not answered.
async fn in_flight(stack: &Stack) -> f64 {
    let pod = stack.pods[0].address();
    let clusters = stack.envoy.admin_client().get("/clusters?format=json").await.unwrap().json().unwrap();
    let pool = clusters["cluster_statuses"].as_array().unwrap().iter().find(|c| c["name"] == "warmpath_pool");
    let hosts = pool.unwrap()["host_statuses"].as_array().unwrap();
    let host = hosts.iter().find(|h| h["address"]["socket_address"]["port_value"] == pod.port()).unwrap();
    let active = host["stats"].as_array().unwrap().iter().find(|stat| stat["name"] == "rq_active");
    // Envoy leaves out what is 0.
    active.and_then(|stat| stat["value"].as_str()?.parse().ok()).unwrap_or(0.0)
}

/// Lines of requests that did not end well for the client.
fn failed_lines(stack: &Stack) -> Vec<Value> {
    let cut = |flags: &str| {
        ["UC", "UF", "UR", "UPE", "URX", "NC"].iter().any(|flag| flags.split(',').any(|f| f == *flag))
    };
    let mut lines = access_log(stack);
    lines.retain(|line| line["status"] != 200 || cut(line["flags"].as_str().unwrap_or_default()));
    lines
}

async fn only_requests_in_flight_fail(steer: Steer) {
    let Some(mut stack) = start("only_requests_in_flight_fail", steer, three_real_time_pods).await else {
        return;
    };
    let dead = stack.pods[0].address().to_string();
    let samples = load_and_kill(&mut stack).await;
    assert_eq!(samples.len(), REQUESTS as usize);
    let failed = samples.iter().filter(|sample| !sample.ok()).count();
    assert!(failed > 0, "the pod had nothing in flight: the test has shown nothing");
    // Envoy's view: as many requests failed, all of them on that pod, and no more than it can have had in flight.
    eventually("the access log is complete", async || access_log(&stack).len() >= REQUESTS as usize).await;
    let lines = failed_lines(&stack);
    assert_eq!(lines.len(), failed, "{lines:#?}");
    for line in &lines {
        assert_eq!(line["upstream"], dead, "{line}");
    }
    assert!(failed <= CLIENTS, "more requests failed than were in flight: {lines:#?}");

    // What begins now that Envoy knows of the end of its connections does not fail, whether or not the pod is listed.
    let jobs = (REQUESTS..REQUESTS + REQUESTS_AFTER).map(job).collect();
    for sample in closed_loop(&stack.client(), jobs, CLIENTS, |_| ()).await {
        assert!(sample.ok(), "began after the pod's end: {sample:?}");
    }

    eventually("the dead pod's stream is seen to be down", async || live_streams(&stack).await == 2.0).await;
    for number in 0..2 * PODS as u32 {
        let outcome = complete(&stack, &ids(500 + number, 4)).await;
        let listed: BTreeSet<String> = listed(&stack, &outcome.id).await;
        assert_eq!(listed.len(), PODS - 1, "{listed:?}");
        assert!(!listed.contains(&dead), "{listed:?}");
        assert_ne!(outcome.pod(), dead);
    }

    stack.restart_pod(0).await.unwrap();
    eventually("the restarted pod is followed", async || live_streams(&stack).await == 3.0).await;
    let mut number = 600;
    eventually("the restarted pod serves", async || {
        number += 1;
        complete(&stack, &ids(number, 4)).await.pod() == dead
    })
    .await;
    // Its new blocks are known as well.
    eventually("a prompt is steered to the restarted pod", async || {
        let outcome = complete(&stack, &ids(number, 4)).await;
        outcome.pod() == dead && outcome.matched() == (4, 4)
    })
    .await;
}

async fn live_streams(stack: &Stack) -> f64 {
    stack.sidecar_metrics().await.unwrap().sum("warmpath_events_streams_live")
}

async fn listed(stack: &Stack, id: &str) -> BTreeSet<String> {
    let mut listed = BTreeSet::new();
    eventually("the sidecar's log has the pick", async || {
        listed = scores(stack, id).iter().map(|line| line["endpoint"].as_str().unwrap().to_owned()).collect();
        !listed.is_empty()
    })
    .await;
    listed
}

/// Nobody can say any more what the pods hold, but they serve: the sidecar lists them all, without credit.
#[tokio::test]
async fn without_any_event_stream_requests_are_still_answered() {
    let change = |builder: StackBuilder| builder.pods(2, PodOptions::default());
    let Some(stack) =
        start("without_any_event_stream_requests_are_still_answered", Steer::Header, change).await
    else {
        return;
    };
    complete(&stack, &ids(0, 4)).await;
    events_arrive(&stack).await;
    assert_eq!(complete(&stack, &ids(0, 4)).await.matched(), (4, 4));
    let endpoints: Vec<_> = stack
        .pods
        .iter()
        .map(|pod| {
            let mut endpoint = pod.endpoint().clone();
            // Port 9 (discard): nobody publishes there.
            endpoint.events = "127.0.0.1:9".to_owned();
            endpoint.replay = None;
            endpoint
        })
        .collect();
    stack.files.write_endpoints(&endpoints).unwrap();
    eventually("no stream is up", async || live_streams(&stack).await == 0.0).await;
    for number in 0..4 {
        let outcome = complete(&stack, &ids(number, 4)).await;
        assert_eq!((outcome.reason(), outcome.matched()), ("steered", (0, 4)));
    }
}

/// Makes the first host of the pool one that nobody listens on.
fn move_first_host(config: &mut Value, port: u16) {
    let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
    let pool = clusters.iter_mut().find(|cluster| cluster["name"] == "warmpath_pool").unwrap();
    let host = &mut pool["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    host["address"]["socket_address"]["port_value"] = port.into();
}

/// Events say that the first pod has the prompt, but it does not take connections: the next listed one answers.
async fn an_unreachable_pod_is_passed_over(steer: Steer) {
    // Bound, so that nobody else gets the port, but not listening.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = bound.local_addr().unwrap();
    let change = |builder: StackBuilder| {
        builder.edit_envoy(move |config| {
            move_first_host(config, closed.port());
            Ok(())
        })
    };
    let Some(stack) = start("an_unreachable_pod_is_passed_over", steer, change).await else { return };
    let mut endpoints: Vec<_> = stack.pods.iter().map(|pod| pod.endpoint().clone()).collect();
    endpoints[0].address = closed;
    stack.files.write_endpoints(&endpoints).unwrap();
    stack.pods[0].client().post_json("/v1/completions", &completion(ids(0, 4))).await.unwrap().ok().unwrap();
    let unreachable = closed.to_string();
    let mut found = None;
    eventually("the unreachable pod is credited", async || {
        // Only in the first block like the prompt, so that the other pod never has more of it.
        let outcome = complete(&stack, &ids(0, 4)[..2 * BLOCK]).await;
        assert_eq!(outcome.pod(), stack.pods[1].address().to_string());
        let credited = outcome.endpoint() == unreachable;
        found = credited.then_some(outcome);
        credited
    })
    .await;
    assert_eq!(found.unwrap().matched(), (1, 1));
    let outcome = complete(&stack, &ids(0, 4)).await;
    assert_eq!((outcome.endpoint(), outcome.matched()), (unreachable.as_str(), (4, 4)));
    assert_eq!(outcome.pod(), stack.pods[1].address().to_string());
    drop(bound);
}

in_both_wirings! {
    an_unreachable_pod_is_passed_over:
        an_unreachable_pod_is_passed_over_header, an_unreachable_pod_is_passed_over_filter_state;
    only_requests_in_flight_fail:
        a_killed_pod_fails_only_what_is_in_flight_on_it_header, a_killed_pod_fails_only_what_is_in_flight_on_it_filter_state;
}
