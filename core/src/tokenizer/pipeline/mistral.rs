//! What the engine runs in the mode `mistral`: Mistral's own library with Mistral's own files, which knows no special tokens
//! in a text. `[INST]` there is a word like any other.
//!
//! - `tekken.json` holds ranks and a pattern for tiktoken: it becomes a byte-level BPE file that means the same. The
//!   `tokenizer.json` beside it may have another pattern, and does not count.
//! - `tokenizer.model.v*` are SentencePiece files with the vocabulary of their `tokenizer.json`, which counts here
//!   without its added tokens.
//!
//! Source: mistral-common 1.13, `tokens/tokenizers/tekken.py` and `sentencepiece.py`; vLLM 0.32, `tokenizers/mistral.py`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::letters::letters;
use super::{Object, Pipeline, PipelineError, TOKENIZER, object};

const TEKKEN: &str = "tekken.json";

/// The token that starts a prompt, and its id where the file does not list special tokens.
const BOS: &str = "<s>";
const BOS_ID: u32 = 1;

#[derive(Deserialize)]
struct Tekken {
    config: Config,
    vocab: Vec<Token>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: usize,
    default_num_special_tokens: u32,
}

#[derive(Deserialize)]
struct Token {
    rank: u32,
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    rank: u32,
    token_str: String,
}

/// The pipeline of a `tekken.json`.
///
/// # Errors
/// When it is no such file.
pub fn of_tekken(json: &[u8]) -> Result<Pipeline, PipelineError> {
    let error = |key: &str, message: &str| PipelineError::new(TEKKEN, key, message);
    let file: Tekken = serde_json::from_slice(json)
        .map_err(|problem| error("", &format!("is not a tekken file: {problem}")))?;
    let specials = file.config.default_num_special_tokens;
    let words = file.config.default_vocab_size.checked_sub(specials as usize);
    let words = words.and_then(|words| file.vocab.get(..words));
    let words =
        words.ok_or_else(|| error("config.default_vocab_size", "is not the size of the vocabulary"))?;
    let mut tokens = Vec::with_capacity(words.len());
    for (at, token) in words.iter().enumerate() {
        let bytes = BASE64_STANDARD.decode(&token.token_bytes).ok().filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| error("vocab", "has a token that is not base64"))?;
        if token.rank as usize != at || (at < 256 && bytes != [at as u8]) {
            return Err(error("vocab", "is not in the order of its ranks, single bytes first"));
        }
        tokens.push(bytes);
    }
    let ranks: HashMap<&[u8], usize> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let letters = letters();
    let spell = |bytes: &[u8]| -> String {
        bytes.iter().filter_map(|byte| letters.get(usize::from(*byte))).collect()
    };
    let vocab: Object =
        tokens.iter().zip(specials..).map(|(token, id)| (spell(token), Value::from(id))).collect();
    if ranks.len() != tokens.len() {
        return Err(error("vocab", "has a token twice"));
    }
    let merges: Vec<Value> = tokens
        .iter()
        .flat_map(|token| parts(token, &ranks))
        .map(|(left, right)| json!([spell(left), spell(right)]))
        .collect();
    let bos = match &file.special_tokens {
        None => Some(BOS_ID),
        Some(tokens) => tokens.iter().find(|token| token.token_str == BOS).map(|token| token.rank),
    };
    let bos = bos.ok_or_else(|| error("special_tokens", "has no <s>"))?;
    let split = json!({"type": "Split", "pattern": {"Regex": file.config.pattern}, "behavior": "Isolated", "invert": false});
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    // A whole word that is a token is that token, as in tiktoken.
    let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
        "vocab": vocab, "merges": merges});
    pipeline(
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes.clone()]}, "decoder": bytes,
        "post_processor": starts_with(bos), "model": model}),
        "Tekkenizer",
    )
}

/// The pipeline of a SentencePiece file, from the `tokenizer.json` that was made of it.
///
/// # Errors
/// When it was not made of such a file.
pub fn of_sentencepiece(tokenizer_json: &[u8]) -> Result<Pipeline, PipelineError> {
    let mut tokenizer = object(TOKENIZER, tokenizer_json)?;
    let model = tokenizer.get("model").and_then(Value::as_object);
    let is = |key: &str, value: Value| model.and_then(|model| model.get(key)) == Some(&value);
    let bos = model.and_then(|model| model.get("vocab")?.get(BOS)?.as_u64());
    let bos = bos.and_then(|bos| u32::try_from(bos).ok());
    let (true, true, Some(bos)) = (is("type", json!("BPE")), is("byte_fallback", json!(true)), bos) else {
        let message = "is not made of a SentencePiece file, and the engine runs in the mode mistral: give its tekken.json \
            beside it, or say `tokenizer_mode: hf` if the engine is started so";
        return Err(PipelineError::new(TOKENIZER, "model", message));
    };
    tokenizer.insert("added_tokens".to_owned(), json!([]));
    tokenizer.insert("post_processor".to_owned(), starts_with(bos));
    pipeline(Value::Object(tokenizer), "SentencePieceTokenizer")
}

fn pipeline(tokenizer: Value, class: &str) -> Result<Pipeline, PipelineError> {
    let tokenizer_json = serde_json::to_vec(&tokenizer)
        .map_err(|error| PipelineError::new(TOKENIZER, "", error.to_string()))?;
    Ok(Pipeline { tokenizer_json, class: class.to_owned(), special_tokens: BTreeMap::new() })
}

/// A post-processor that puts the token `<s>` before a text.
fn starts_with(bos: u32) -> Value {
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, sequence("A")],
        "pair": [sequence("A"), sequence("B")],
        "special_tokens": {BOS: {"id": BOS, "ids": [bos], "tokens": [BOS]}}})
}

/// Every pair of tokens that makes this one: tiktoken merges any of them, those of lower ranks first.
fn parts<'t>(token: &'t [u8], ranks: &HashMap<&[u8], usize>) -> Vec<(&'t [u8], &'t [u8])> {
    let mut parts: Vec<_> = (1..token.len())
        .filter_map(|at| token.split_at_checked(at))
        .filter_map(|(left, right)| Some((*ranks.get(left)?, *ranks.get(right)?, left, right)))
        .collect();
    parts.sort_unstable_by_key(|(left, right, ..)| (*left, *right));
    parts.into_iter().map(|(_, _, left, right)| (left, right)).collect()
}
