//! What is asked of the sidecar, from keys to an ordered list of endpoints.

use std::net::SocketAddr;

use prost::Message;
use warmpath_core::definition::ModelDefinition;
use warmpath_core::model::PromptKeys;
use warmpath_core::request::Api;
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{AskResponse, PickPromptRequest, PickRequest, PickResponse};

use crate::outcome::Reason;

/// Endpoints named to Envoy: the first is used, each retry takes the next. More than a route's retries are of no use.
pub const ENDPOINTS_MAX: usize = 4;

/// The largest answer that is read. A sidecar that knows 1000 endpoints answers about 30 KiB.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A serialized `envoy.config.core.v3.GrpcService{envoy_grpc{cluster_name}}`: field 1, length, field 1, length, name.
///
/// Envoy parses the upstream argument of a gRPC call as this message first, and a bare cluster name that happens to be
/// valid protobuf aborts the whole process, so nothing else is ever sent. `None` for a name over 125 bytes, whose
/// lengths would not be single bytes of ASCII any more ([`crate::config`] refuses those).
pub fn grpc_service(cluster: &str) -> Option<String> {
    let inner = u8::try_from(cluster.len()).ok().filter(|length| (1..=125).contains(length))?;
    let mut service = String::with_capacity(cluster.len() + 4);
    service.push('\n');
    service.push(char::from(inner + 2));
    service.push('\n');
    service.push(char::from(inner));
    service.push_str(cluster);
    Some(service)
}

/// What is asked, besides the keys.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The request's `x-request-id`.
    pub request_id: &'a str,
    /// Name of the model definition.
    pub model: &'a str,
    /// Tokens in one block.
    pub block_tokens: u32,
    /// The client's limit on output tokens.
    pub output_tokens_max: Option<u64>,
    /// The pick is not followed.
    pub observe: bool,
}

impl<'a> Question<'a> {
    /// About a request to that model.
    pub fn new(
        definition: &'a ModelDefinition,
        request_id: &'a str,
        output_tokens_max: Option<u64>,
        observe: bool,
    ) -> Self {
        let ModelDefinition { name, block_tokens, .. } = definition;
        Self { request_id, model: name, block_tokens: *block_tokens, output_tokens_max, observe }
    }

    fn request(self) -> PickRequest {
        PickRequest {
            request_id: self.request_id.to_owned(),
            model: self.model.to_owned(),
            block_tokens: self.block_tokens,
            output_tokens_max: self.output_tokens_max.unwrap_or(0),
            observe: self.observe,
            ..PickRequest::default()
        }
    }
}

/// A pick by at most `keys_max` keys.
pub fn by_keys(question: Question<'_>, prompt: &PromptKeys, keys_max: usize) -> Ask {
    Ask::Pick(PickRequest {
        block_keys: prompt.keys.iter().take(keys_max).map(|key| key.0).collect(),
        // What is known of a prompt's prefix is no count of the prompt.
        token_count: if prompt.complete { prompt.token_count as u64 } else { 0 },
        ..question.request()
    })
}

/// A pick whose keys the sidecar makes.
pub fn by_prompt(question: Question<'_>, api: Api, body: &[u8]) -> Ask {
    let (path, body) = (api.path().to_owned(), body.to_vec());
    Ask::Prompt(PickPromptRequest { pick: Some(question.request()), path, body })
}

/// A usable answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Names the pick in reports; 0: no report is wanted.
    pub pick_id: u64,
    /// Best endpoint.
    pub first: String,
    /// Leading blocks of the prompt that it holds.
    pub match_blocks: u32,
    /// Its data-parallel rank that holds them, if the engine is to be told.
    pub rank: Option<u32>,
    /// Keys that the sidecar made of the prompt; 0 if this filter made them.
    pub prompt_keys: usize,
    /// The steering header's value: at most [`ENDPOINTS_MAX`] endpoints, comma separated, best first.
    pub header: String,
}

/// Decodes a message of the sidecar; none if it cannot be read, and then the stream is of no more use.
pub fn decode(message: &[u8]) -> Option<AskResponse> {
    (message.len() <= ANSWER_BYTES_MAX).then(|| AskResponse::decode(message).ok()).flatten()
}

