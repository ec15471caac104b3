//! Pre-tokenizers that no scanner is written for: their expressions as automata.
//!
//! An alternative that ends by looking at a character matches that character as well, and its match is taken to be shorter.

use std::collections::HashMap;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};
use serde_json::Value;
use unicode_categories::UnicodeCategories;

use super::super::automata::{Automaton, DEAD, MATCH, NO_MATCH, SHORTER_MATCH, STAGES_MAX, START};
use super::alternatives::{self, Behind};
use super::atoms::Atoms;
use super::expression::GPT2;
use super::{CompileError, unsupported};

/// Memory for making one automaton, in bytes. Those of real files take a hundredth of it.
const BUILD_BYTES_MAX: usize = 16 << 20;
/// Entries of one automaton. Those of real files have a thousand.
const ENTRIES_MAX: usize = 1 << 16;

/// One stage.
struct Stage {
    alternatives: Vec<(Hir, Behind)>,
    bytes: bool,
    drops: bool,
}

/// What a pre-tokenizer has become.
pub(in super::super) struct Automata {
    pub(in super::super) stages: Vec<Automaton>,
    /// Atoms by code point.
    pub(in super::super) table: Vec<u8>,
    /// Atoms by byte.
    pub(in super::super) bytes: Vec<u8>,
}

impl Automata {
    /// The stages, and the asset's sections of atoms.
    pub(super) fn into_parts(self) -> (Vec<Automaton>, [Vec<u8>; 3]) {
        let [blocks, entries] = super::unicode::sections(&self.table);
        (self.stages, [blocks, entries, self.bytes])
    }
}

/// Automata for these stages, the last of which is `ByteLevel`, or has `ByteLevel` before it. `alphabet`: the characters
/// that bytes are behind it.
pub(super) fn read(stages: &[&Value], alphabet: &HashMap<char, u8>) -> Result<Automata, CompileError> {
    let mut read = Vec::new();
    let mut bytes = false;
    for stage in stages {
        let kind = stage.get("type").and_then(Value::as_str).unwrap_or_default();
        let flag = |name: &str| stage.get(name).and_then(Value::as_bool);
        let (alternatives, drops) = match kind {
            "ByteLevel" if bytes || flag("add_prefix_space") != Some(false) => {
                return unsupported(
                    "pre_tokenizer: ByteLevel twice, or with add_prefix_space behind another stage",
                );
            }
            "ByteLevel" => {
                let [gpt2, _] = GPT2;
                let stage =
                    (flag("use_regex") != Some(false)).then(|| alternatives::read(gpt2)).transpose()?;
                read.extend(stage.map(|alternatives| Stage { alternatives, bytes, drops: false }));
                bytes = true;
                continue;
            }
            "Split" => split(stage)?,
            "Digits" => (of_characters(char::is_numeric, flag("individual_digits") != Some(true)), false),
            "Punctuation" => {
                let is_punctuation = |c: char| c.is_ascii_punctuation() || c.is_punctuation();
                let runs = match stage.get("behavior").and_then(Value::as_str) {
                    Some("Isolated") | None => false,
                    Some("Contiguous") => true,
                    Some(other) => {
                        return unsupported(format!("pre_tokenizer: Punctuation with behavior {other}"));
                    }
                };
                (of_characters(is_punctuation, runs), false)
            }
            _ => return unsupported(format!("pre_tokenizer stage {kind}")),
        };
        read.push(Stage { alternatives, bytes, drops });
    }
    if !bytes || read.is_empty() || read.len() > STAGES_MAX {
        return unsupported(format!("pre_tokenizer without ByteLevel, or of more than {STAGES_MAX} stages"));
    }
    build(&read, alphabet)
}

fn build(stages: &[Stage], alphabet: &HashMap<char, u8>) -> Result<Automata, CompileError> {
    let behind = |behind: &Behind| match behind {
        Behind::Nothing => Hir::empty(),
        Behind::One(class) | Behind::OneOrEnd(class) => Hir::class(Class::Unicode(class.clone())),
    };
    let alternatives = || stages.iter().flat_map(|stage| &stage.alternatives);
    let looked_at: Vec<Hir> = alternatives().map(|(_, looks)| behind(looks)).collect();
    let atoms = Atoms::of(alternatives().map(|(expression, _)| expression).chain(&looked_at))?;
    let mut automata = Vec::new();
    for Stage { alternatives, bytes, drops } in stages {
        let mut expressions = Vec::new();
        for (expression, looks) in alternatives {
            let matched = atoms.over(expression)?;
            // What reaches the end is the longest that there can be, so it comes first.
            if let Behind::OneOrEnd(_) = looks {
                expressions.push((Hir::concat(vec![matched.clone(), Hir::look(Look::End)]), MATCH));
            }
            expressions.push(match looks {
                Behind::Nothing => (matched, MATCH),
                looks => (Hir::concat(vec![matched, atoms.over(&behind(looks))?]), SHORTER_MATCH),
            });
        }
        let (next, matches) = automaton(&expressions, atoms.count)?;
        automata.extend(Automaton::new(*bytes, *drops, next, matches));
    }
    let mut by_byte = vec![0; 256];
    for (character, byte) in alphabet {
        let atom = atoms.table.get(*character as usize);
        if let (Some(entry), Some(atom)) = (by_byte.get_mut(usize::from(*byte)), atom) {
            *entry = *atom;
        }
    }
    Ok(Automata { stages: automata, table: atoms.table, bytes: by_byte })
}

