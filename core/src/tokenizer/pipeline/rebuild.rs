//! What each class makes of `tokenizer.json`: it keeps vocabulary, merges and post-processor, and builds the rest anew.

use serde_json::{Value, json};

use super::added::{AddedTokens, NamedTokens, Token};
use super::class::Class;
use super::{Object, PipelineError, TOKENIZER, TOKENIZER_CONFIG};

/// `PRETOKENIZE_REGEX` of `models/qwen2/tokenization_qwen2.py`.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `PRETOKENIZE_REGEX` of `models/qwen3_5/tokenization_qwen3_5.py`.
const QWEN3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Special tokens that a class has although the settings do not name them: defaults of its `__init__`.
pub(super) fn defaults(class: Class, settings: &mut Object) {
    let tokens: &[(&str, &str)] = match class {
        Class::Plain => &[],
        Class::Llama => &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
        Class::Qwen2 | Class::Qwen3_5 => {
            &[("unk_token", ENDOFTEXT), ("eos_token", ENDOFTEXT), ("pad_token", ENDOFTEXT)]
        }
        Class::Gpt2 => &[("unk_token", ENDOFTEXT), ("bos_token", ENDOFTEXT), ("eos_token", ENDOFTEXT)],
        Class::Gemma => &[
            ("unk_token", "<unk>"),
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
        Class::GptNeoX => &[
            ("unk_token", ENDOFTEXT),
            ("bos_token", ENDOFTEXT),
            ("eos_token", ENDOFTEXT),
            ("pad_token", "<|padding|>"),
        ],
        Class::Cohere => &[
            ("unk_token", "<UNK>"),
            ("bos_token", "<BOS_TOKEN>"),
            ("eos_token", "<|END_OF_TURN_TOKEN|>"),
            ("pad_token", "<PAD>"),
            ("cls_token", "<CLS>"),
            ("sep_token", "<SEP>"),
            ("mask_token", "<MASK_TOKEN>"),
        ],
    };
    for (name, text) in tokens {
        // A null in the file is the caller's None, not the default.
        settings.entry(*name).or_insert_with(|| Value::from(*text));
    }
}

const ENDOFTEXT: &str = "<|endoftext|>";

/// Puts the class's pipeline in place of the file's.
pub(super) fn replace(
    class: Class,
    tokenizer: &mut Object,
    settings: &Object,
    named: &NamedTokens,
) -> Result<(), PipelineError> {
    let prefix_space = prefix_space(class, settings)?;
    let (normalizer, pre_tokenizer) = match class {
        Class::Plain => return Ok(()),
        Class::Llama => (Value::Null, metaspace(prefix_space, settings)),
        Class::Qwen2 => (nfc(), split_bytes(QWEN2, prefix_space)),
        Class::Qwen3_5 => (nfc(), split_bytes(QWEN3_5, prefix_space)),
        Class::Gpt2 => (Value::Null, byte_level(prefix_space)),
        Class::Gemma => (
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
        ),
        Class::GptNeoX => (nfc(), byte_level(prefix_space)),
        Class::Cohere => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (nfc(), json!({"type": "Sequence", "pretokenizers": [digits, byte_level(prefix_space)]}))
        }
    };
    model(class, tokenizer, named)?;
    tokenizer.insert("normalizer".to_owned(), normalizer);
    tokenizer.insert("pre_tokenizer".to_owned(), pre_tokenizer);
    // Decoders turn ids into text, which is not done here; the file's may not fit any more.
    tokenizer.insert("decoder".to_owned(), Value::Null);
    if class == Class::GptNeoX {
        // It writes a post-processor for `add_bos_token` and `add_eos_token`, which from_pretrained has dropped.
        tokenizer.insert("post_processor".to_owned(), Value::Null);
    }
    Ok(())
}

/// Tokens that a class adds when all else is done.
pub(super) fn add_after(class: Class, named: &NamedTokens, tokens: &mut AddedTokens) {
    match class {
        Class::Qwen2 => tokens.add(named.all().map(Token::special).collect::<Vec<_>>()),
        Class::Cohere => tokens.add(named.tokens().collect::<Vec<_>>()),
        _ => {}
    }
}

/// Vocabulary and merges stay, every other property of the model is the class's.
fn model(class: Class, tokenizer: &mut Object, named: &NamedTokens) -> Result<(), PipelineError> {
    let bad = |message: &str| PipelineError::new(TOKENIZER, "model", message);
    let Some(Value::Object(model)) = tokenizer.get_mut("model") else {
        return Err(bad("is missing: give the model's own file"));
    };
    let kind = model.get("type").and_then(Value::as_str).unwrap_or("BPE");
    let (Some(vocab @ Value::Object(_)), Some(merges), "BPE") =
        (model.get("vocab"), model.get("merges"), kind)
    else {
        let message = format!("is not BPE with vocabulary and merges, of which {} is built", class.name());
        return Err(bad(&message));
    };
    let (vocab, merges) = (vocab.clone(), merges.clone());
    let sentencepiece = matches!(class, Class::Llama | Class::Gemma);
    let unk = if class == Class::Gemma { Some(named.text("unk_token").unwrap_or("None")) } else { None };
    let affix = if sentencepiece { Value::Null } else { Value::from("") };
    let rebuilt = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unk,
        "continuing_subword_prefix": affix,
        "end_of_word_suffix": affix,
        "fuse_unk": sentencepiece,
        "byte_fallback": sentencepiece,
        "ignore_merges": false,
    });
    let Value::Object(mut rebuilt) = rebuilt else { return Ok(()) };
    rebuilt.insert("vocab".to_owned(), vocab);
    rebuilt.insert("merges".to_owned(), merges);
    *model = rebuilt;
    Ok(())
}

fn prefix_space(class: Class, settings: &Object) -> Result<bool, PipelineError> {
    let key = "add_prefix_space";
    match settings.get(key) {
        None | Some(Value::Null) => Ok(class == Class::Llama),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(PipelineError::new(TOKENIZER_CONFIG, key, "is neither true nor false")),
    }
}

/// `legacy` is true only where the settings say so: then every piece of text between special tokens gets its space.
fn metaspace(prefix_space: bool, settings: &Object) -> Value {
    let legacy = settings.get("legacy").and_then(Value::as_bool).unwrap_or(false);
    let scheme = match (prefix_space, legacy) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false})
}

fn nfc() -> Value {
    json!({"type": "NFC"})
}

fn byte_level(prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": true})
}

fn split_bytes(regex: &str, prefix_space: bool) -> Value {
    let split =
        json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": false});
    json!({"type": "Sequence", "pretokenizers": [split, bytes]})
}
