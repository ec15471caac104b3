//! Bodies in pieces, answers in pieces, other protocols on other paths, clients that leave.

#[macro_use]
mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body as AxumBody;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::{completion, events_arrive, eventually, ids, metrics, nothing_held, passes, send, start};
use futures::{SinkExt, Stream, StreamExt};
use hyper::{HeaderMap, Method};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Bytes as WsBytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use warmpath_harness::client::{streamed, whole};
use warmpath_harness::{Client, Endpoint, PodOptions, Stack, StackBuilder, Steer};

const COMPLETIONS: &str = "/v1/completions";
/// Tokens of a streamed answer.
const TOKENS: usize = 20;
/// How much slower than the step model, with its 10 ms and more a step, the answer is made: the whole of it takes seconds.
const SLOWNESS: f64 = 10.0;
/// A gateway that collects the answer shows no time between chunks. A busy machine would have to keep this test from
/// reading for nearly all of the answer's time to show so little.
const SPREAD: Duration = Duration::from_millis(100);

fn both(stack: &Stack) -> [(&'static str, Client); 2] {
    [("HTTP/1", stack.envoy.http1()), ("HTTP/2", stack.envoy.http2())]
}

async fn answers_arrive_chunk_by_chunk(steer: Steer) {
    let slow = PodOptions { instant: false, time_scale: SLOWNESS, ..PodOptions::default() };
    let Some(stack) = start("answers_arrive_chunk_by_chunk", steer, |builder| builder.pods(2, slow)).await
    else {
        return;
    };
    let mut body = completion(ids(0, 2));
    body["stream"] = json!(true);
    body["max_tokens"] = json!(TOKENS);
    for (protocol, client) in both(&stack) {
        let request = client.json_request(COMPLETIONS);
        let outcome = send(&stack, &client, request, whole(body.to_string())).await;
        assert_eq!(outcome.reason(), "steered", "{protocol}");
        let response = outcome.response;
        assert!(response.header("content-type").unwrap().starts_with("text/event-stream"));
        assert!(response.text().trim_end().ends_with("data: [DONE]"), "{protocol}: {}", response.text());
        assert!(response.chunks.len() >= TOKENS / 2, "{protocol}: {} chunks", response.chunks.len());
        let spread = response.chunks.last().unwrap().after - response.ttft().unwrap();
        assert!(spread > SPREAD, "{protocol}: all chunks within {spread:?}");
    }
}

/// The body in pieces of 100 bytes, with pauses.
fn slowly(body: String) -> impl Stream<Item = Bytes> {
    let pieces: Vec<Bytes> = body.as_bytes().chunks(100).map(Bytes::copy_from_slice).collect();
    futures::stream::iter(pieces).then(async |piece| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        piece
    })
}

async fn bodies_in_pieces_are_steered(steer: Steer) {
    let Some(stack) = start("bodies_in_pieces_are_steered", steer, |builder| builder).await else { return };
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "none".parse().unwrap());
    let [http1, http2] = both(&stack).map(|(_, client)| client);
    // Without an end of its own: the filter learns from the trailers that the body is complete.
    let cases = [("chunked", &http1, None), ("HTTP/2", &http2, None), ("trailers", &http2, Some(trailers))];
    for (number, (case, client, trailers)) in cases.into_iter().enumerate() {
        let body = completion(ids(number as u32, 3)).to_string();
        let ask = || {
            let request = client.json_request(COMPLETIONS);
            send(&stack, client, request, streamed(slowly(body.clone()), trailers.clone()))
        };
        let first = ask().await;
        assert_eq!((first.response.status.as_u16(), first.matched()), (200, (0, 3)), "{case}");
        events_arrive(&stack).await;
        let again = ask().await;
        assert_eq!((again.matched(), again.pod()), ((3, 3), first.pod()), "{case}");
    }
    nothing_held(&stack).await;
}

/// An upstream that is no model server: `/upload` tells of every piece that arrives, `/socket` echoes a WebSocket.
struct Other {
    address: SocketAddr,
    pieces: mpsc::UnboundedReceiver<usize>,
}

impl Other {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, pieces) = mpsc::unbounded_channel();
        let router = axum::Router::new().fallback(async move |request: Request| match request.uri().path() {
            "/upload" => upload(request.into_body(), sender.clone()).await,
            "/socket" => socket(request),
            _ => StatusCode::NOT_FOUND.into_response(),
        });
        // It ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Other { address, pieces }
    }

    /// The pool of one that Envoy's shipped routes lead to.
    fn endpoint(&self) -> Endpoint {
        // Port 9 (discard): nobody publishes there.
        let events = "127.0.0.1:9".to_owned();
        Endpoint { address: self.address, model: common::MODEL.to_owned(), events, replay: None, ranks: 1 }
    }
}