/// A `Split`: its alternatives, and whether what does not match is dropped.
fn split(stage: &Value) -> Result<(Vec<(Hir, Behind)>, bool), CompileError> {
    let text = |field: &str| stage.get(field).and_then(Value::as_str);
    let invert = stage.get("invert").and_then(Value::as_bool) == Some(true);
    let drops = match (text("behavior"), invert) {
        (Some("Isolated"), _) => false,
        (Some("Removed"), true) => true,
        (behavior, _) => {
            return unsupported(format!("pre_tokenizer: Split with behavior {}", behavior.unwrap_or("?")));
        }
    };
    let pattern = |kind| stage.get("pattern").and_then(|pattern| pattern.get(kind)).and_then(Value::as_str);
    match (pattern("Regex"), pattern("String")) {
        (Some(regex), _) => Ok((alternatives::read(regex)?, drops)),
        (None, Some(text)) if !text.is_empty() => {
            Ok((vec![(Hir::literal(text.as_bytes()), Behind::Nothing)], drops))
        }
        _ => unsupported("pre_tokenizer: Split without a pattern"),
    }
}

/// One character of these, or a run of them.
fn of_characters(is_one: impl Fn(char) -> bool, runs: bool) -> Vec<(Hir, Behind)> {
    let each = (0..0x11_0000).filter_map(char::from_u32).filter(|character| is_one(*character));
    let ranges = each.map(|character| ClassUnicodeRange::new(character, character));
    let set = Hir::class(Class::Unicode(ClassUnicode::new(ranges)));
    vec![(if runs { one_or_more(set) } else { set }, Behind::Nothing)]
}

fn one_or_more(set: Hir) -> Hir {
    Hir::repetition(Repetition { min: 1, max: None, greedy: true, sub: Box::new(set) })
}

fn dfa(expressions: &[(Hir, u8)]) -> Result<dense::DFA<Vec<u32>>, Box<dyn std::error::Error>> {
    let patterns: Vec<&Hir> = expressions.iter().map(|(expression, _)| expression).collect();
    let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(BUILD_BYTES_MAX));
    let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(&patterns)?;
    let config = dense::Config::new()
        .match_kind(MatchKind::LeftmostFirst)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(BUILD_BYTES_MAX))
        .determinize_size_limit(Some(BUILD_BYTES_MAX));
    Ok(dense::Builder::new().configure(config).build_from_nfa(&nfa)?)
}

/// Next states and matches, for expressions of which the first that matches counts.
fn automaton(expressions: &[(Hir, u8)], atoms: usize) -> Result<(Vec<u16>, Vec<u8>), CompileError> {
    let failed = |error: &dyn std::fmt::Display| CompileError::Unsupported(format!("pre_tokenizer: {error}"));
    let dfa = dfa(expressions).map_err(|error| failed(&error))?;
    let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes));
    let start = start.map_err(|error| failed(&error))?;
    let mut states: Vec<Option<StateID>> = vec![None, Some(start)];
    let mut numbers = HashMap::from([(start, START)]);
    let (mut next, mut matches) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(state) = states.get(at).copied() {
        at += 1;
        let Some(state) = state else {
            next.resize(atoms + 1, DEAD);
            matches.push(NO_MATCH);
            continue;
        };
        matches.push(match dfa.is_match_state(state) {
            true => {
                expressions.get(dfa.match_pattern(state, 0).as_usize()).map_or(NO_MATCH, |(_, kind)| *kind)
            }
            false => NO_MATCH,
        });
        for atom in 0..=atoms {
            let followed = match u8::try_from(atom) {
                Ok(byte) if atom < atoms => dfa.next_state(state, byte),
                _ => dfa.next_eoi_state(state),
            };
            if dfa.is_dead_state(followed) {
                next.push(DEAD);
                continue;
            }
            let new = u16::try_from(states.len()).unwrap_or(DEAD);
            let number = *numbers.entry(followed).or_insert_with(|| {
                states.push(Some(followed));
                new
            });
            next.push(number);
        }
        if next.len() > ENTRIES_MAX {
            return unsupported("pre_tokenizer: an expression of too many states");
        }
    }
    Ok((next, matches))
}
