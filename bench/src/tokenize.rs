//! `tokenize`: what making token ids and keys costs, beside the crate `tokenizers` in the same V8 and natively, and
//! Python's package of it.
//!
//! States of the caches, as in figures' names. `cold`: the first encoding of a fresh instance (V8 has compiled the code
//! before, in another instance). `warm_other`: after 1.1 MB of other text of the same kinds. `warm_same`: the same text
//! again. `new_turn`: a chat that extends one seen before by one turn, rendering, tokenizing and keys, without the
//! parsing of its body; `repeat`: the whole chat again. The mix is a quarter each of English, Chinese, code and JSON by
//! bytes (`bench/src/mix.rs`). All figures are medians over instances, arms in turn within each round; where an arm's
//! repeats are warm, over these as well.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use warmpath_core::tokenizer::{HfTokenizer, Limits, Tokenizer, compile};

use crate::arms::Arm;
use crate::mix::Material;
use crate::vocabulary::{Random, tokenizer_json};
use warmpath_bench::figures::Bar::{AtLeast, AtMost};
use warmpath_bench::figures::{Bar, Figures};

/// Entries of the made-up vocabulary: as many as Qwen3 has.
const ENTRIES: usize = 151_669;
/// Bytes of other text before `warm_other`.
const OTHER_BYTES: usize = 1_100_000;
/// Bytes of the body after which memory is measured.
const BODY_BYTES: usize = 400_000;
/// Tokens of the chat that grows, and turns by which it grows.
const CHAT_TOKENS: usize = 14_000;
const CHAT_TURNS: usize = 12;

/// Turns of the chat that is parsed and rendered, of a question and an answer each.
const RENDERED_TURNS: usize = 20;

/// Conditions of a run.
#[derive(clap::Args)]
pub struct Options {
    /// Instances of each arm
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Folder with qwen3.json or qwen3.json.gz; without such a file, the vocabulary is made up
    #[arg(long, value_name = "DIR", default_value = "../shared/tokenizers")]
    tokenizers: PathBuf,
    /// Leave out the peers: only our own figures
    #[arg(long)]
    alone: bool,
}

/// Where the programs are, from the environment: `cargo xtask` sets it.
struct Programs {
    meter: PathBuf,
    module: PathBuf,
    peer_module: PathBuf,
    node: PathBuf,
    python: Option<PathBuf>,
}

impl Programs {
    fn from_env() -> Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set: `cargo xtask bench tokenize` starts this"))
        };
        Ok(Self {
            meter: path("WARMPATH_METER")?,
            module: path("WARMPATH_METER_MODULE")?,
            peer_module: path("WARMPATH_METER_PEER_MODULE")?,
            node: path("WARMPATH_NODE")?,
            python: std::env::var_os("WARMPATH_PYTHON").map(PathBuf::from),
        })
    }
}

