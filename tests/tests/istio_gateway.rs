//! A real Envoy with the configuration of an Istio gateway pod, extended by the shipped EnvoyFilters. In the filter's
//! place stands a filter of Envoy that names the endpoint which the test asks for, so what is seen here is the wiring.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use serde_json::{Value, json};
use warmpath_harness::{
    Client, Envoy, Programs, Response,
    client::{streamed, whole},
};
use warmpath_tests::{
    istio::{Manifests, apply_envoy_filters, gateway},
    recorder::{DELAY_HEADER, Recorder},
};

const MODEL_PATH: &str = "/v1/chat/completions";
/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);
/// Stands for the 3 s of the shipped guard: longer than a busy machine keeps Envoy from a request that has come whole.
const GUARD: Duration = Duration::from_millis(1500);

/// Names the endpoint of the request header `x-name`, none without it.
fn stand_in() -> Value {
    json!({
        "name": "stand-in",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "wasm.kv_endpoint",
                "factory_key": "envoy.string",
                "skip_if_empty": true,
                "format_string": { "text_format_source": { "inline_string": "%REQ(x-name)%" }, "omit_empty_values": true },
            }],
        },
    })
}

struct Gateway {
    pods: [Recorder; 2],
    client: Client,
    _envoy: Envoy,
    _directory: tempfile::TempDir,
}

impl Gateway {
    async fn start(test: &str) -> Option<Self> {
        Self::start_edited(test, |_| ()).await
    }

    async fn start_edited(test: &str, edit: impl FnOnce(&mut Value)) -> Option<Self> {
        let programs = Programs::or_skip(test)?;
        let manifests = Manifests::shipped().unwrap();
        let pods = [Recorder::start().await.unwrap(), Recorder::start().await.unwrap()];
        let endpoints =
            gateway::Endpoints::from([("vllm".into(), pods.iter().map(|pod| pod.address).collect())]);
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut config = gateway::bootstrap(&manifests, "inference", listen, &endpoints).unwrap();
        gateway::insert_plugin(&mut config, stand_in()).unwrap();
        apply_envoy_filters(&mut config, &manifests, &manifests.gateway_labels().unwrap()).unwrap();
        edit(&mut config);
        let directory = tempfile::tempdir().unwrap();
        let envoy = Envoy::start(&programs.envoy, "gateway", &config, 1, directory.path()).await.unwrap();
        Some(Self { pods, client: envoy.http1(), _envoy: envoy, _directory: directory })
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
        let request = headers
            .iter()
            .fold(self.client.json_request(path), |request, (name, value)| request.header(*name, *value));
        self.client.send(request, whole(body)).await.unwrap()
    }
}

