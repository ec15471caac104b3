//! Tokenizer assets: any bytes, and an asset that is right with any bytes changed.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

/// A small tokenizer with a normalizer, and one with stages that no scanner is written for: most of the runtime is reached
/// through them.
static VALID: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let qwen = include_bytes!("../../core/tests/data/golden/tokenizers/qwen.json").as_slice();
    let falcon = include_bytes!("../../core/tests/data/tokenizers/falcon.json");
    [qwen, falcon].map(|json| warmpath_core::tokenizer::compile(json).expect("the test data is right"))
});

warmpath_fuzz::target!(|input| {
    let [qwen, falcon] = &*VALID;
    let stages = input.first().is_some_and(|kind| kind & 2 != 0);
    warmpath_core::fuzz::tokenizer_asset(if stages { falcon } else { qwen }, input);
});
