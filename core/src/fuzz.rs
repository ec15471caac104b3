//! Bodies of the fuzz targets: what must hold for any input from outside.
//!
//! `core/tests/fuzz_bodies.rs` drives them with proptest on stable Rust, the `fuzz` workspace with cargo-fuzz. They are
//! ordinary functions that panic when something does not hold, and no other code calls them.

use std::collections::BTreeMap;

use crate::block;
use crate::model::Model;
use crate::request::{self, Api, Prompt};
use crate::template::Template;

/// Any bytes as a body of each API: no panic, and keys exactly for the blocks that can match.
pub fn request_body(model: &Model, body: &[u8]) {
    for api in Api::ALL {
        let Ok(request) = request::parse(api, body) else { continue };
        let of_api = match request.prompt {
            Prompt::Chat(_) => matches!(api, Api::ChatCompletions | Api::Messages | Api::Responses),
            Prompt::Text { .. } => api == Api::Completions,
            Prompt::Tokens(_) => matches!(api, Api::Completions | Api::Generate),
        };
        assert!(of_api, "a prompt that {api:?} does not have");
        let Ok(prompt) = model.keys(&request) else { continue };
        let block_tokens = model.definition().block_tokens as usize;
        let tokens = if prompt.complete { prompt.token_count } else { prompt.token_count + 1 };
        assert_eq!(prompt.keys.len(), block::matchable_blocks(tokens, block_tokens));
        assert_eq!(model.keys(&request).as_ref(), Ok(&prompt), "the same request has other keys");
    }
}

/// Any text as a chat template: no panic when it is compiled, and none when it renders `body`.
pub fn chat_template(source: &str, body: &[u8]) {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let Ok(template) = Template::new(source, &tokens) else { return };
    let Ok(request) = request::parse(Api::ChatCompletions, body) else { return };
    if let Prompt::Chat(chat) = request.prompt {
        let _ = template.render(&chat);
    }
}
