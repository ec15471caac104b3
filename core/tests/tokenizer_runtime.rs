//! What the runtime promises besides ids: limits, reuse that changes nothing, refusal of what it cannot do or read.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use proptest::prelude::*;
use serde_json::{Value, json};
use warmpath_core::tokenizer::strings::Strings;
use warmpath_core::tokenizer::{
    AssetError, CacheSizes, CompileError, HfTokenizer, Limits, Runtime, Tokenizer, compile,
};
use xxhash_rust::xxh3::xxh3_64;

macro_rules! family {
    ($name:literal) => {
        include_bytes!(concat!("data/tokenizers/", $name, ".json")).as_slice()
    };
}

/// One file of each way to cut text and to put something in front of it.
const FAMILIES: [&[u8]; 13] = [
    family!("qwen"),
    family!("o200k"),
    family!("deepseek"),
    family!("deepseek_coder"),
    family!("kimi"),
    family!("falcon"),
    family!("gpt2_prefix"),
    family!("nfd_lower"),
    family!("llama2_normalized"),
    family!("metaspace_first"),
    family!("metaspace_always"),
    family!("gemma"),
    family!("gemma2"),
];

/// Caches so small that entries are thrown out all the time.
const SMALL: CacheSizes =
    CacheSizes { word_bits: 3, long_words_bytes: 4096, segments_bytes: 16_384, seed: 1 };

fn runtime(json: &[u8]) -> Runtime {
    Runtime::load(compile(json).unwrap()).unwrap()
}

/// Strings of many kinds in a row, with spaces and line ends between some of them.
fn long_text(json: &[u8], seed: u64, from: usize, count: usize) -> String {
    let strings = Strings::of(json, seed);
    let parts = (from..from + count).map(|at| strings.at(at).1 + ["", " ", "\n", " the next word"][at % 4]);
    parts.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Prompts that repeat, extend and vary one another, through one runtime: the ids of a tokenizer without caches.
    #[test]
    fn reuse_changes_no_ids(family in 0..FAMILIES.len(), seed: u64, from in 0..5000_usize, small: bool) {
        let json = FAMILIES[family];
        let hf = HfTokenizer::from_json(json).unwrap();
        let sizes = if small { SMALL } else { CacheSizes::default() };
        let runtime = Runtime::load_with(compile(json).unwrap(), sizes).unwrap();
        let long = long_text(json, seed, from, 48);
        let other = long_text(json, seed, from + 100, 16);
        let half = (0..=long.len() / 2).rev().find(|at| long.is_char_boundary(*at)).unwrap();
        let (start, end) = long.split_at(half);
        for text in [start, &long, &format!("{start}{other}{end}"), &long, &format!(" {long}"), &format!("x{long}"), start] {
            let expected = hf.encode(text, true, &Limits::NONE).unwrap();
            prop_assert_eq!(runtime.encode(text, true, &Limits::NONE).unwrap(), expected);
        }
        prop_assert!(small || runtime.stats().segment_hit_bytes as usize >= start.len() / 2);
    }

    /// Up to any limit: a prefix of the ids.
    #[test]
    fn limits_give_prefixes(family in 0..FAMILIES.len(), seed: u64, bytes in 0..9000_usize, tokens in 0..3000_usize, work in 0..40_000_u64) {
        let json = FAMILIES[family];
        let text = long_text(json, seed, 3, 40);
        let runtime = runtime(json);
        let limited = [
            Limits { bytes_max: bytes, ..Limits::NONE },
            Limits { tokens_max: tokens, ..Limits::NONE },
            Limits { merge_work_max: work, ..Limits::NONE },
        ];
        let found = limited.map(|limits| runtime.encode(&text, true, &limits).unwrap());
        let whole = HfTokenizer::from_json(json).unwrap().encode(&text, true, &Limits::NONE).unwrap().ids;
        for found in &found {
            prop_assert!(whole.starts_with(&found.ids));
            prop_assert_eq!(found.complete, found.ids.len() == whole.len());
        }
        prop_assert!(found[1].ids.len() == tokens.min(whole.len()));
    }
}

#[test]
fn a_text_past_the_limit_is_encoded_up_to_a_cut_near_it() {
    let text = "The quick brown fox, 12 of them, jumps over the lazy dog.\n".repeat(2000);
    for json in FAMILIES {
        let runtime = runtime(json);
        let limits = Limits { bytes_max: 50_000, ..Limits::NONE };
        let found = runtime.encode(&text, false, &limits).unwrap();
        let enough = runtime.encode(&text[..49_950], false, &Limits::NONE).unwrap().ids.len();
        assert!(!found.complete && found.ids.len() >= enough - 8, "{} of {enough}", found.ids.len());
    }
}

#[test]
fn a_repeated_prompt_comes_from_the_cache_whose_size_does_not_grow() {
    let runtime = runtime(FAMILIES[0]);
    let text = long_text(FAMILIES[0], 1, 0, 64);
    runtime.encode(&text, false, &Limits::NONE).unwrap();
    let first = runtime.stats();
    assert!(first.segment_miss_bytes as usize > text.len() / 2 && first.word_misses > 0);
    runtime.encode(&text, false, &Limits::NONE).unwrap();
    let second = runtime.stats();
    let again = (second.segment_hit_bytes - first.segment_hit_bytes) as usize;
    assert!(again > text.len() / 2, "{again} of {}", text.len());
    for seed in 0..40 {
        runtime.encode(&long_text(FAMILIES[0], seed, 0, 64), false, &Limits::NONE).unwrap();
    }
    assert_eq!(runtime.stats().cache_bytes, first.cache_bytes);
    assert!(first.cache_bytes < 3 << 20, "{}", first.cache_bytes);
}

