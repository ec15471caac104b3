//! Python's idea of text: what is white space, where lines end, what letters become.

use super::fail::{Outcome, refuse};
use super::value::Text;

/// `str.isspace`, and `\s` of Python's `re`: Unicode's White_Space and four control characters.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Which ends of a text are stripped.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) start: bool,
    pub(super) end: bool,
}

/// `str.strip` and its two halves. No `chars`: white space.
pub(super) fn strip<'a>(text: &Text<'a>, chars: Option<&str>, ends: Ends) -> Text<'a> {
    let drop = |character: char| match chars {
        Some(chars) => chars.contains(character),
        None => is_space(character),
    };
    text.part(|text| {
        let text = if ends.start { text.trim_start_matches(drop) } else { text };
        if ends.end { text.trim_end_matches(drop) } else { text }
    })
}

/// `str.splitlines`
pub(super) fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(at) = rest.find(ends) else {
            lines.push(rest);
            break;
        };
        let tail = rest.get(at..).unwrap_or_default();
        let width = match tail {
            tail if tail.starts_with("\r\n") => 2,
            tail => tail.chars().next().map_or(1, char::len_utf8),
        };
        let line = if keep_ends { at + width } else { at };
        lines.push(rest.get(..line).unwrap_or_default());
        rest = rest.get(at + width..).unwrap_or_default();
    }
    lines
}

/// `str.upper` and `str.lower`, whose special cases Rust shares.
pub(super) fn upper(text: &str) -> String {
    text.to_uppercase()
}

pub(super) fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// `str.capitalize`. The title case of a letter is its upper case but for some beyond ASCII.
pub(super) fn capitalize(text: &str) -> Outcome<String> {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return Ok(String::new()) };
    let rest = chars.as_str();
    // A final sigma depends on what is before it, the first letter included.
    if rest.contains('Σ') {
        return Err(refuse("capitalize of a text with a sigma"));
    }
    Ok(title_letter(first)? + &lower(rest))
}

/// The title case of a letter that has a simple one.
pub(super) fn title_letter(letter: char) -> Outcome<String> {
    if letter.is_ascii() {
        return Ok(letter.to_ascii_uppercase().to_string());
    }
    let special = matches!(letter, '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}' | '\u{10d0}'..='\u{10ff}' | '\u{1f80}'..='\u{1fff}');
    if special || letter.to_uppercase().count() != 1 {
        return Err(refuse("the title case of a rare letter"));
    }
    Ok(letter.to_uppercase().collect())
}

/// `int(text)` of a decimal number: white space around it, a sign, underscores between digits.
pub(super) fn parse_int(text: &str) -> Option<Result<i64, String>> {
    let text = text.trim_matches(is_space);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let valid = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '_')
        && !digits.contains("__");
    if !valid {
        return None;
    }
    let digits = digits.replace('_', "");
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    };
    let text = format!("{}{digits}", if digits == "0" { "" } else { sign });
    Some(text.parse().map_err(|_| text))
}

/// `float(text)`
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let word = bare.to_ascii_lowercase();
    if !matches!(word.as_str(), "inf" | "infinity" | "nan") {
        let starts = bare.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        if !starts || !bare.contains(|c: char| c.is_ascii_digit()) || bare.contains("__") {
            return None;
        }
        // An underscore may only be between digits.
        let bytes = bare.as_bytes();
        let misplaced = bytes.iter().enumerate().any(|(at, byte)| {
            let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
            *byte == b'_' && !(digit(at.checked_sub(1)) && digit(Some(at + 1)))
        });
        if misplaced {
            return None;
        }
    }
    text.replace('_', "").parse().ok()
}
