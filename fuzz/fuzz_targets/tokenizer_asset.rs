//! Tokenizer assets: any bytes, and an asset that is right with any bytes changed.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

/// A small tokenizer with a normalizer: most of the runtime is reached through it.
static VALID: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let json = include_bytes!("../../core/tests/data/golden/tokenizers/qwen.json");
    warmpath_core::tokenizer::compile(json).expect("the test data is right")
});

warmpath_fuzz::target!(|input| warmpath_core::fuzz::tokenizer_asset(&VALID, input));
