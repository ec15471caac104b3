//! A tokenizer of any size, made up: the cost of a slow tokenizer shows only with a vocabulary of real size.
//!
//! Byte-level BPE in the form of `tokenizer.json`, with the pre-tokenizer of Qwen. Made-up words are spelled from
//! syllables; each word's letters are merged from left to right, so that every prefix of a word is an entry. Prompts
//! are made of such words, most of them in the vocabulary and some not, and of numbers, punctuation and line breaks
//! between them, so that a token stands for about as many bytes as in English under a vocabulary of this size (4 to
//! 4.5); the benchmark prints how many.

use std::collections::BTreeMap;

use serde_json::{Value, json};

const CONSONANTS: [&str; 16] =
    ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "ch"];
const VOWELS: [&str; 6] = ["a", "e", "i", "o", "u", "ea"];
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Qwen's split pattern, as in its `tokenizer.json`.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Repeatable numbers (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>): a benchmark must send the same prompts
/// every time.
pub struct Random(u64);

impl Random {
    /// Numbers from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// A made-up word of one to four syllables.
fn word(random: &mut Random) -> String {
    (0..1 + random.below(4))
        .map(|_| format!("{}{}", CONSONANTS[random.below(16)], VOWELS[random.below(6)]))
        .collect()
}

/// The words that the vocabulary is made of, first ones first, without end.
fn lexicon(seed: u64) -> impl Iterator<Item = String> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(move || word(&mut random))
}

/// Words of the lexicon that prose draws from: early ones, so that all are in the vocabulary whole.
const COMMON_WORDS: usize = 20_000;

/// The words that prose draws from.
pub fn common_words(seed: u64) -> Vec<String> {
    lexicon(seed).take(COMMON_WORDS).collect()
}

/// About `bytes` bytes of prose in made-up words. Two calls with different seeds share no long prefix.
pub fn prose(bytes: usize, seed: u64, common: &[String]) -> String {
    let mut random = Random::new(seed);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        match random.below(24) {
            0 => text.push_str(",\n"),
            1 => text.push_str(&format!(" {}", random.below(10_000))),
            2 => text.push_str(". The"),
            3..6 => {
                text.push(' ');
                text.push_str(&word(&mut random));
            }
            _ => {
                text.push(' ');
                text.push_str(&common[random.below(common.len())]);
            }
        }
    }
    text
}

/// The character that byte-level BPE writes for a byte (GPT-2's `bytes_to_unicode`).
fn byte_chars() -> Vec<char> {
    let mut next = 256;
    (0..=255u32)
        .map(|byte| {
            let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let code = if printable {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).expect("below the surrogates")
        })
        .collect()
}

/// `tokenizer.json` with `entries` entries, special tokens included.
pub fn tokenizer_json(entries: usize, seed: u64) -> Value {
    let mut words = lexicon(seed);
    let mut vocab: BTreeMap<String, usize> = BTreeMap::new();
    let mut merges: Vec<[String; 2]> = Vec::new();
    for letter in byte_chars() {
        vocab.insert(letter.to_string(), vocab.len());
    }
    while vocab.len() + SPECIAL.len() < entries {
        // Ġ is the byte-level form of a space: words inside a sentence start with one.
        let Some(text) = words.next().map(|word| format!("Ġ{word}")) else { break };
        let mut left = "Ġ".to_owned();
        for letter in text.chars().skip(1) {
            let merged = format!("{left}{letter}");
            if !vocab.contains_key(&merged) {
                vocab.insert(merged.clone(), vocab.len());
                merges.push([left, letter.to_string()]);
            }
            left = merged;
            if vocab.len() + SPECIAL.len() >= entries {
                break;
            }
        }
    }
    let added: Vec<Value> = (vocab.len()..)
        .zip(SPECIAL)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    })
}
