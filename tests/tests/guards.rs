//! What the shipped routes do for requests that nobody releases any more, and do not do to slow answers.

#[macro_use]
mod common;

use std::path::Path;
use std::time::Duration;

use common::{complete, completion, eventually, ids, metrics, start};
use serde_json::Value;
use warmpath_harness::client::whole;
use warmpath_harness::{Client, PodOptions, StackBuilder, Steer};

/// `idle_timeout` of the guard routes.
const GUARD: Duration = Duration::from_secs(3);

/// A filter that holds every request with a body as ours does, and traps on a body of less than ten bytes.
fn dying_filter(steer: Steer) -> String {
    let headers = match steer {
        Steer::Header => "1",
        Steer::FilterState => "0",
    };
    r#"(module
      (memory (export "memory") 1)
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
      (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
      (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
      (func (export "proxy_on_context_create") (param i32 i32))
      (func (export "proxy_on_request_headers") (param i32 i32) (param $end i32) (result i32)
        (if (result i32) (local.get $end) (then (i32.const 0)) (else (i32.const HEADERS))))
      (func (export "proxy_on_request_body") (param i32) (param $bytes i32) (param i32) (result i32)
        (if (i32.lt_u (local.get $bytes) (i32.const 10)) (then (unreachable)))
        (i32.const 1)))"#
        .replace("HEADERS", headers)
}

/// Puts another module in the place of the filter.
fn replace_module(config: &mut Value, module: &Path) {
    match config {
        Value::Object(object) => {
            if let Some(filename) = object.get_mut("filename") {
                *filename = module.to_str().unwrap().into();
            }
            object.values_mut().for_each(|value| replace_module(value, module));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| replace_module(value, module)),
        _ => {}
    }
}

async fn requests_of_a_dead_vm_are_ended(steer: Steer) {
    let directory = tempfile::tempdir().unwrap();
    let module = directory.path().join("dying.wasm");
    std::fs::write(&module, wat::parse_str(dying_filter(steer)).unwrap()).unwrap();
    let change = |builder: StackBuilder| {
        builder.sidecar_absent().edit_envoy(move |config| {
            replace_module(config, &module);
            Ok(())
        })
    };
    let Some(stack) = start("requests_of_a_dead_vm_are_ended", steer, change).await else { return };
    let post = |client: Client, body: String| async move {
        client.send(client.json_request("/v1/completions"), whole(body)).await
    };
    let mut held = tokio::spawn(post(stack.client(), completion(ids(0, 1)).to_string()));
    eventually("a request is held", async || {
        // On a busy machine the guard may have ended it before anyone looked.
        if held.is_finished() {
            held = tokio::spawn(post(stack.client(), completion(ids(0, 1)).to_string()));
        }
        let gateway = [("envoy_http_conn_manager_prefix", "gateway")];
        metrics(&stack).await.sum_where("envoy_http_downstream_rq_active", &gateway) == 1.0
    })
    .await;
    let dying = tokio::spawn(post(stack.client(), "die".to_owned()));

    let held = held.await.unwrap().unwrap();
    assert!(held.status.is_server_error() || held.status == 408, "{}: {}", held.status, held.text());
    assert!(held.pod().is_none());
    // Both have an answer: nothing else than the guard ends a request within the client's own limit.
    dying.await.unwrap().unwrap();
    let log = std::fs::read_to_string(stack.directory().join("envoy.stderr")).unwrap();
    assert!(log.contains("unreachable"), "the VM did not die");
    // The next requests are served by a new VM.
    eventually("requests pass again", async || {
        stack.client().get("/v1/models").await.is_ok_and(|response| response.status == 200)
    })
    .await;
}

async fn slow_answers_are_not_cut(steer: Steer) {
    let change = |builder: StackBuilder| builder.pods(1, PodOptions::default());
    let Some(stack) = start("slow_answers_are_not_cut", steer, change).await else { return };
    let hang = format!("/sim/hang?for={}s", GUARD.as_secs() + 3);
    stack.pods[0].client().post_json(&hang, &Value::Null).await.unwrap().ok().unwrap();
    let outcome = complete(&stack, &ids(0, 2)).await;
    assert_eq!(outcome.reason(), "steered");
    assert!(outcome.response.total > GUARD, "the pod did not hang: {:?}", outcome.response.total);
}

in_both_wirings! {
    requests_of_a_dead_vm_are_ended:
        requests_of_a_dead_vm_are_ended_header, requests_of_a_dead_vm_are_ended_filter_state;
    slow_answers_are_not_cut:
        slow_answers_are_not_cut_header, slow_answers_are_not_cut_filter_state;
}