#[tokio::test]
async fn goes_to_the_named_endpoint_and_balances_without_one() {
    let Some(gateway) = Gateway::start("goes_to_the_named_endpoint_and_balances_without_one").await else {
        return;
    };
    for round in 0..10 {
        let pod = gateway.pods[round % 3 % 2].address.to_string();
        let response = gateway.post(MODEL_PATH, &[("x-name", &pod)], "{}").await;
        assert_eq!((response.status.as_u16(), response.pod()), (200, Some(pod.as_str())));
        let unknown_first = format!("10.1.2.3:8000,{pod}");
        let response = gateway.post(MODEL_PATH, &[("x-name", &unknown_first)], "{}").await;
        assert_eq!((response.status.as_u16(), response.pod()), (200, Some(pod.as_str())));
    }
    for name in ["10.1.2.3:8000", "garbage", ","] {
        assert_eq!(gateway.post(MODEL_PATH, &[("x-name", name)], "{}").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_client_cannot_name_an_endpoint() {
    let Some(mut gateway) = Gateway::start("a_client_cannot_name_an_endpoint").await else { return };
    let spoofed = gateway.pods[0].address.to_string();
    for path in [MODEL_PATH, "/v1/files"] {
        for _ in 0..10 {
            let headers = [("x-gateway-destination-endpoint", spoofed.as_str()), ("x-warmpath", "steered")];
            assert_eq!(gateway.post(path, &headers, "{}").await.status, 200);
        }
    }
    let arrivals = gateway.pods.each_mut().map(Recorder::arrived);
    for arrival in arrivals.iter().flatten() {
        assert!(arrival.headers.get("x-gateway-destination-endpoint").is_none(), "{arrival:?}");
        let mark = arrival.headers.get("x-warmpath").unwrap();
        assert_eq!(mark, "released", "{arrival:?}");
    }
    assert!(arrivals.iter().all(|pod| !pod.is_empty()), "every request followed the header of the client");
}

/// Sends the first piece of a body to `path`, does `meanwhile`, and sends the rest. The client says that the request is
/// past the hold, which must not help it.
async fn in_two_pieces(client: &Client, path: &str, meanwhile: impl AsyncFnOnce()) -> Response {
    let (sender, pieces) = mpsc::unbounded();
    sender.unbounded_send(Bytes::from_static(b"{\"first\":1,")).unwrap();
    let request = client.json_request(path).header("x-warmpath", "released");
    let exchange = client.send(request, streamed(pieces, None));
    let rest = async {
        meanwhile().await;
        sender.unbounded_send(Bytes::from_static(b"\"second\":2}")).unwrap();
        drop(sender);
    };
    let (response, ()) = tokio::join!(exchange, rest);
    response.unwrap()
}

#[tokio::test]
async fn other_routes_are_not_held() {
    let Some(mut gateway) = Gateway::start("other_routes_are_not_held").await else { return };
    let [first, second] = &mut gateway.pods;
    let response = in_two_pieces(&gateway.client, "/v1/files", async || {
        let arrival = tokio::time::timeout(LIMIT, async {
            tokio::select! { arrival = first.arrival() => arrival, arrival = second.arrival() => arrival }
        });
        let arrival = arrival.await.expect("the pod sees an upload before it has ended").unwrap();
        assert_eq!(arrival.path, "/v1/files");
    });
    assert_eq!(response.await.status, 200);
}

#[tokio::test]
async fn the_models_route_is_held() {
    let Some(mut gateway) = Gateway::start("the_models_route_is_held").await else { return };
    let other = gateway.client.clone();
    let pods = &mut gateway.pods;
    let response = in_two_pieces(&gateway.client, MODEL_PATH, async || {
        // Envoy has one worker here, so what it would let through has gone when a later request is answered.
        for _ in 0..5 {
            assert_eq!(other.post_json("/v1/files", &json!({})).await.unwrap().status, 200);
        }
        let paths: Vec<_> = pods.iter_mut().flat_map(Recorder::arrived).map(|arrival| arrival.path).collect();
        assert_eq!(paths, ["/v1/files"; 5]);
    });
    let response = response.await;
    assert_eq!((response.status.as_u16(), response.text().as_str()), (200, "22"));
}

#[tokio::test]
async fn a_held_body_may_be_as_large_as_the_buffer_and_no_larger() {
    let Some(gateway) = Gateway::start("a_held_body_may_be_as_large_as_the_buffer_and_no_larger").await
    else {
        return;
    };
    // The listener of this gateway buffers 32 KiB, as Istio 1.31's does; the buffer filter's limit is the one that counts.
    for (bytes, status) in [(5 << 20, 200), (16 << 20, 200), ((16 << 20) + 1, 413)] {
        let response = gateway.post(MODEL_PATH, &[], vec![b' '; bytes]).await;
        assert_eq!(response.status, status, "{bytes} bytes");
        assert_eq!(response.status == 200, response.text() == bytes.to_string(), "{bytes} bytes");
    }
    assert_eq!(gateway.post("/v1/files", &[], vec![b' '; 20 << 20]).await.status, 200);
}

/// Makes the guard's limit short enough for a test.
fn impatient(config: &mut Value) {
    let mut changed = 0;
    for manager in gateway::http_connection_managers(config, gateway::HTTP_CONNECTION_MANAGER) {
        let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
        for route in routes.iter_mut().filter(|route| route["name"] == "default.vllm.1") {
            assert_eq!(route["route"]["idle_timeout"], "3s");
            route["route"]["idle_timeout"] = json!(format!("{}s", GUARD.as_secs_f64()));
            changed += 1;
        }
    }
    assert_eq!(changed, warmpath_core::request::Api::ALL.len(), "one route for each path");
}

#[tokio::test]
async fn a_request_that_stays_held_is_ended() {
    let test = "a_request_that_stays_held_is_ended";
    let Some(mut gateway) = Gateway::start_edited(test, impatient).await else { return };
    // As with a VM that has died, the end of the body never gets past the hold: here because it is not sent.
    let (sender, pieces) = mpsc::unbounded();
    sender.unbounded_send(Bytes::from_static(b"{")).unwrap();
    let response = gateway.client.send(gateway.client.json_request(MODEL_PATH), streamed(pieces, None)).await;
    assert_eq!(response.unwrap().status, 408);
    assert!(gateway.pods.iter_mut().all(|pod| pod.arrived().is_empty()));
}

#[tokio::test]
async fn a_released_request_may_be_silent_for_longer_than_a_held_one() {
    let test = "a_released_request_may_be_silent_for_longer_than_a_held_one";
    let Some(gateway) = Gateway::start_edited(test, impatient).await else { return };
    let delay = (GUARD * 2).as_millis().to_string();
    let response = gateway.post(MODEL_PATH, &[(DELAY_HEADER, &delay)], "{}").await;
    assert_eq!((response.status.as_u16(), response.text().as_str()), (200, "2"));
}
