//! Bodies of the fuzz targets: what must hold for any input from outside.
//!
//! `core/tests/fuzz_bodies.rs` drives them with proptest on stable Rust, the `fuzz` workspace with cargo-fuzz. They are
//! ordinary functions that panic when something does not hold, and no other code calls them.

use std::collections::BTreeMap;

use crate::block;
use crate::definition::ChatRules;
use crate::model::Model;
use crate::request::{self, Api, Prompt};
use crate::template::Template;
use crate::tokenizer::{CacheSizes, Limits, Runtime, Tokenizer, asset};

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
        let Ok(prompt) = model.keys(&request, Some(0)) else { continue };
        let block_tokens = model.definition().block_tokens as usize;
        let tokens = if prompt.complete { prompt.token_count } else { prompt.token_count + 1 };
        assert_eq!(prompt.keys.len(), block::matchable_blocks(tokens, block_tokens));
        assert_eq!(model.keys(&request, Some(0)).as_ref(), Ok(&prompt), "the same request has other keys");
    }
}

/// Any text as a chat template: no panic when it is compiled, and none when it renders `body`.
pub fn chat_template(source: &str, body: &[u8]) {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let Ok(template) = Template::new(source, &tokens, &ChatRules::default()) else { return };
    let Ok(request) = request::parse(Api::ChatCompletions, body) else { return };
    if let Prompt::Chat(chat) = request.prompt {
        let _ = template.render(&chat, None);
    }
}

/// Any bytes as a tokenizer asset: refused, or harmless for every text.
///
/// `input` is the asset itself when its first byte is even. When it is odd, it says how `valid`, an asset that is right,
/// is changed: groups of five bytes, an offset and the byte to put there. Either is tried as it is, and with a checksum
/// that fits, because a checksum keeps out damage only. The last bytes of `input` are also the text.
pub fn tokenizer_asset(valid: &[u8], input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let (changes, tail) = rest.split_at(rest.len() - rest.len().min(64));
    let mut asset = if kind % 2 == 0 { changes.to_vec() } else { valid.to_vec() };
    if kind % 2 == 1 {
        for change in changes.as_chunks::<5>().0 {
            let [a, b, c, d, value] = *change;
            let length = asset.len().max(1);
            if let Some(byte) = asset.get_mut(u32::from_le_bytes([a, b, c, d]) as usize % length) {
                *byte = value;
            }
        }
    }
    encode_with(&asset, tail);
    asset::set_checksum(&mut asset);
    encode_with(&asset, tail);
}

/// Texts through an asset that may be anything: no panic, no endless loop, the same ids twice.
fn encode_with(asset: &[u8], tail: &[u8]) {
    // Small caches: making them of full size would be most of the time, and these are overrun by some texts.
    let sizes = CacheSizes {
        word_bits: 4,
        long_words_bytes: 4 << 10,
        segments_bytes: 16 << 10,
        ..CacheSizes::default()
    };
    let Ok(runtime) = Runtime::load_with(asset.to_vec(), sizes) else { return };
    let tail = String::from_utf8_lossy(tail);
    let limits = Limits { merge_work_max: 1 << 14, ..Limits::default() };
    let repeated = "ab 'll 12\n".repeat(40);
    for text in ["", "Hello, world! <|im_start|>e\u{301} \u{1100}\u{1161} 日本語\n\n", &repeated, &tail] {
        for add_special_tokens in [false, true] {
            let first = runtime.encode(text, add_special_tokens, &limits);
            assert!(runtime.encode(text, add_special_tokens, &limits) == first, "other ids the second time");
        }
    }
}
