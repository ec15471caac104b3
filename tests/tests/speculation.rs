//! A burst of requests with one new prefix stays together before any pod has told of it.

#[macro_use]
mod common;

use std::collections::BTreeSet;

use common::{Outcome, ask, completion, events_arrive, ids, start};
use futures::future::join_all;
use serde_json::json;
use warmpath_harness::{PodOptions, Stack, StackBuilder, Steer};

const BURST: usize = 9;

/// Marks last longer than any test takes.
fn speculating(builder: StackBuilder) -> StackBuilder {
    builder.pods(3, PodOptions::default()).sidecar(json!({"index": {"speculate_for": "10m"}}))
}

async fn switch(stack: &Stack, path: &str) {
    for pod in &stack.pods {
        pod.client().post_json(path, &json!({})).await.unwrap().ok().unwrap();
    }
}

/// The same new prompt many times at once.
async fn burst(stack: &Stack, number: u32, blocks: usize) -> Vec<Outcome> {
    let body = completion(ids(number, blocks));
    join_all((0..BURST).map(|_| ask(stack, "/v1/completions", &body))).await
}

fn pods(outcomes: &[Outcome]) -> BTreeSet<&str> {
    outcomes.iter().map(Outcome::pod).collect()
}

async fn a_burst_stays_together(steer: Steer) {
    let Some(stack) = start("a_burst_stays_together", steer, speculating).await else { return };
    // No pod tells anything: what keeps the burst together is the picks alone.
    switch(&stack, "/sim/pause-events").await;
    let mut used = BTreeSet::new();
    for number in 0..4 {
        let outcomes = burst(&stack, number, 4).await;
        assert_eq!(pods(&outcomes).len(), 1, "{:?}", pods(&outcomes));
        // What is only coming is no match.
        assert!(outcomes.iter().all(|outcome| outcome.matched() == (0, 4) && outcome.reason() == "steered"));
        used.extend(pods(&outcomes).into_iter().map(str::to_owned));
    }
    assert!(used.len() > 1, "different prefixes are spread: {used:?}");
    switch(&stack, "/sim/resume-events").await;
    events_arrive(&stack).await;
    // What a pod has told counts from now on.
    let outcomes = burst(&stack, 0, 4).await;
    assert!(outcomes.iter().all(|outcome| outcome.matched() == (4, 4)));
    assert_eq!(pods(&outcomes).len(), 1);
}

in_both_wirings! {
    a_burst_stays_together: a_burst_stays_together_header, a_burst_stays_together_filter_state;
}