async fn upload(body: AxumBody, pieces: mpsc::UnboundedSender<usize>) -> Response {
    let mut body = body.into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return StatusCode::BAD_REQUEST.into_response() };
        bytes += piece.len();
        let _ = pieces.send(bytes);
    }
    bytes.to_string().into_response()
}

fn socket(mut request: Request) -> Response {
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes().to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let headers = [
        (header::UPGRADE, "websocket".to_owned()),
        (header::CONNECTION, "upgrade".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(&key)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn other_paths_pass_untouched(steer: Steer) {
    let mut other = Other::start().await;
    let endpoint = other.endpoint();
    let change = |builder: StackBuilder| builder.external_pods(vec![endpoint]);
    let Some(stack) = start("other_paths_pass_untouched", steer, change).await else { return };
    for (protocol, client) in both(&stack) {
        // The rest of the upload is sent when its beginning has arrived: it would not end if anything held it.
        let (go, gone) = oneshot::channel();
        let rest = futures::stream::once(async move {
            gone.await.unwrap();
            Bytes::from(vec![7; 3_000_000])
        });
        let pieces = futures::stream::once(async { Bytes::from_static(b"begin") }).chain(rest);
        let request = client.request(Method::POST, "/upload");
        let sending = send(&stack, &client, request, streamed(pieces, None));
        let arriving = async {
            let bytes = tokio::time::timeout(common::LIMIT, other.pieces.recv()).await;
            assert_eq!(bytes.expect("the beginning arrives before the end is sent"), Some(5), "{protocol}");
            go.send(()).unwrap();
        };
        let (outcome, ()) = tokio::join!(sending, arriving);
        assert_eq!((outcome.response.text().as_str(), outcome.reason()), ("3000005", "path"), "{protocol}");
        while other.pieces.try_recv().is_ok() {}
    }

    let address = stack.envoy.address();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{address}/socket"), stream).await.unwrap();
    for number in 0..3_u8 {
        let message = Message::Binary(WsBytes::from(vec![number; 1000]));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
        // Longer than any pause of a busy gateway, shorter than the guard route's 3 s.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    socket.close(None).await.unwrap();
    let metrics = metrics(&stack).await;
    assert_eq!(metrics.sum("warmpath_held"), 0.0);
    assert_eq!((passes(&metrics, "path"), passes(&metrics, "method")), (2.0, 1.0));
}

async fn clients_leave_while_held(steer: Steer) {
    // Longer than the test: no request goes on by the timeout.
    let patient = |builder: StackBuilder| builder.plugin(json!({"callout_timeout": "60s"}));
    let Some(mut stack) = start("clients_leave_while_held", steer, patient).await else { return };
    stack.running_sidecar().unwrap().process().pause().unwrap();
    let mut waiting = Vec::new();
    for (_, client) in both(&stack) {
        let request = |client: &Client| client.json_request(COMPLETIONS);
        let endless = futures::stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"{\"model\"")) });
        let endless = endless.map(Result::unwrap).chain(futures::stream::pending());
        for body in [whole(completion(ids(0, 2)).to_string()), streamed(endless, None)] {
            let (client, request) = (client.clone(), request(&client));
            waiting.push(tokio::spawn(async move { client.send(request, body).await.map(|_| ()) }));
        }
    }
    eventually("four requests are held", async || metrics(&stack).await.sum("warmpath_held") == 4.0).await;
    assert_eq!(metrics(&stack).await.sum("warmpath_released"), 0.0);
    assert!(waiting.iter().all(|task| !task.is_finished()));
    for task in &waiting {
        task.abort();
    }
    nothing_held(&stack).await;
    assert_eq!(passes(&metrics(&stack).await, "client_gone"), 4.0);

    stack.running_sidecar().unwrap().process().resume().unwrap();
    assert_eq!(common::complete(&stack, &ids(1, 2)).await.reason(), "steered");
    let metrics = metrics(&stack).await;
    assert_eq!(metrics.sum("warmpath_wrong_phase") + metrics.sum("warmpath_host_errors"), 0.0);
}

in_both_wirings! {
    answers_arrive_chunk_by_chunk:
        answers_arrive_chunk_by_chunk_header, answers_arrive_chunk_by_chunk_filter_state;
    bodies_in_pieces_are_steered:
        bodies_in_pieces_are_steered_header, bodies_in_pieces_are_steered_filter_state;
    other_paths_pass_untouched:
        uploads_and_websockets_pass_untouched_header, uploads_and_websockets_pass_untouched_filter_state;
    clients_leave_while_held:
        clients_that_leave_while_held_leak_nothing_header, clients_that_leave_while_held_leak_nothing_filter_state;
}
