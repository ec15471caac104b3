//! The regular expressions of pre-tokenizers: which of them the scanners know.
//!
//! An expression is recognised by its alternatives, spelled exactly as here (a line end may be the character or its
//! escape). Nothing is concluded from a likeness: what is spelled otherwise is refused.

use regex_syntax::hir::{Class, HirKind};
use serde_json::Value;

use super::super::rules::{Main, Rules};

pub(super) const CONTRACTIONS: [&str; 2] = ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"];
pub(super) const GPT2: [&str; 2] = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];
const DEEPSEEK: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of cl100k and its relatives, and whether marks are letters.
const WORDS: [(&str, bool); 4] = [
    (r"[^\r\n\p{L}\p{N}]?\p{L}+", false),
    (r"[^\r\n\p{L}\p{N}]?+\p{L}+", false),
    (r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", true),
    (r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+", true),
];
/// Both words of o200k.
const CASED_WORDS: [&str; 2] = [
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
];
/// Signs: whether marks are among them, and whether a slash goes with line ends.
const SIGNS: [(&str, bool, bool); 5] = [
    (r" ?[^\s\p{L}\p{N}]+[\r\n]*", true, false),
    (r" ?[^\s\p{L}\p{N}]++[\r\n]*", true, false),
    (r" ?[^\s\p{L}\p{N}]+[\r\n/]*", true, true),
    (r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*", false, false),
    (r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n/]*", false, true),
];

/// The main expression that a `Split` is.
pub(super) fn main(stage: &Value) -> Option<Rules> {
    let (regex, removed) = split(stage)?;
    let regex = regex.replace('\r', r"\r").replace('\n', r"\n");
    let rules = if GPT2.contains(&&*regex) {
        Rules::of(Main::Gpt2)
    } else if regex == DEEPSEEK {
        Rules::of(Main::DeepSeek)
    } else {
        let parts = alternatives(&regex);
        cl100k(&parts).or_else(|| o200k(&parts))?
    };
    // What DeepSeek's expression does not match is a word as well, unless it is removed.
    (!removed || rules.main != Main::DeepSeek).then_some(rules)
}

/// The expression of a `Split` whose matches are words of their own, and whether what does not match is removed.
fn split(stage: &Value) -> Option<(&str, bool)> {
    let text = |field: &str| stage.get(field).and_then(Value::as_str);
    let invert = stage.get("invert").and_then(Value::as_bool)?;
    let removed = match (text("behavior")?, invert) {
        ("Isolated", _) => false,
        ("Removed", true) => true,
        _ => return None,
    };
    let regex = stage.get("pattern").and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str)?;
    (text("type") == Some("Split")).then_some((regex, removed))
}

/// The alternatives of an expression, cut at the `|` outside brackets and parentheses.
pub(super) fn alternatives(regex: &str) -> Vec<&str> {
    let (mut depth, mut class, mut escaped, mut from) = (0_u32, false, false, 0);
    let mut parts = Vec::new();
    for (at, character) in regex.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => class = false,
            '[' => class = true,
            '(' if !class => depth += 1,
            ')' if !class => depth = depth.saturating_sub(1),
            '|' if !class && depth == 0 => {
                parts.extend(regex.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(regex.get(from..));
    parts
}

fn cl100k(parts: &[&str]) -> Option<Rules> {
    let (contractions, parts) = match parts {
        [first, rest @ ..] if CONTRACTIONS.contains(first) => (true, rest),
        parts => (false, parts),
    };
    let [word, rest @ ..] = parts else { return None };
    let (_, marks) = WORDS.iter().find(|(spelled, _)| spelled == word)?;
    let rules = Rules { contractions, marks: *marks, ..Rules::of(Main::Cl100k) };
    tail(rest, rules)
}

fn o200k(parts: &[&str]) -> Option<Rules> {
    let [mixed, capitals, rest @ ..] = parts else { return None };
    let [contractions, ..] = CONTRACTIONS;
    let suffix = |part: &str, word: &str| match part.strip_prefix(word)? {
        "" => Some(false),
        suffix if suffix.strip_suffix('?') == Some(contractions) => Some(true),
        _ => None,
    };
    let [mixed_word, capitals_word] = CASED_WORDS;
    let with = suffix(mixed, mixed_word)?;
    if suffix(capitals, capitals_word)? != with {
        return None;
    }
    tail(rest, Rules { contractions: with, ..Rules::of(Main::O200k) })
}

/// Numbers, signs, white space.
fn tail(parts: &[&str], rules: Rules) -> Option<Rules> {
    let [numbers, signs, r"\s*[\r\n]+" | r"\s*[\r\n]", r"\s+(?!\S)", r"\s+" | r"\s"] = parts else {
        return None;
    };
    let numbers_max = match numbers.strip_prefix(r"\p{N}")? {
        "" => 1,
        "+" => u32::MAX,
        count => count.strip_prefix("{1,")?.strip_suffix('}')?.parse().ok().filter(|max| *max > 0)?,
    };
    let (_, sign_marks, slash) = SIGNS.iter().find(|(spelled, ..)| spelled == signs)?;
    // o200k's signs are spelled with marks among them, as its words can start with any mark.
    (rules.main != Main::O200k || *sign_marks).then_some(Rules {
        numbers_max,
        sign_marks: *sign_marks,
        slash: *slash,
        ..rules
    })
}

/// A stage that isolates runs of a set of characters: the set, and the longest run.
///
/// `None` for a set with characters that the scanners match as bytes: ASCII other than digits, U+017F, white space.
pub(super) fn isolating(stage: &Value) -> Option<(Vec<(u32, u32)>, u32)> {
    let (set, max) = match stage.get("type").and_then(Value::as_str)? {
        "Digits" => {
            let individual = stage.get("individual_digits").and_then(Value::as_bool)?;
            let numeric =
                (0..0x11_0000).filter_map(char::from_u32).filter(|character| character.is_numeric());
            (
                numeric.map(|character| (character.into(), character.into())).collect(),
                if individual { 1 } else { u32::MAX },
            )
        }
        _ => {
            let (regex, removed) = split(stage)?;
            run_of(regex).filter(|_| !removed)?
        }
    };
    let fits = set.iter().all(|(start, end): &(u32, u32)| {
        let of_bytes = (0..0x80).filter(|code| !(0x30..=0x39).contains(code)).chain([0x17f]);
        let white = char::from_u32(*start).is_some() && (*start..=*end).all(|code| !is_white_space(code));
        white && of_bytes.into_iter().all(|code| !(*start..=*end).contains(&code))
    });
    fits.then_some((set, max))
}

fn is_white_space(code: u32) -> bool {
    char::from_u32(code).is_some_and(char::is_whitespace)
}

/// `[set]`, `[set]+` or `[set]{1,max}`.
fn run_of(regex: &str) -> Option<(Vec<(u32, u32)>, u32)> {
    let expression = regex_syntax::parse(regex).ok()?;
    let (set, max) = match expression.kind() {
        HirKind::Repetition(repetition) if repetition.min == 1 && repetition.greedy => {
            (&*repetition.sub, repetition.max.unwrap_or(u32::MAX))
        }
        _ => (&expression, 1),
    };
    match set.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges().iter().map(|range| (range.start().into(), range.end().into()));
            Some((ranges.collect(), max))
        }
        _ => None,
    }
}

impl Rules {
    /// Whether the main expression makes one word of every run that a stage isolates, or the scanner can ask it.
    pub(super) fn keep_whole(self, set: &[(u32, u32)], max: u32) -> bool {
        let numbers_max = match self.main {
            Main::Cl100k | Main::O200k => self.numbers_max,
            _ => u32::MAX,
        };
        let is_number = |range: &(u32, u32)| {
            let mut numbers = super::unicode::ranges(r"\p{N}").into_iter();
            numbers.any(|(start, end)| start <= range.0 && range.1 <= end)
        };
        matches!(max, 1 | u32::MAX) || max <= numbers_max && set.iter().all(is_number)
    }
}
