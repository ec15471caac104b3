//! The sidecar is killed, stopped or absent: requests are answered all the same, and steered again when it is back.

#[macro_use]
mod common;

use common::{Outcome, complete, events_arrive, eventually, ids, metrics, nothing_held, passes, start};
use serde_json::json;
use warmpath_harness::{Stack, StackBuilder, Steer};

/// What a request waits for the sidecar here, at most.
const CALLOUT_TIMEOUT: &str = "200ms";
/// Blocks of the prompts.
const BLOCKS: usize = 4;
/// A prompt by which to see whether requests are steered at all.
const OTHER: u32 = 99;

fn impatient(builder: StackBuilder) -> StackBuilder {
    builder.plugin(json!({
        "callout_timeout": CALLOUT_TIMEOUT,
        "breaker": {"consecutive_timeouts": 5, "open_for": "5s"},
    }))
}

/// A request that is answered with 200: by its timeout, since the guard route would have ended it with another status.
async fn answered(stack: &Stack, number: u32) -> Outcome {
    complete(stack, &ids(number, BLOCKS)).await
}

/// Waits until requests are steered.
async fn steers(stack: &Stack) {
    eventually("requests are steered", async || answered(stack, OTHER).await.reason() == "steered").await;
    events_arrive(stack).await;
}

/// Waits until the sidecar knows the prompt, which nobody has sent since the last time.
async fn knows(stack: &Stack, number: u32) {
    // On a busy machine one may time out and go anywhere.
    eventually("the prompt is steered", async || {
        let outcome = answered(stack, number).await;
        let steered = outcome.reason() == "steered";
        assert!(!steered || outcome.matched() == (BLOCKS, BLOCKS), "{number}: {:?}", outcome.matched());
        steered
    })
    .await;
}

/// A first prompt, which is cached and known.
async fn warm(stack: &Stack) {
    answered(stack, 0).await;
    events_arrive(stack).await;
    knows(stack, 0).await;
}

async fn sidecar_killed(steer: Steer) {
    let Some(mut stack) = start("sidecar_killed", steer, impatient).await else { return };
    warm(&stack).await;
    stack.running_sidecar().unwrap().process().kill();
    stack.sidecar = None;
    let before = metrics(&stack).await;
    for number in 1..=8 {
        // The first may meet the open connection, the others are refused.
        let reason = answered(&stack, number).await.reason().to_owned();
        assert!(["callout_error", "callout_timeout"].contains(&reason.as_str()), "{number}: {reason}");
    }
    let after = metrics(&stack).await;
    let counted = |reason| passes(&after, reason) - passes(&before, reason);
    assert_eq!(counted("callout_error") + counted("callout_timeout"), 8.0);
    nothing_held(&stack).await;

    // What the pods have is learned again by replay.
    stack.start_sidecar().await.unwrap();
    steers(&stack).await;
    knows(&stack, 0).await;
}

async fn sidecar_stopped(steer: Steer) {
    let Some(mut stack) = start("sidecar_stopped", steer, impatient).await else { return };
    warm(&stack).await;
    stack.running_sidecar().unwrap().process().pause().unwrap();
    let before = metrics(&stack).await;
    let mut reasons = Vec::new();
    for number in 1..=12 {
        reasons.push(answered(&stack, number).await.reason().to_owned());
    }
    assert!(reasons[..5].iter().all(|reason| reason == "callout_timeout"), "{reasons:?}");
    assert!(reasons[5..].contains(&"breaker_open".to_owned()), "{reasons:?}");
    // One in five seconds still asks.
    let known = ["breaker_open", "callout_timeout"];
    assert!(reasons[5..].iter().all(|reason| known.contains(&reason.as_str())), "{reasons:?}");
    let after = metrics(&stack).await;
    let counted = |reason| passes(&after, reason) - passes(&before, reason);
    assert_eq!(counted("callout_timeout") + counted("breaker_open"), 12.0);
    assert_eq!(after.sum("warmpath_breaker_opened") - before.sum("warmpath_breaker_opened"), 1.0);
    nothing_held(&stack).await;

    stack.running_sidecar().unwrap().process().resume().unwrap();
    steers(&stack).await;
    knows(&stack, 0).await;
}

async fn sidecar_absent_at_start(steer: Steer) {
    let absent = |builder| impatient(builder).sidecar_absent();
    let Some(mut stack) = start("sidecar_absent_at_start", steer, absent).await else { return };
    for number in [0, 1] {
        assert_eq!(answered(&stack, number).await.reason(), "not_ready");
    }
    assert_eq!(passes(&metrics(&stack).await, "not_ready"), 2.0);
    stack.start_sidecar().await.unwrap();
    steers(&stack).await;
    // Requests of the time without a sidecar count: their events are replayed.
    knows(&stack, 0).await;
}

in_both_wirings! {
    sidecar_killed:
        a_killed_sidecar_loses_no_request_header, a_killed_sidecar_loses_no_request_filter_state;
    sidecar_stopped:
        a_stopped_sidecar_costs_its_timeout_until_the_breaker_opens_header, a_stopped_sidecar_costs_its_timeout_until_the_breaker_opens_filter_state;
    sidecar_absent_at_start:
        an_absent_sidecar_is_found_when_it_comes_header, an_absent_sidecar_is_found_when_it_comes_filter_state;
}
