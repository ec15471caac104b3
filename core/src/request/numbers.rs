//! Whole numbers beyond 64 bits, which Python keeps and the JSON reader here rounds. Templates print them (limits in the
//! parameters of tools), so a body that has some is read again, with such numbers as marked strings.

use serde_json::Value;

/// Start of a string that stands for a number: a character that no text has.
const MARK: &str = "\u{10fffe}";

/// Digits of the longest number that Python reads.
const DIGITS_MAX: usize = 4_300;

/// Digits of the shortest number that may not fit 64 bits.
const DIGITS_MIN: usize = 19;

/// The digits that a string stands for.
pub(crate) fn marked(text: &str) -> Option<&str> {
    text.strip_prefix(MARK)
}

/// Whether some number was rounded, or may have been.
pub(super) fn any_rounded(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= 9e18),
        Value::Array(items) => items.iter().any(any_rounded),
        Value::Object(map) => map.values().any(any_rounded),
        _ => false,
    }
}

/// Whether some string already starts like one that stands for a number, or holds JSON with such a string.
pub(super) fn any_marked(value: &Value) -> bool {
    let holds = |text: &str| text.contains(MARK) || text.to_ascii_lowercase().contains("udbff");
    match value {
        Value::String(text) => text.starts_with(MARK),
        Value::Array(items) => items.iter().any(any_marked),
        Value::Object(map) => map.iter().any(|(key, value)| match value {
            Value::String(text) if key == "arguments" => holds(text),
            value => any_marked(value),
        }),
        _ => false,
    }
}

/// The body with long whole numbers as marked strings; none where that cannot be done.
pub(super) fn mark(body: &[u8]) -> Option<String> {
    // The mark itself, as it is or escaped.
    let is_clean = |body: &&str| !body.contains(MARK) && !body.to_ascii_lowercase().contains("\\udbff");
    let body = std::str::from_utf8(body).ok().filter(is_clean)?;
    let mut out = String::with_capacity(body.len() + 64);
    let mut rest = body;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest)?,
            '-' | '0'..='9' => {
                let number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
                let length = rest.find(|c| !number(c)).unwrap_or(rest.len());
                let text = rest.get(..length)?;
                if text.len() > DIGITS_MAX {
                    return None;
                }
                let whole = text.bytes().skip(1).all(|byte| byte.is_ascii_digit());
                if whole && text.len() >= DIGITS_MIN && text.parse::<i64>().is_err() {
                    out.push('"');
                    out.push_str(MARK);
                    out.push_str(text);
                    out.push('"');
                    rest = rest.get(length..)?;
                    continue;
                }
                length
            }
            other => other.len_utf8(),
        };
        out.push_str(rest.get(..length)?);
        rest = rest.get(length..)?;
    }
    Some(out)
}

/// Length of the string at the start of `text`, quotes included.
fn string_length(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}