/// Uses whatever loads, in all ways that there are.
fn use_it(runtime: &Runtime, text: &str) {
    for limits in [Limits::NONE, Limits { bytes_max: 40, ..Limits::NONE }] {
        for specials in [false, true] {
            let _ = runtime.encode(text, specials, &limits);
        }
    }
}

#[test]
fn damaged_assets_are_refused() {
    let asset = compile(family!("qwen")).unwrap();
    assert!(matches!(Runtime::load(Vec::new()), Err(AssetError::NotAnAsset)));
    assert!(matches!(Runtime::load(family!("qwen").to_vec()), Err(AssetError::NotAnAsset)));
    let mut newer = asset.clone();
    newer[8] += 1;
    let Err(error) = Runtime::load(newer) else { panic!("a newer version was taken") };
    assert_eq!(error, AssetError::Version { found: 4 });
    assert!(error.to_string().contains("version 4, this build reads version 3"), "{error}");
    for length in (0..asset.len()).step_by(1009).chain(0..120) {
        assert!(Runtime::load(asset[..length].to_vec()).is_err(), "{length} bytes");
    }
    for at in (0..asset.len()).step_by(211).chain(0..120) {
        let mut changed = asset.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(Runtime::load(changed).is_err(), "bit {} of byte {at}", at % 8);
    }
    assert!(Runtime::load(asset).is_ok());
}

/// Damage with a checksum that fits: refused, or of some use, and never a panic or a loop without end.
#[test]
fn hostile_assets_do_no_harm() {
    let text = "<|im_start|>It's a Test\u{301}, \u{4e2d}\u{6587} 123\n\n  x\u{fb01} <|im_end|>".repeat(3);
    let mut taken = 0;
    for json in [family!("qwen"), family!("llama2_normalized"), family!("deepseek"), family!("falcon")] {
        let asset = compile(json).unwrap();
        let mut random = 1_u64;
        for round in 0..1500_usize {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut changed = asset.clone();
            // Headers and the description are where it hurts.
            let span = if round % 2 == 0 { 2000 } else { changed.len() };
            let at = 24 + (random >> 33) as usize % (span - 24);
            match round % 5 {
                0 => changed[at] = 0xff,
                1 => changed[at] = 0,
                2 => changed[at..].iter_mut().take(64).for_each(|byte| *byte = 0xff),
                3 => changed.truncate(at),
                _ => changed[at] ^= 1 << (random % 8),
            }
            if let Some(checked) = changed.get(24..).map(xxh3_64) {
                changed[16..24].copy_from_slice(&checked.to_le_bytes());
            }
            if let Ok(runtime) = Runtime::load_with(changed, SMALL) {
                use_it(&runtime, &text);
                taken += 1;
            }
        }
    }
    assert!(taken > 300, "{taken}");
}

/// The file with one part changed.
fn changed(change: impl FnOnce(&mut Value)) -> CompileError {
    let mut file: Value = serde_json::from_slice(family!("qwen")).unwrap();
    change(&mut file);
    compile(file.to_string().as_bytes()).unwrap_err()
}

#[test]
fn what_is_not_known_is_named() {
    let unsupported = |change: &dyn Fn(&mut Value), part: &str| {
        let error = changed(change);
        assert!(matches!(error, CompileError::Unsupported(_)), "{error}");
        let message = error.to_string();
        assert!(message.starts_with("not supported by this tokenizer runtime: "), "{message}");
        assert!(message.contains(part), "{part}: {message}");
    };
    unsupported(&|file| file["model"]["type"] = json!("Unigram"), "model.type Unigram");
    unsupported(&|file| file["model"]["dropout"] = json!(0.1), "model.dropout");
    unsupported(&|file| file["model"]["end_of_word_suffix"] = json!("</w>"), "end_of_word_suffix");
    unsupported(
        &|file| file["model"]["continuing_subword_prefix"] = json!("##"),
        "continuing_subword_prefix",
    );
    unsupported(&|file| file["model"]["vocab"]["another a"] = file["model"]["vocab"]["a"].clone(), "one id");
    unsupported(&|file| file["normalizer"] = json!({"type": "StripAccents"}), "normalizer StripAccents");
    unsupported(&|file| file["pre_tokenizer"] = json!({"type": "BertPreTokenizer"}), "BertPreTokenizer");
    let regex = |file: &mut Value, regex: &str| {
        file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(regex);
    };
    for refused in [
        r"\w+",
        "^a",
        r"\p{L}++|a",
        r"a{2}?|b",
        r"(?i)a",
        r"(?<=a)b",
        r"a(?=bc)",
        r"(?:ab)+(?!c)",
        r"[a-z--b]",
        r"(a)\1",
        "x*",
        r"a(?!b)c",
    ] {
        unsupported(&|file| regex(file, refused), &format!("expression {refused:?}"));
    }
    unsupported(
        &|file| file["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("MergedWithNext"),
        "MergedWithNext",
    );
    unsupported(&|file| file["post_processor"] = json!({"type": "Other"}), "post_processor Other");
    let unknown = |file: &mut Value| {
        file["model"]["unk_token"] = json!("<missing>");
        file["model"]["vocab"].as_object_mut().unwrap().remove("\u{100}");
    };
    unsupported(&unknown, "unk_token");
    let invalid = |change: &dyn Fn(&mut Value), part: &str| {
        let error = changed(change);
        assert!(matches!(error, CompileError::Invalid(_)) && error.to_string().contains(part), "{error}");
    };
    invalid(&|file| file["model"]["merges"][0] = json!(["not", "there"]), "model.merges");
    invalid(&|file| file["model"]["merges"] = json!(["a b c"]), "is not two tokens");
    invalid(&|file| file["version"] = json!("2.0"), "version 2.0");
    assert!(matches!(compile(b"{"), Err(CompileError::Invalid(_))));
}
