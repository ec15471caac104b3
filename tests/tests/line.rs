//! The stream on which the filter asks its sidecar: one for all requests, opened again whoever ends it.

#[macro_use]
mod common;

use std::time::Duration;

use common::{complete, eventually, ids, metrics, nothing_held, start, still_steers};
use futures::StreamExt;
use serde_json::json;
use warmpath_harness::{Stack, StackBuilder, Steer};

/// How long a sidecar may take to end on a busy machine.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Requests at once.
const MANY: u32 = 150;

fn one_worker(builder: StackBuilder) -> StackBuilder {
    builder.concurrency(1)
}

/// Waits until requests are steered.
async fn steers(stack: &Stack) {
    eventually("requests are steered", async || complete(stack, &ids(1, 2)).await.reason() == "steered")
        .await;
}

/// Every VM with a model opens one: the worker's, and those of Envoy's main thread.
async fn opened(stack: &Stack) -> f64 {
    metrics(stack).await.sum("warmpath_line_opened")
}

async fn many_at_once(steer: Steer) {
    let Some(stack) = start("many_at_once", steer, one_worker).await else { return };
    let prompts: Vec<_> = (0..MANY).map(|number| ids(number, 3)).collect();
    let outcomes = futures::stream::iter(&prompts).map(|prompt| complete(&stack, prompt));
    let outcomes: Vec<_> = outcomes.buffer_unordered(MANY as usize).collect().await;
    assert!(outcomes.iter().all(|outcome| outcome.reason() == "steered"));
    // Each got its own answer: its own pod, by Envoy's word, is the one that was picked for it.
    assert!(outcomes.iter().all(|outcome| outcome.pod() == outcome.endpoint()));
    let metrics = metrics(&stack).await;
    assert_eq!((metrics.sum("warmpath_line_closed"), metrics.sum("warmpath_answers_unused")), (0.0, 0.0));
    assert_eq!(metrics.sum("warmpath_picks"), f64::from(MANY));
    let envoy =
        metrics.sum_where("envoy_cluster_upstream_rq_total", &[("envoy_cluster_name", "warmpath_pick")]);
    assert_eq!(envoy, opened(&stack).await, "no other request goes to the sidecar's gRPC port");
    still_steers(&stack).await;
}

async fn sidecar_restarted(steer: Steer) {
    let Some(mut stack) = start("sidecar_restarted", steer, one_worker).await else { return };
    assert_eq!(complete(&stack, &ids(0, 2)).await.reason(), "steered");
    let mut sidecar = stack.sidecar.take().unwrap();
    let client = stack.client();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let traffic = async {
        let mut codes = Vec::new();
        let body = common::completion(ids(2, 2));
        while stopped.try_recv().is_err() {
            codes.push(client.post_json("/v1/completions", &body).await.unwrap().status.as_u16());
        }
        codes
    };
    let restart = async {
        // With traffic, it ends at once and well: its streams do not keep it.
        assert!(sidecar.process().terminate(END_LIMIT).await.unwrap().success());
        stack.start_sidecar().await.unwrap();
        steers(&stack).await;
        stop.send(()).unwrap();
    };
    let (codes, ()) = tokio::join!(traffic, restart);
    assert!(codes.len() > 2 && codes.iter().all(|code| *code == 200), "{codes:?}");
    nothing_held(&stack).await;
    let metrics = metrics(&stack).await;
    assert!(metrics.sum("warmpath_line_closed") >= 1.0);
    assert_eq!(metrics.sum("warmpath_wrong_phase") + metrics.sum("warmpath_host_errors"), 0.0);
    // An ask may be overdue before its stream is seen to end, and a sidecar that has just begun knows no endpoint yet.
    let expected =
        ["callout_error", "callout_timeout", "no_endpoints"].map(|reason| common::passes(&metrics, reason));
    let others = metrics.sum("warmpath_passes") - expected.iter().sum::<f64>();
    assert_eq!(others, 0.0, "passed for another reason");
}

async fn stream_cut(steer: Steer) {
    let cut = |builder: StackBuilder| {
        one_worker(builder).edit_envoy(|config| {
            let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
            let pick = clusters.iter_mut().find(|cluster| cluster["name"] == "warmpath_pick").unwrap();
            let options = &mut pick["typed_extension_protocol_options"];
            let options = &mut options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
            options["common_http_protocol_options"] = json!({"max_stream_duration": "0.3s"});
            Ok(())
        })
    };
    let Some(stack) = start("stream_cut", steer, cut).await else { return };
    let before = opened(&stack).await;
    let mut steered = 0;
    while opened(&stack).await < before + 5.0 {
        let outcome = complete(&stack, &ids(steered, 2)).await;
        assert!(["steered", "callout_error"].contains(&outcome.reason()), "{}", outcome.reason());
        steered += u32::from(outcome.reason() == "steered");
    }
    assert!(steered > 0);
    nothing_held(&stack).await;
    let metrics = metrics(&stack).await;
    assert_eq!(metrics.sum("warmpath_asset_loads"), 2.0, "the VMs live");
    assert_eq!(metrics.sum("warmpath_wrong_phase") + metrics.sum("warmpath_host_errors"), 0.0);
}

in_both_wirings! {
    many_at_once:
        many_requests_at_once_ask_on_one_stream_header, many_requests_at_once_ask_on_one_stream_filter_state;
    sidecar_restarted:
        a_sidecar_that_is_restarted_loses_no_request_header, a_sidecar_that_is_restarted_loses_no_request_filter_state;
    stream_cut:
        a_stream_that_envoy_cuts_is_opened_again_header, a_stream_that_envoy_cuts_is_opened_again_filter_state;
}
