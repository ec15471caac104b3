//! The pre-tokenizer of the file: which scanner cuts text as it does.

use serde_json::Value;

use super::super::letters;
use super::super::meta::Prefix;
use super::super::rules::{Main, Rules};
use super::expression;
use super::normalizer::Normalizer;
use super::{CompileError, Cut, unsupported};

/// Reads it. Takes SentencePiece's part of the normalizer along where the two go together.
pub(super) fn read(pre_tokenizer: &Value, normalizer: &mut Normalizer) -> Result<Cut, CompileError> {
    let mut stages = Vec::new();
    flatten(pre_tokenizer, &mut stages)?;
    match stages.split_last() {
        Some((last, before)) if kind(last) == "ByteLevel" => match byte_level(last, before) {
            Err(CompileError::Unsupported(_)) => automata(&stages),
            scanned => scanned,
        },
        Some((only, [])) if kind(only) == "Metaspace" => metaspace(only),
        None => Ok(sentence_piece(normalizer)),
        // Gemma: after the normalizer there is no space left to split at.
        Some((only, [])) if is_split_at_spaces(only) && normalizer.take_metaspace() => {
            Ok(sentence_piece_cut(normalizer))
        }
        Some(_) if stages.iter().any(|stage| kind(stage) == "ByteLevel") => automata(&stages),
        Some((last, _)) => unsupported(format!("pre_tokenizer that ends in {}: {}", kind(last), shown(last))),
    }
}

fn kind(stage: &Value) -> &str {
    stage.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn flag(stage: &Value, name: &str) -> Option<bool> {
    stage.get(name).and_then(Value::as_bool)
}

/// The part of the file, short enough for an error.
fn shown(stage: &Value) -> String {
    stage.to_string().chars().take(300).collect()
}

fn flatten<'a>(stage: &'a Value, stages: &mut Vec<&'a Value>) -> Result<(), CompileError> {
    match (stage, kind(stage)) {
        (Value::Null, _) => Ok(()),
        (_, "Sequence") => {
            let parts = stage.get("pretokenizers").and_then(Value::as_array);
            let parts =
                parts.ok_or_else(|| CompileError::Invalid("pre_tokenizer: an empty Sequence".to_owned()))?;
            parts.iter().try_for_each(|part| flatten(part, stages))
        }
        _ => {
            stages.push(stage);
            Ok(())
        }
    }
}

/// `[stages that isolate characters, main expression, ByteLevel]`; each of the first two may be missing.
fn byte_level(last: &Value, stages: &[&Value]) -> Result<Cut, CompileError> {
    let Some(prefix_space) = flag(last, "add_prefix_space") else {
        return Err(CompileError::Invalid("pre_tokenizer: ByteLevel without add_prefix_space".to_owned()));
    };
    let use_regex = flag(last, "use_regex").unwrap_or(true);
    if prefix_space && !stages.is_empty() {
        return unsupported("pre_tokenizer: ByteLevel with add_prefix_space behind another stage");
    }
    let mut rules = Rules::of(if use_regex { Main::Gpt2 } else { Main::Whole });
    let mut isolated = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        if let Some((set, max)) = expression::isolating(stage) {
            let disjoint = isolated.iter().flatten().all(|other: &(u32, u32)| {
                set.iter().all(|range: &(u32, u32)| range.1 < other.0 || other.1 < range.0)
            });
            let Some(entry) = rules.isolated_max.get_mut(isolated.len()).filter(|_| disjoint) else {
                return unsupported(
                    "pre_tokenizer: more than three stages that isolate, or sets that overlap",
                );
            };
            *entry = max;
            isolated.push(set);
            continue;
        }
        let main = expression::main(stage).filter(|_| index + 1 == stages.len() && !use_regex);
        let Some(main) = main else {
            return unsupported(format!("pre_tokenizer stage {}", shown(stage)));
        };
        rules = Rules { isolated_max: rules.isolated_max, ..main };
    }
    if rules.main == Main::Whole && !isolated.is_empty() {
        return unsupported("pre_tokenizer: stages that isolate, without a main expression");
    }
    if isolated.iter().zip(rules.isolated_max).any(|(set, max)| !rules.keep_whole(set, max)) {
        return unsupported("pre_tokenizer: a stage that isolates what the main expression cuts again");
    }
    let prefix = if prefix_space { Prefix::Always } else { Prefix::Never };
    Ok(Cut { rules, bytes: true, metaspace: false, prefix, isolated, automata: None })
}

/// Stages that no scanner is written for.
fn automata(stages: &[&Value]) -> Result<Cut, CompileError> {
    let automata = Some(super::automata::read(stages, &letters::bytes())?);
    let rules = Rules::of(Main::Whole);
    Ok(Cut { rules, bytes: true, metaspace: false, prefix: Prefix::Never, isolated: Vec::new(), automata })
}

/// `Metaspace` as the crate reads it, with its old field `add_prefix_space`.
fn metaspace(stage: &Value) -> Result<Cut, CompileError> {
    if stage.get("replacement").and_then(Value::as_str) != Some("\u{2581}") {
        return unsupported("pre_tokenizer: Metaspace with a replacement other than U+2581");
    }
    let scheme = stage.get("prepend_scheme").and_then(Value::as_str).unwrap_or("always");
    let prefix = match (scheme, flag(stage, "add_prefix_space")) {
        ("never", _) => Prefix::Never,
        (_, Some(false)) => {
            return Err(CompileError::Invalid("pre_tokenizer: Metaspace contradicts itself".to_owned()));
        }
        ("always", _) => Prefix::Always,
        ("first", _) => Prefix::First,
        _ => return Err(CompileError::Invalid(format!("pre_tokenizer: prepend_scheme {scheme}"))),
    };
    let split = flag(stage, "split").unwrap_or(true);
    let rules = Rules::of(if split { Main::EverySpace } else { Main::Spaces });
    Ok(Cut { rules, bytes: false, metaspace: true, prefix, isolated: Vec::new(), automata: None })
}

fn sentence_piece(normalizer: &mut Normalizer) -> Cut {
    if normalizer.take_metaspace() {
        return sentence_piece_cut(normalizer);
    }
    let rules = Rules::of(Main::Whole);
    Cut { rules, bytes: false, metaspace: false, prefix: Prefix::Never, isolated: Vec::new(), automata: None }
}

fn sentence_piece_cut(normalizer: &Normalizer) -> Cut {
    let prefix = if normalizer.prepended { Prefix::Prepended } else { Prefix::Never };
    Cut {
        rules: Rules::of(Main::Spaces),
        bytes: false,
        metaspace: true,
        prefix,
        isolated: Vec::new(),
        automata: None,
    }
}

fn is_split_at_spaces(stage: &Value) -> bool {
    kind(stage) == "Split"
        && stage.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str) == Some(" ")
}