/// Files that instances read.
struct Files {
    json: PathBuf,
    asset: PathBuf,
    other: PathBuf,
    template: PathBuf,
    body: PathBuf,
    chat: PathBuf,
    /// `mix_8k` and `mix_32k` of each round.
    mixes: Vec<[PathBuf; 2]>,
    /// Bodies of a chat that grows, of each round.
    chats: Vec<Vec<PathBuf>>,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<Figures> {
    let programs = Programs::from_env()?;
    let directory = tempfile::tempdir().context("making a directory for the texts")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (vocabulary, json) = vocabulary(&options.tokenizers)?;
    eprintln!("making texts for {vocabulary} and compiling its asset …");
    let asset = compile(&json).map_err(|error| anyhow::anyhow!("{vocabulary}: {error}"))?;
    let asset_bytes = asset.len();
    let files = write(directory.path(), &root, &json, asset, options.rounds)?;
    let mut arms = arms(&programs, &files, &root, options.alone)?;
    measure(&mut arms, &files, options.rounds)?;
    check(&arms)?;
    let setting = json!({
        "vocabulary": vocabulary, "rounds": options.rounds, "mix": "prose, Chinese, code, JSON: a quarter of the bytes each",
        "states": "cold: first in a fresh instance, code compiled before; warm_other: after 1.1 MB of other text; warm_same: repeated",
        "v8": "node --no-liftoff", "python": if programs.python.is_some() { "tokenizers of PyPI" } else { "not available: skipped" },
    });
    let mut figures = Figures::new("tokenize", setting);
    figures.add("asset_bytes", asset_bytes as f64, "bytes");
    report(&arms, asset_bytes, &mut figures);
    Ok(figures)
}

/// The vocabulary's name and its `tokenizer.json`.
fn vocabulary(folder: &Path) -> Result<(String, Vec<u8>)> {
    let plain = folder.join("qwen3.json");
    if plain.is_file() {
        return Ok(("qwen3".to_owned(), fs::read(plain)?));
    }
    let packed = folder.join("qwen3.json.gz");
    if packed.is_file() {
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(&packed)?)
            .read_to_end(&mut json)
            .with_context(|| format!("reading {}", packed.display()))?;
        return Ok(("qwen3".to_owned(), json));
    }
    Ok((format!("made up, {ENTRIES} entries"), serde_json::to_vec(&tokenizer_json(ENTRIES, 1))?))
}

/// All arms; ours first.
fn arms(programs: &Programs, files: &Files, root: &Path, alone: bool) -> Result<Vec<Arm>> {
    let script = root.join("bench/meter/instances.mjs");
    let v8 = |name, engine, tokenizer: &Path, module: &Path| {
        Arm::v8(name, engine, tokenizer, &programs.node, &script, module)
    };
    let mut arms = vec![
        v8("v8_runtime", "runtime", &files.asset, &programs.module)?,
        Arm::native("native_runtime", "runtime", &files.asset, &programs.meter),
    ];
    if !alone {
        arms.push(v8("v8_tokenizers", "tokenizers", &files.json, &programs.peer_module)?);
        arms.push(Arm::native("native_tokenizers", "tokenizers", &files.json, &programs.meter));
        if let Some(python) = &programs.python {
            let script = root.join("bench/meter/peer.py");
            arms.push(Arm::python("python_tokenizers", &files.json, python, &script));
        }
    }
    Ok(arms)
}

