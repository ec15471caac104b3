//! `json.loads`: Python's reading of JSON, which takes more than JSON is.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::value::{Dict, Text, Value};
use crate::request::numbers;

/// Why a text has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LoadsError {
    /// Python says so as well.
    Invalid,
    /// Python reads it, or fails in another way: lone surrogates, deep nesting, numbers of thousands of digits.
    Unsupported,
}

/// Deepest nesting, as of bodies.
const DEPTH_MAX: usize = 128;

/// Digits of the longest whole number: Python's limit.
const DIGITS_MAX: usize = 4_300;

pub(super) fn loads(text: &str) -> Result<Value<'_>, LoadsError> {
    let mut reader = Reader { text, at: 0 };
    if text.starts_with('\u{feff}') {
        return Err(LoadsError::Invalid);
    }
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(value) } else { Err(LoadsError::Invalid) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, LoadsError> {
        if depth > DEPTH_MAX {
            return Err(LoadsError::Unsupported);
        }
        match self.byte() {
            Some(b'"') => {
                let text = self.string()?;
                // An object of another API, written as JSON by ourselves.
                Ok(match numbers::marked(text.as_str()) {
                    Some(digits) => Value::Big(digits.into()),
                    None => Value::Str(text),
                })
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words = [
                    ("null", Value::None),
                    ("true", Value::Bool(true)),
                    ("false", Value::Bool(false)),
                    ("NaN", Value::Float(f64::NAN)),
                    ("Infinity", Value::Float(f64::INFINITY)),
                ];
                let found = words.into_iter().find(|(word, _)| self.rest().starts_with(word));
                let (word, value) = found.ok_or(LoadsError::Invalid)?;
                self.at += word.len();
                Ok(value)
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, LoadsError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Value::list(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take("]") {
                return Ok(Value::list(items));
            }
            if !self.take(",") {
                return Err(LoadsError::Invalid);
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, LoadsError> {
        self.at += 1;
        let mut entries: Vec<(Value<'a>, Value<'a>)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        self.space();
        if self.take("}") {
            return Ok(Value::Dict(Rc::new(Dict::of(entries))));
        }
        loop {
            self.space();
            if self.byte() != Some(b'"') {
                return Err(LoadsError::Invalid);
            }
            let key = self.string()?;
            self.space();
            if !self.take(":") {
                return Err(LoadsError::Invalid);
            }
            self.space();
            let value = self.value(depth + 1)?;
            // The last of equal keys counts, at the place of the first.
            match places.get(key.as_str()).and_then(|at| entries.get_mut(*at)) {
                Some(entry) => entry.1 = value,
                None => {
                    places.insert(key.as_str().to_owned(), entries.len());
                    entries.push((Value::Str(key), value));
                }
            }
            self.space();
            if self.take("}") {
                return Ok(Value::Dict(Rc::new(Dict::of(entries))));
            }
            if !self.take(",") {
                return Err(LoadsError::Invalid);
            }
        }
    }

    fn number(&mut self) -> Result<Value<'a>, LoadsError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let negative = usize::from(bytes.first() == Some(&b'-'));
        if rest.get(negative..).is_some_and(|rest| rest.starts_with("Infinity")) {
            self.at += negative + "Infinity".len();
            return Ok(Value::Float(f64::NEG_INFINITY));
        }
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let whole = if bytes.get(negative) == Some(&b'0') { 1 } else { digits(negative) };
        if whole == 0 {
            return Err(LoadsError::Invalid);
        }
        let mut end = negative + whole;
        let mut float = false;
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
            float = true;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let count = digits(end + 1 + sign);
            if count > 0 {
                end += 1 + sign + count;
                float = true;
            }
        }
        let text = rest.get(..end).unwrap_or_default();
        self.at += end;
        if float {
            return text.parse().map(Value::Float).map_err(|_| LoadsError::Invalid);
        }
        if whole > DIGITS_MAX {
            return Err(LoadsError::Unsupported);
        }
        Ok(text.parse().map_or_else(|_| Value::Big(text.into()), Value::Int))
    }

    fn string(&mut self) -> Result<Text<'a>, LoadsError> {
        self.at += 1;
        let start = self.at;
        let plain = |c: char| c == '"' || c == '\\' || c < ' ';
        let end = self.rest().find(plain).ok_or(LoadsError::Invalid)?;
        self.at += end;
        if self.take("\"") {
            return Ok(Text::Borrowed(self.text.get(start..start + end).unwrap_or_default()));
        }
        let mut out = self.text.get(start..start + end).unwrap_or_default().to_owned();
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text::Owned(out.into()));
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(0..=31) | None => return Err(LoadsError::Invalid),
                Some(_) => {
                    let end = self.rest().find(plain).ok_or(LoadsError::Invalid)?;
                    out.push_str(self.rest().get(..end).unwrap_or_default());
                    self.at += end;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, LoadsError> {
        let escaped = self.byte().ok_or(LoadsError::Invalid)?;
        self.at += 1;
        Ok(match escaped {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                if !(0xd800..0xe000).contains(&first) {
                    return char::from_u32(first).ok_or(LoadsError::Invalid);
                }
                // Half of a pair: alone it is no character that could be encoded.
                if first >= 0xdc00 || !self.take("\\u") {
                    return Err(LoadsError::Unsupported);
                }
                let second = self.unit()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(LoadsError::Unsupported);
                }
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(code).ok_or(LoadsError::Invalid);
            }
            _ => return Err(LoadsError::Invalid),
        })
    }

    fn unit(&mut self) -> Result<u32, LoadsError> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.ok_or(LoadsError::Invalid)
    }
}
