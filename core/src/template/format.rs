//! `format % values` and `str.format`, as far as templates use them.

use super::args::Given;
use super::eval::Interpreter;
use super::fail::{Outcome, raise, refuse};
use super::repr::{put, write_repr, write_str};
use super::value::{Value, count_chars};

/// The widest field: more is not what a template means, and costs memory.
const WIDTH_MAX: usize = 1_024;

/// One `%` field without its key.
#[derive(Default)]
struct Field {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

impl<'a> Interpreter<'a, '_> {
    /// `format % args`; `mapping` is what keys are looked up in.
    pub(super) fn percent(
        &mut self,
        format: &str,
        args: &Given<'a>,
        mapping: Option<&Value<'a>>,
    ) -> Outcome<Value<'a>> {
        self.spend_bytes(format.len())?;
        let mut out = String::new();
        let mut next = args.positional.iter();
        let mut used_mapping = false;
        let mut rest = format;
        while let Some((before, field)) = rest.split_once('%') {
            out.push_str(before);
            let mut tail = field;
            let mut value = None;
            if let Some(keyed) = tail.strip_prefix('(') {
                let (Some((key, after)), Some(mapping)) = (keyed.split_once(')'), mapping) else {
                    return Err(raise("format requires a mapping"));
                };
                if key.contains('(') {
                    return Err(refuse("a key with parentheses"));
                }
                let Value::Dict(dict) = mapping else { return Err(raise("format requires a mapping")) };
                let found = dict.get_str(key).cloned();
                value = Some(found.ok_or_else(|| raise(super::repr::quote(key)))?);
                used_mapping = true;
                tail = after;
            }
            let (spec, conversion, after) = field_of(tail)?;
            rest = after;
            if conversion == '%' {
                out.push('%');
                continue;
            }
            let value = match value {
                Some(value) => value,
                None => {
                    next.next().cloned().ok_or_else(|| raise("not enough arguments for format string"))?
                }
            };
            let text = convert(&value, conversion, &spec)?;
            pad(&mut out, &text, &spec, conversion);
            self.spend_bytes(out.len())?;
        }
        out.push_str(rest);
        if next.next().is_some() && !used_mapping && mapping.is_none() {
            return Err(raise("not all arguments converted during string formatting"));
        }
        Ok(Value::text(out))
    }

    /// `format.format(..)`: fields by place or by name, without a specification.
    pub(super) fn format(&mut self, format: &str, given: &Given<'a>) -> Outcome<Value<'a>> {
        let mut out = String::new();
        let mut chars = format.char_indices().peekable();
        let mut next = 0;
        while let Some((at, character)) = chars.next() {
            let doubled = chars.peek().is_some_and(|(_, next)| *next == character);
            match character {
                '{' | '}' if doubled => {
                    chars.next();
                    out.push(character);
                }
                '}' => return Err(raise("Single '}' encountered in format string")),
                '{' => {
                    let inside = format.get(at + 1..).unwrap_or_default();
                    let Some((field, _)) = inside.split_once('}') else {
                        return Err(raise("Single '{' encountered in format string"));
                    };
                    for _ in field.chars().chain(['}']) {
                        chars.next();
                    }
                    let (name, conversion) = match field.split_once('!') {
                        Some((name, conversion @ ("r" | "s"))) => (name, conversion),
                        Some(_) => return Err(refuse("this field of a format")),
                        None => (field, "s"),
                    };
                    let value = if name.is_empty() {
                        next += 1;
                        given.positional.get(next - 1)
                    } else if let Ok(at) = name.parse::<usize>() {
                        if next > 0 {
                            return Err(refuse("fields with and without numbers"));
                        }
                        given.positional.get(at)
                    } else if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                        let keyword = given.keywords.iter().find(|(known, _)| known.as_str() == name);
                        keyword.map(|(_, value)| value)
                    } else {
                        return Err(refuse("this field of a format"));
                    };
                    let value = value.ok_or_else(|| raise("a field without its value"))?;
                    match conversion {
                        "r" => write_repr(&mut out, value, 0)?,
                        _ => write_str(&mut out, value)?,
                    }
                    self.spend_bytes(out.len())?;
                }
                other => out.push(other),
            }
        }
        Ok(Value::text(out))
    }
}

