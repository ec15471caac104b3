//! Bodies of both APIs, through template and tokenizer to keys.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

use warmpath_core::definition::ModelDefinition;
use warmpath_core::model::Model;
use warmpath_core::tokenizer::{Runtime, compile};

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let definition = ModelDefinition {
        name: "demo".to_owned(),
        served_names: vec!["demo".to_owned()],
        default: true,
        seed: 1,
        block_tokens: 16,
        max_model_len: Some(16_384),
        ..ModelDefinition::default()
    };
    let tokenizer = include_bytes!("../../core/tests/data/tokenizer.json");
    let asset = compile(tokenizer).expect("the test data is right");
    let tokenizer = Box::new(Runtime::load(asset).expect("a fresh asset"));
    let template = include_str!("../../core/tests/data/chat_template.jinja");
    Model::load(definition, tokenizer, Some(template)).expect("the test data is right")
});

warmpath_fuzz::target!(|body| warmpath_core::fuzz::request_body(&MODEL, body));
