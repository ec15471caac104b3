//! Models come from the sidecar, and are changed while everything runs.

#[macro_use]
mod common;

use common::{complete, eventually, ids, metrics, start};
use serde_json::json;
use warmpath_harness::Steer;

/// A definition with another digest: the old tokenizer goes, the new one comes, and no request is lost meanwhile.
async fn changed_model(steer: Steer) {
    let Some(mut stack) = start("changed_model", steer, |builder| builder).await else { return };
    let prompt = ids(0, 2);
    assert_eq!(complete(&stack, &prompt).await.reason(), "steered");
    let before = metrics(&stack).await.sum("warmpath_asset_loads");

    let mut models = stack.files.config()["models"].clone();
    models[0]["block_tokens"] = json!(32);
    stack.files.change(&json!({"models": models})).unwrap();
    // 129 tokens: 2 keys of 64 tokens before, 4 of 32 after. (The pods keep their blocks of 64, so nothing matches.)
    eventually("keys of the new size", async || {
        let outcome = complete(&stack, &prompt).await;
        assert!(outcome.response.status.is_success());
        assert!(["steered", "not_ready", "no_endpoints"].contains(&outcome.reason()), "{}", outcome.reason());
        metrics(&stack).await.sum("warmpath_asset_loads") > before && outcome.reason() == "no_endpoints"
    })
    .await;
    models[0]["block_tokens"] = json!(64);
    stack.files.change(&json!({"models": models})).unwrap();
    eventually("keys of the old size", async || complete(&stack, &prompt).await.reason() == "steered").await;
}

in_both_wirings! {
    changed_model:
        a_changed_model_is_loaded_while_it_runs_header, a_changed_model_is_loaded_while_it_runs_filter_state;
}