/// What is between `%` and its letter, the letter, and what follows.
fn field_of(text: &str) -> Outcome<(Field, char, &str)> {
    let mut field = Field::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
        match flag {
            '-' => field.left = true,
            '0' => field.zero = true,
            '+' => field.plus = true,
            ' ' => field.space = true,
            _ => return Err(refuse("the alternate form of a number")),
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let number = |text: &str| -> Outcome<usize> {
        let value = text.parse().unwrap_or(if text.is_empty() { 0 } else { usize::MAX });
        if value > WIDTH_MAX { Err(refuse("a field as wide as this")) } else { Ok(value) }
    };
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (width, after) = rest.split_at(digits(rest));
    field.width = number(width)?;
    rest = after;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = after.split_at(digits(after));
        field.precision = Some(number(precision)?);
        rest = after;
    }
    let Some(conversion) = rest.chars().next() else { return Err(raise("incomplete format")) };
    Ok((field, conversion, rest.get(conversion.len_utf8()..).unwrap_or_default()))
}

fn convert(value: &Value<'_>, conversion: char, field: &Field) -> Outcome<String> {
    let mut text = String::new();
    match conversion {
        's' | 'r' => {
            if conversion == 's' {
                write_str(&mut text, value)?;
            } else {
                write_repr(&mut text, value, 0)?;
            }
            if let Some(precision) = field.precision {
                text = text.chars().take(precision).collect();
            }
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            if field.precision.is_some() {
                return Err(refuse("a whole number with a precision"));
            }
            let value = match value {
                Value::Float(value) if "diu".contains(conversion) && value.abs() < 9e18 => *value as i64,
                Value::Undefined(missing) => return Err(missing.fail()),
                Value::Big(_) | Value::Float(_) => return Err(refuse("this number")),
                other => other.as_int().ok_or_else(|| {
                    raise(format!(
                        "%{conversion} format: a real number is required, not {}",
                        other.type_name()
                    ))
                })?,
            };
            let magnitude = value.unsigned_abs();
            text.push_str(sign(value < 0, field));
            match conversion {
                'x' => put(&mut text, format_args!("{magnitude:x}")),
                'X' => put(&mut text, format_args!("{magnitude:X}")),
                'o' => put(&mut text, format_args!("{magnitude:o}")),
                _ => put(&mut text, format_args!("{magnitude}")),
            }
        }
        'f' | 'F' => {
            let value = match value {
                Value::Float(value) => *value,
                Value::Undefined(missing) => return Err(missing.fail()),
                other => match other.as_int() {
                    Some(value) => value as f64,
                    None => {
                        return Err(raise(format!("must be real number, not {}", other.type_name())));
                    }
                },
            };
            if !value.is_finite() {
                return Err(refuse("a number that is not finite"));
            }
            text.push_str(sign(value.is_sign_negative(), field));
            let precision = field.precision.unwrap_or(6);
            put(&mut text, format_args!("{:.precision$}", value.abs()));
        }
        'e' | 'E' | 'g' | 'G' | 'c' | 'a' => return Err(refuse("this conversion")),
        _ => return Err(raise("unsupported format character")),
    }
    Ok(text)
}

fn sign(negative: bool, field: &Field) -> &'static str {
    match (negative, field.plus, field.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn pad(out: &mut String, text: &str, field: &Field, conversion: char) {
    let missing = field.width.saturating_sub(count_chars(text));
    if field.left {
        out.push_str(text);
        out.push_str(&" ".repeat(missing));
    } else if field.zero && !matches!(conversion, 's' | 'r') {
        let unsigned = text.trim_start_matches(['+', '-', ' ']);
        out.push_str(text.get(..text.len() - unsigned.len()).unwrap_or_default());
        out.push_str(&"0".repeat(missing));
        out.push_str(unsigned);
    } else {
        out.push_str(&" ".repeat(missing));
        out.push_str(text);
    }
}