/// Reads an answer, or says why there is none to follow. Entries that are no literal `IP:port` are left out: Envoy's
/// load balancer could not use them, and nothing else may get into a header.
pub fn read(response: PickResponse) -> Result<Answer, Reason> {
    if !response.pass_reason.is_empty() {
        return Err(Reason::from_sidecar(&response.pass_reason));
    }
    let mut usable = response
        .endpoints
        .into_iter()
        .filter(|endpoint| endpoint.address.parse::<SocketAddr>().is_ok())
        .take(ENDPOINTS_MAX);
    let first = usable.next().ok_or(Reason::NoEndpoints)?;
    let mut header = first.address.clone();
    for endpoint in usable {
        header.push(',');
        header.push_str(&endpoint.address);
    }
    Ok(Answer {
        pick_id: response.pick_id,
        first: first.address,
        match_blocks: first.match_blocks,
        rank: first.data_parallel_rank,
        prompt_keys: response.prompt_keys as usize,
        header,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmpath_core::block::BlockKey;
    use warmpath_core::pass::PassReason;
    use warmpath_proto::v1::ScoredEndpoint;

    #[test]
    fn service_is_the_protobuf_that_envoy_wants() {
        assert_eq!(grpc_service("warmpath_pick").unwrap().as_bytes(), b"\x0a\x0f\x0a\x0dwarmpath_pick");
        assert_eq!(grpc_service(""), None);
        assert!(grpc_service(&"x".repeat(125)).is_some());
        assert_eq!(grpc_service(&"x".repeat(126)), None);
    }

    #[test]
    fn a_pick_carries_the_first_keys() {
        let prompt = PromptKeys { keys: (1..=5).map(BlockKey).collect(), token_count: 90, complete: true };
        let question = Question {
            request_id: "r",
            model: "m",
            block_tokens: 16,
            output_tokens_max: Some(7),
            observe: true,
        };
        let Ask::Pick(request) = by_keys(question, &prompt, 3) else { panic!("not by keys") };
        assert_eq!(request.block_keys, [1, 2, 3]);
        assert_eq!((request.token_count, request.block_tokens, request.output_tokens_max), (90, 16, 7));
        assert_eq!((request.request_id.as_str(), request.model.as_str()), ("r", "m"));
        assert!(request.observe);
    }

    #[test]
    fn a_prompt_is_sent_with_its_api_and_a_reason_comes_back() {
        let question = Question {
            request_id: "r",
            model: "m",
            block_tokens: 16,
            output_tokens_max: None,
            observe: false,
        };
        let Ask::Prompt(sent) = by_prompt(question, Api::ChatCompletions, b"{}") else {
            panic!("not a prompt")
        };
        assert_eq!((sent.path.as_str(), sent.body.as_slice()), ("/v1/chat/completions", &b"{}"[..]));
        let pick = sent.pick.unwrap();
        assert_eq!((pick.model.as_str(), pick.block_tokens, pick.block_keys.len()), ("m", 16, 0));
        let refused =
            |label: &str| read(PickResponse { pass_reason: label.to_owned(), ..PickResponse::default() });
        assert_eq!(refused("template_error"), Err(Reason::Prompt(PassReason::TemplateError)));
        assert_eq!(refused("something new"), Err(Reason::CalloutError));
    }

    #[test]
    fn a_prefix_has_no_token_count() {
        let prompt = PromptKeys { keys: vec![BlockKey(1)], token_count: 90, complete: false };
        let question = Question {
            request_id: "",
            model: "m",
            block_tokens: 16,
            output_tokens_max: None,
            observe: false,
        };
        let Ask::Pick(request) = by_keys(question, &prompt, 3) else { panic!("not by keys") };
        assert_eq!((request.token_count, request.block_keys.len()), (0, 1));
    }

    fn answer(addresses: &[&str]) -> Result<Answer, Reason> {
        let endpoints = addresses.iter().enumerate().map(|(i, address)| ScoredEndpoint {
            address: (*address).to_owned(),
            match_blocks: 9 - i as u32,
            score: 0.5,
            data_parallel_rank: (*address == "1.1.1.1:1").then_some(3),
            ..ScoredEndpoint::default()
        });
        let response = PickResponse { endpoints: endpoints.collect(), pick_id: 4, ..PickResponse::default() };
        read(response)
    }

    #[test]
    fn an_answer_is_ordered_and_bounded() {
        let five = answer(&["1.1.1.1:1", "1.1.1.2:1", "[::1]:1", "1.1.1.4:1", "1.1.1.5:1"]).unwrap();
        assert_eq!(five.header, "1.1.1.1:1,1.1.1.2:1,[::1]:1,1.1.1.4:1");
        assert_eq!((five.first.as_str(), five.match_blocks, five.pick_id), ("1.1.1.1:1", 9, 4));
        assert_eq!(five.rank, Some(3));
    }

    #[test]
    fn entries_that_are_no_address_are_left_out() {
        let answer_ =
            answer(&["pod-1:8000", "1.1.1.1:1\r\nx: y", "1.1.1.2:1,6.6.6.6:1", "1.1.1.3:1"]).unwrap();
        assert_eq!((answer_.header.as_str(), answer_.match_blocks), ("1.1.1.3:1", 6));
        assert_eq!(answer_.rank, None);
        assert_eq!(answer(&["pod-1:8000"]), Err(Reason::NoEndpoints));
        assert_eq!(read(PickResponse::default()), Err(Reason::NoEndpoints));
    }

    #[test]
    fn a_message_that_is_too_long_or_none_is_not_read() {
        assert_eq!(decode(&[]), Some(AskResponse::default()));
        assert_eq!(decode(b"\xff\xff"), None);
        assert_eq!(decode(&vec![0; ANSWER_BYTES_MAX + 1]), None);
    }
}