/// Every task in every arm that it is for, arms in turn.
fn measure(arms: &mut [Arm], files: &Files, rounds: usize) -> Result<()> {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {elapsed}");
    let bar = ProgressBar::new((rounds * arms.len()) as u64);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for round in 0..rounds {
        let mixes = &files.mixes[round];
        let with = |first: &PathBuf, rest: &[PathBuf]| [std::slice::from_ref(first), rest].concat();
        let (other, chat) = (with(&files.other, mixes), with(&files.template, &files.chats[round]));
        for arm in arms.iter_mut() {
            bar.set_message(arm.name);
            if bar.is_hidden() {
                eprintln!("round {} of {rounds}: {}", round + 1, arm.name);
            }
            let in_v8 = arm.name.starts_with("v8_");
            let ours = arm.name.ends_with("_runtime");
            let mut tasks: Vec<(&str, Vec<PathBuf>)> = vec![("texts", mixes.to_vec())];
            // The Python script knows no other task.
            if arm.name != "python_tokenizers" {
                tasks.push(("warm-other", other.clone()));
                tasks.push(("chat", chat.clone()));
            }
            if ours {
                tasks.push(("render", vec![files.template.clone(), files.chat.clone()]));
            }
            if ours && in_v8 {
                tasks.push(("worst", vec![files.template.clone()]));
                tasks.push(("memory", vec![files.template.clone(), files.body.clone()]));
            }
            for (task, files) in tasks {
                if in_v8 && round == 0 {
                    arm.warm_up(task, &files)?;
                }
                arm.run(task, &files)?;
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// All arms must have made the same ids: a fast wrong one is no peer.
fn check(arms: &[Arm]) -> Result<()> {
    let Some((first, others)) = arms.split_first() else { return Ok(()) };
    for other in others {
        for (name, ids) in &other.ids {
            if first.ids.get(name).is_some_and(|expected| expected != ids) {
                bail!("{} and {} make different ids of {name}", first.name, other.name);
            }
        }
    }
    Ok(())
}

fn report(arms: &[Arm], asset_bytes: usize, figures: &mut Figures) {
    let find = |name: &str| arms.iter().find(|arm| arm.name == name);
    let Some(ours) = find("v8_runtime") else { return };
    for text in ["mix_8k", "mix_32k"] {
        let tokens =
            ours.ids.get(&format!("{text}_cold")).and_then(|ids| ids.split(' ').next()?.parse().ok());
        figures.add(format!("{text}_tokens"), tokens.unwrap_or(f64::NAN), "");
    }
    let texts = ["mix_8k", "mix_32k"].into_iter();
    let states =
        texts.flat_map(|text| ["cold", "warm_other", "warm_same"].map(|state| format!("{text}_{state}")));
    let compared: Vec<String> =
        states.chain(["chat_new_turn", "chat_repeat", "load"].map(str::to_owned)).collect();
    for place in ["v8", "native"] {
        let Some(ours) = find(&format!("{place}_runtime")) else { continue };
        for value in &compared {
            let Some(own) = ours.median(value) else { continue };
            figures.maybe_bar(format!("{}_{value}", ours.name), own, "ms", bar_of(ours.name, value));
            let peers = arms.iter().filter(|arm| {
                !arm.name.ends_with("_runtime") && (arm.name.starts_with("v8_") == (place == "v8"))
            });
            for peer in peers {
                if let Some(theirs) = peer.median(value) {
                    figures.add(format!("{}_{value}", peer.name), theirs, "ms");
                    let times = format!("{}_{value}_over_ours", peer.name);
                    figures.maybe_bar(times, theirs / own, "times", bar_of(peer.name, value));
                }
            }
        }
    }
    for name in ["chat_new_turn_with_parsing", "chat_repeat_with_parsing", "chat_parse_and_render"] {
        for arm in [Some(ours), find("native_runtime")].into_iter().flatten() {
            let value = arm.median(name).unwrap_or(f64::NAN);
            figures.maybe_bar(format!("{}_{name}", arm.name), value, "ms", bar_of(arm.name, name));
        }
    }
    for (kind, at_most) in [("worst_", AtMost(12.0)), ("limited_", AtMost(30.0))] {
        let classes: Vec<(&str, f64)> = ours
            .values
            .keys()
            .filter(|name| name.starts_with(kind))
            .filter_map(|name| Some((name.as_str(), ours.median(name)?)))
            .collect();
        for (name, ms) in &classes {
            figures.add(format!("v8_runtime_{name}"), *ms, "ms");
        }
        let most = classes.iter().map(|(_, ms)| *ms).fold(f64::NAN, f64::max);
        figures.bar(format!("v8_runtime_{kind}most"), most, "ms", at_most);
    }
    memory(ours, asset_bytes as f64, figures);
}

/// What a figure of an arm is to be; for a peer, how many times ours it is to take.
fn bar_of(arm: &str, value: &str) -> Option<Bar> {
    match (arm, value) {
        ("v8_tokenizers", "mix_8k_cold" | "mix_32k_cold") => Some(AtLeast(22.0)),
        ("python_tokenizers", "mix_8k_cold" | "mix_32k_cold") => Some(AtLeast(20.0)),
        ("v8_runtime", "chat_new_turn") => Some(AtMost(0.35)),
        ("v8_runtime", "chat_repeat") => Some(AtMost(0.15)),
        ("v8_runtime", "load") => Some(AtMost(20.0)),
        ("v8_runtime", "chat_parse_and_render") => Some(AtMost(0.25)),
        _ => None,
    }
}

fn memory(ours: &Arm, asset_bytes: f64, figures: &mut Figures) {
    const MIB: f64 = 1024.0 * 1024.0;
    let at = |name: &str| ours.median(name).unwrap_or(f64::NAN);
    for name in ["memory_loaded", "memory_after_body", "memory_after_swap", "memory_after_second_model"] {
        figures.add(format!("v8_runtime_{name}"), at(name) / MIB, "MiB");
    }
    let beyond = (at("memory_after_swap") - asset_bytes) / MIB;
    figures.bar("v8_runtime_memory_after_swap_beyond_asset", beyond, "MiB", AtMost(8.0));
    let further = at("memory_after_second_model") - at("memory_after_swap") - asset_bytes;
    figures.bar("v8_runtime_memory_of_second_model_beyond_asset", further / MIB, "MiB", AtMost(3.0));
}

/// Makes all files.
fn write(folder: &Path, root: &Path, json: &[u8], asset: Vec<u8>, rounds: usize) -> Result<Files> {
    let material = Material::of(root)?;
    let tokenizer = HfTokenizer::from_json(json).map_err(anyhow::Error::msg)?;
    let count = |text: &str| {
        let encoded = tokenizer.encode(text, false, &Limits::NONE).map_err(anyhow::Error::msg)?;
        anyhow::Ok(encoded.ids.len())
    };
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        anyhow::Ok(path)
    };
    let sized = |tokens: usize, seed: u64| {
        let mut bytes = 4 * tokens;
        for _ in 0..3 {
            bytes = bytes * tokens / count(&material.mix(bytes, seed))?.max(1);
        }
        anyhow::Ok(material.mix(bytes, seed))
    };
    let (mut mixes, mut chats) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let seed = 1_000 * (1 + round as u64);
        mixes.push([
            put(&format!("{round}/mix_8k.txt"), sized(8_000, seed)?.as_bytes())?,
            put(&format!("{round}/mix_32k.txt"), sized(32_000, seed + 1)?.as_bytes())?,
        ]);
        let mut chat = Chat::new(&material, seed + 2);
        while count(&chat.body())? < CHAT_TOKENS {
            (0..4).for_each(|_| chat.turn());
        }
        let mut bodies = vec![put(&format!("{round}/chat_0.json"), chat.body().as_bytes())?];
        for turn in 1..=CHAT_TURNS {
            chat.turn();
            bodies.push(put(&format!("{round}/chat_{turn}.json"), chat.body().as_bytes())?);
        }
        chats.push(bodies);
    }
    let mut chat = Chat::new(&material, 7);
    (0..RENDERED_TURNS).for_each(|_| chat.turn());
    let body = json!({"model": "demo", "prompt": material.mix(BODY_BYTES, 8), "max_tokens": 1});
    let template = root.join("demo/assets/chat_template.jinja");
    let template = fs::read(&template).with_context(|| format!("reading {}", template.display()))?;
    Ok(Files {
        json: put("tokenizer.json", json)?,
        asset: put("tokenizer.asset", &asset)?,
        other: put("other.txt", material.mix(OTHER_BYTES, 9).as_bytes())?,
        template: put("template.jinja", &template)?,
        body: put("body.json", body.to_string().as_bytes())?,
        chat: put("chat.json", chat.body().as_bytes())?,
        mixes,
        chats,
    })
}

/// A chat that grows.
struct Chat<'a> {
    material: &'a Material,
    random: Random,
    messages: Vec<Value>,
}

impl<'a> Chat<'a> {
    fn new(material: &'a Material, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let system = material.prose(&mut random);
        Self { material, random, messages: vec![json!({"role": "system", "content": system})] }
    }

    /// A question and its answer of about 450 bytes each.
    fn turn(&mut self) {
        for role in ["assistant", "user"] {
            let mut text = self.material.prose(&mut self.random);
            text.truncate(450);
            self.messages.push(json!({"role": role, "content": text}));
        }
    }

    fn body(&self) -> String {
        json!({"model": "demo", "messages": self.messages, "max_tokens": 1}).to_string()
    }
}
