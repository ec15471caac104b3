//! What is measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use warmpath_core::definition::ModelDefinition;
use warmpath_core::model::Model;
use warmpath_core::request::{self, Api, Prompt, Request};
use warmpath_core::template::Template;
use warmpath_core::tokenizer::{Limits, Tokenizer};

use crate::{report, timed};

/// Loads a fresh tokenizer; how long that took.
pub(crate) type Load<'a> = &'a dyn Fn() -> Result<(Box<dyn Tokenizer>, f64)>;

/// Repeats of what is warm; the caller takes the median.
const REPEATS: usize = 9;

/// Each text by a fresh tokenizer: `FILE_cold`, and repeated: `FILE_warm_same`.
pub(crate) fn texts(load: Load, files: &[String]) -> Result<()> {
    for file in files {
        let text = read(file)?;
        let (tokenizer, ms) = load()?;
        report("load", ms, "ms");
        once(&*tokenizer, &format!("{}_cold", stem(file)), &text, &Limits::NONE, true)?;
        for _ in 0..REPEATS {
            once(&*tokenizer, &format!("{}_warm_same", stem(file)), &text, &Limits::NONE, false)?;
        }
    }
    Ok(())
}

/// The first file's text, in pieces of a request's size, then each of the others for the first time: `FILE_warm_other`.
pub(crate) fn warm_other(load: Load, files: &[String]) -> Result<()> {
    let (other, files) = files.split_first().context("no file")?;
    let (tokenizer, _) = load()?;
    let other = read(other)?;
    for piece in pieces(&other, 32 << 10) {
        encode(&*tokenizer, piece, &Limits::NONE)?;
    }
    for file in files {
        once(&*tokenizer, &format!("{}_warm_other", stem(file)), &read(file)?, &Limits::NONE, false)?;
    }
    Ok(())
}

/// A template, then bodies of one chat that grows by a turn from file to file: keys of each (`chat_new_turn`) and of
/// its repeat (`chat_repeat`), with the body's parsing beside them.
pub(crate) fn chat(load: Load, files: &[String]) -> Result<()> {
    let (template, bodies) = files.split_first().context("no template")?;
    let model = model(load()?.0, Some(&read(template)?))?;
    for (turn, file) in bodies.iter().enumerate() {
        let body = read(file)?;
        for name in ["new_turn", "repeat"] {
            let (request, parse) = timed(|| request::parse(Api::ChatCompletions, body.as_bytes()));
            let request: Request = request?;
            let (keys, ms) = timed(|| model.keys(&request, None));
            let keys = keys?;
            // The first body is all new.
            let name = if turn == 0 && name == "new_turn" { "first" } else { name };
            report(&format!("chat_{name}"), ms, "ms");
            report(&format!("chat_{name}_with_parsing"), ms + parse, "ms");
            println!("ids chat_{turn} {} {:x}", keys.token_count, keys.keys.last().map_or(0, |key| key.0));
        }
    }
    Ok(())
}

/// A template and the body of a chat: parsing and rendering.
pub(crate) fn render(_: Load, files: &[String]) -> Result<()> {
    let [template, body] = files else { anyhow::bail!("a template and a body") };
    let template =
        Template::new(&read(template)?, &BTreeMap::new(), &warmpath_core::definition::ChatRules::default())
            .map_err(anyhow::Error::msg)?;
    let body = read(body)?;
    for _ in 0..10 * REPEATS {
        let (text, ms) = timed(|| {
            let request = request::parse(Api::ChatCompletions, body.as_bytes())?;
            match &request.prompt {
                Prompt::Chat(chat) => {
                    template.render(chat, None).map(|rendered| rendered.text).map_err(|fail| fail.pass())
                }
                _ => Ok(String::new()),
            }
        });
        let bytes = text?.len();
        report("chat_parse_and_render", ms, "ms");
        report("chat_rendered", bytes as f64, "bytes");
    }
    Ok(())
}

/// Linear memory after a large body, after the asset was loaded anew, and after a second model.
pub(crate) fn memory(load: Load, files: &[String]) -> Result<()> {
    let [template, body] = files else { anyhow::bail!("a template and a body") };
    let template = read(template)?;
    let first = model(load()?.0, Some(&template))?;
    report("memory_loaded", linear_memory(), "bytes");
    let keyed = |model: &Model| -> Result<()> {
        let body = fs::read(body).with_context(|| format!("reading {body}"))?;
        let request = request::parse(Api::Completions, &body)?;
        report("memory_body", body.len() as f64, "bytes");
        model.keys(&request, None)?;
        Ok(())
    };
    keyed(&first)?;
    report("memory_after_body", linear_memory(), "bytes");
    // As the filter does: the old model is freed before the new one is loaded.
    drop(first);
    let second = model(load()?.0, Some(&template))?;
    keyed(&second)?;
    report("memory_after_swap", linear_memory(), "bytes");
    let third = model(load()?.0, Some(&template))?;
    keyed(&third)?;
    report("memory_after_second_model", linear_memory(), "bytes");
    Ok(())
}

#[cfg(target_arch = "wasm32")]
fn linear_memory() -> f64 {
    (core::arch::wasm32::memory_size(0) * 65_536) as f64
}

/// A native process has no linear memory.
#[cfg(not(target_arch = "wasm32"))]
fn linear_memory() -> f64 {
    0.0
}

pub(crate) fn model(tokenizer: Box<dyn Tokenizer>, template: Option<&str>) -> Result<Model> {
    let definition = ModelDefinition {
        name: "demo".to_owned(),
        served_names: vec!["demo".to_owned()],
        seed: 1,
        block_tokens: 16,
        ..ModelDefinition::default()
    };
    Ok(Model::load(definition, tokenizer, template)?)
}

/// One encoding, measured; with `ids`, also what came out.
pub(crate) fn once(
    tokenizer: &dyn Tokenizer,
    name: &str,
    text: &str,
    limits: &Limits,
    ids: bool,
) -> Result<()> {
    let (encoded, ms) = timed(|| tokenizer.encode(text, false, limits));
    let encoded = encoded.map_err(anyhow::Error::msg)?;
    report(name, ms, "ms");
    if ids {
        println!("ids {name} {} {:x}", encoded.ids.len(), hash(&encoded.ids));
    }
    Ok(())
}

/// FNV-1a over the ids' decimal digits and commas: the Python peer does the same.
fn hash(ids: &[u32]) -> u64 {
    let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

pub(crate) fn encode(tokenizer: &dyn Tokenizer, text: &str, limits: &Limits) -> Result<usize> {
    tokenizer.encode(text, false, limits).map(|encoded| encoded.ids.len()).map_err(anyhow::Error::msg)
}

pub(crate) fn read(file: &str) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {file}"))
}

fn stem(file: &str) -> &str {
    Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file)
}

/// A text in pieces of about so many bytes.
fn pieces(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (bytes..rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
