//! The alternatives of an expression, as automata can match them.
//!
//! One may end by looking at a character (`\s+(?!\S)`): that is taken off and kept beside it. What an automaton cannot do, or
//! engines of regular expressions read differently, is refused: other look-around, possessive repetition, classes with `--`,
//! repetition of what may be nothing, and what [`is_plain`] knows.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use super::super::expressions::is_plain;
use super::CompileError;
use super::expression::{CONTRACTIONS, alternatives};

/// Alternatives of possessive repetitions that no backtracking would change, without them.
const POSSESSIVE: [[&str; 2]; 2] = [
    [r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"],
    [r" ?[^\s\p{L}\p{N}]++[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n]*"],
];

/// Contractions in any case, spelled out: U+017F is a long `s`.
const ANY_CASE: &str = "(?:'(?:[sS\u{17f}]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))";

/// What an alternative looks at behind its match.
pub(super) enum Behind {
    Nothing,
    /// One of these characters.
    One(ClassUnicode),
    /// One of these characters, or the end.
    OneOrEnd(ClassUnicode),
}

/// The alternatives of an expression.
pub(super) fn read(regex: &str) -> Result<Vec<(Hir, Behind)>, CompileError> {
    let refused =
        |why: &str| CompileError::Unsupported(format!("pre_tokenizer: expression {regex:?}: {why}"));
    let spelled = CONTRACTIONS.iter().fold(regex.to_owned(), |regex, any| regex.replace(any, ANY_CASE));
    let mut read = Vec::new();
    for part in alternatives(&spelled) {
        let part =
            POSSESSIVE.iter().find(|[possessive, _]| *possessive == part).map_or(part, |[_, plain]| plain);
        let (matched, looks) = look_behind_match(part);
        if !is_plain(matched) {
            return Err(refused("engines read it differently"));
        }
        if possessive_or_flagged(matched) {
            return Err(refused("possessive or optional repetition, flags, or sets that are subtracted"));
        }
        let parse = |text| regex_syntax::parse(text).map_err(|_| refused("look-around, or no expression"));
        let matched = parse(matched)?;
        let behind = match looks.map(|(negated, set)| Ok((negated, parse(set)?))).transpose()? {
            None => Behind::Nothing,
            Some((negated, set)) => {
                let mut set = set_of(&set).ok_or_else(|| refused("it looks at more than one character"))?;
                if !is_run(&matched) {
                    return Err(refused("only a run of characters may look at what comes behind it"));
                }
                if negated {
                    set.negate();
                    Behind::OneOrEnd(set)
                } else {
                    Behind::One(set)
                }
            }
        };
        if matched.properties().minimum_len().is_none_or(|length| length == 0) || repeats_nothing(&matched) {
            return Err(refused("it, or what it repeats, matches nothing"));
        }
        read.push((matched, behind));
    }
    Ok(read)
}

fn set_of(expression: &Hir) -> Option<ClassUnicode> {
    match expression.kind() {
        HirKind::Class(Class::Unicode(set)) => Some(set.clone()),
        HirKind::Literal(literal) => {
            let mut characters = std::str::from_utf8(&literal.0).ok()?.chars();
            let range = characters.next().map(|character| ClassUnicodeRange::new(character, character))?;
            characters.next().is_none().then(|| ClassUnicode::new([range]))
        }
        _ => None,
    }
}

/// Whether a part that may match nothing is repeated: engines end such a loop at different places.
fn repeats_nothing(expression: &Hir) -> bool {
    match expression.kind() {
        HirKind::Repetition(repetition) => {
            let nothing = repetition.sub.properties().minimum_len() == Some(0);
            repetition.max != Some(1) && nothing || repeats_nothing(&repetition.sub)
        }
        HirKind::Capture(capture) => repeats_nothing(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(repeats_nothing),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// `set+` or `set{2,}`, of which every shorter match is a match: so the longest that is followed by what is looked for is
/// what a backtracking engine finds.
fn is_run(expression: &Hir) -> bool {
    match expression.kind() {
        HirKind::Repetition(repetition) => {
            repetition.greedy && repetition.min > 0 && matches!(repetition.sub.kind(), HirKind::Class(_))
        }
        _ => false,
    }
}

/// An alternative without the `(?!set)` or `(?=set)` at its end, and that: whether it is negated, and the set. `$` is
/// `(?![^\n])`: to Oniguruma, lines end there.
fn look_behind_match(part: &str) -> (&str, Option<(bool, &str)>) {
    if let Some(matched) = part.strip_suffix('$').filter(|matched| !matched.ends_with('\\')) {
        return (matched, Some((true, r"[^\n]")));
    }
    let looks = |opening: &str| {
        let (matched, set) = part.strip_suffix(')')?.rsplit_once(opening)?;
        // One escape or one set; anything else is found to be no class.
        (!set.contains(['(', ')', '|'])).then_some((matched, set))
    };
    match (looks("(?!"), looks("(?=")) {
        (Some((matched, set)), _) => (matched, Some((true, set))),
        (None, Some((matched, set))) => (matched, Some((false, set))),
        (None, None) => (part, None),
    }
}

/// Whether engines differ on it: `a++`, `a{2}?`, `(?i)`, `[a--b]`.
fn possessive_or_flagged(regex: &str) -> bool {
    let flagged =
        regex.match_indices("(?").any(|(at, _)| !regex.get(at..).is_some_and(|rest| rest.starts_with("(?:")));
    let (mut escaped, mut before, mut depth, mut property) = (false, ' ', 0_u32, false);
    for character in regex.chars() {
        let repeats = depth == 0 && matches!(before, '?' | '*' | '+' | '}');
        match character {
            _ if escaped => property = matches!(character, 'p' | 'P'),
            '+' if repeats => return true,
            '?' if depth == 0 && before == '}' => return true,
            '-' | '~' if depth > 0 && before == character => return true,
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // The brace of `\p{L}` repeats nothing.
        let plain = escaped || character == '}' && std::mem::take(&mut property);
        before = if plain { ' ' } else { character };
        escaped = character == '\\' && !escaped;
    }
    flagged
}
