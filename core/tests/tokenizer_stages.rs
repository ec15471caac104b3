//! Random stages of expressions that no scanner is written for: cut as the crate `tokenizers` cuts, or refused.
#![cfg(not(target_arch = "wasm32"))]

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use warmpath_core::tokenizer::{CacheSizes, HfTokenizer, Limits, Runtime, Tokenizer, compile};

/// A file with these stages. Its merges show where words end.
fn file(stages: Vec<Value>) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(include_bytes!("data/tokenizers/qwen.json")).unwrap();
    file["normalizer"] = Value::Null;
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": stages});
    file.to_string().into_bytes()
}

fn set() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "[ab]", "[^a]", " ", r"\s", r"\S", r"\p{L}", r"\p{N}", r"[\r\n]", "\u{e9}", "."])
        .prop_map(str::to_owned)
}

/// Sets that are repeated.
fn some() -> impl Strategy<Value = String> {
    let times = select(vec!["", "", "+", "*", "?", "{2}", "{1,3}", "+?"]);
    prop::collection::vec((set(), times).prop_map(|(set, times)| set + times), 1..4)
        .prop_map(|parts| parts.concat())
}

/// An alternative: sets that are repeated and grouped, and sometimes a look at what comes behind a run.
fn alternative() -> impl Strategy<Value = String> {
    let group = (some(), some(), select(vec!["", "+", "?"]), some())
        .prop_map(|(one, other, times, behind)| format!("(?:{one}|{other}){times}{behind}"));
    let looks = (set(), select(vec!["+", "{2,}"]), select(vec!["(?!", "(?="]), set())
        .prop_map(|(run, times, looks, set)| format!("{run}{times}{looks}{set})"));
    prop_oneof![4 => some(), 2 => group, 2 => looks]
}

fn stage() -> impl Strategy<Value = Value> {
    let split = (prop::collection::vec(alternative(), 1..4), prop::bool::weighted(0.2)).prop_map(|(parts, removed)| {
        let behavior = if removed { "Removed" } else { "Isolated" };
        json!({"type": "Split", "pattern": {"Regex": parts.join("|")}, "behavior": behavior, "invert": removed})
    });
    let digits = any::<bool>().prop_map(|each| json!({"type": "Digits", "individual_digits": each}));
    let punctuation = select(vec!["Isolated", "Contiguous"])
        .prop_map(|behavior| json!({"type": "Punctuation", "behavior": behavior}));
    prop_oneof![6 => split, 1 => digits, 1 => punctuation]
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex})
}

fn text() -> impl Strategy<Value = String> {
    let part = select(vec![
        "a", "b", "ab", " ", "  ", "\n", "\r\n", "\u{e9}", "1", "23", ".", "the", "x", "\u{4f60}", "\u{bd}",
    ]);
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// The whole, and what is reused of it where the compiler says that it may be cut.
    #[test]
    fn stages_cut_as_the_crate_does(
        stages in prop::collection::vec(stage(), 1..4),
        behind in prop::collection::vec(stage(), 0..2),
        use_regex: bool,
        text in text(),
        more in text(),
    ) {
        let stages = stages.into_iter().chain([byte_level(use_regex)]).chain(behind).collect();
        let json = file(stages);
        let Ok(asset) = compile(&json) else { return Ok(()) };
        let hf = HfTokenizer::from_json(&json).unwrap();
        let runtime = Runtime::load_with(asset, CacheSizes { seed: 3, ..CacheSizes::default() }).unwrap();
        for text in [text.clone(), format!("{text}{more}"), more] {
            // Oniguruma gives up where it goes back too often.
            let Ok(expected) = hf.encode(&text, false, &Limits::NONE) else { continue };
            prop_assert_eq!(runtime.encode(&text, false, &Limits::NONE), Ok(expected), "{:?}", text);
        }
    }
}

/// A square of the text is not taken: steps are counted, and past them there is a prefix.
#[test]
fn an_expression_that_looks_far_ahead_ends_with_its_budget() {
    let stage =
        json!({"type": "Split", "pattern": {"Regex": "a+b|a"}, "behavior": "Isolated", "invert": false});
    let json = file(vec![stage, byte_level(false)]);
    let runtime = Runtime::load(compile(&json).unwrap()).unwrap();
    let text = "a".repeat(64 << 10);
    let found = runtime.encode(&text, false, &Limits::default()).unwrap();
    let expected =
        HfTokenizer::from_json(&json).unwrap().encode(&text[..2000], false, &Limits::NONE).unwrap();
    assert!(!found.complete && found.ids.len() < text.len());
    assert!(runtime.stats().merge_work <= Limits::default().merge_work_max);
    assert!(expected.ids.starts_with(&found.ids) || found.ids.starts_with(&expected.ids));
}
