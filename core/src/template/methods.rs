//! Methods of Python's `str`, `list`, `tuple` and `dict`: which there are, and those of lists and dicts.
//!
//! - `methods/letters.rs`: letters of a `str`: their case and their kind.
//! - `methods/split.rs`: `str.split` and `str.rsplit`.
//! - `methods/text.rs`: methods of `str`.

mod letters;
mod split;
mod text;

use super::args::Given;
use super::eval::Interpreter;
use super::fail::{Outcome, raise, refuse};
use super::python::is_space;
use super::value::{Text, Value, View, equal};
pub(super) use letters::has_case;

/// What a name is to a Python object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not its attribute.
    None,
    /// A method that templates may call.
    Method,
    /// A method that changes the object: the sandbox refuses it.
    Unsafe,
    /// An attribute that is not modelled.
    Other,
}

const STR: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// What `object.name` is in Python, apart from items.
pub(super) fn kind(object: &Value<'_>, name: &str) -> Kind {
    match object {
        Value::Str(_) if STR.contains(&name) => Kind::Method,
        Value::Str(Text::Markup(_)) if matches!(name, "striptags" | "unescape" | "escape") => Kind::Other,
        Value::Unknown(_) if matches!(name, "strip" | "lstrip" | "rstrip") => Kind::Method,
        Value::Unknown(_) if STR.contains(&name) => Kind::Other,
        Value::List(_) => match name {
            "count" | "index" | "copy" => Kind::Method,
            "append" | "clear" | "pop" | "reverse" | "insert" | "sort" | "extend" | "remove" => Kind::Unsafe,
            _ => Kind::None,
        },
        Value::Tuple(_) if matches!(name, "count" | "index") => Kind::Method,
        // What the pairs of `groupby` have.
        Value::Tuple(_) if matches!(name, "grouper" | "list") => Kind::Other,
        Value::Dict(_) => match name {
            "get" | "items" | "keys" | "values" | "copy" => Kind::Method,
            "clear" | "pop" | "popitem" | "setdefault" | "update" => Kind::Unsafe,
            "fromkeys" => Kind::Other,
            _ => Kind::None,
        },
        Value::View(..) if matches!(name, "mapping" | "isdisjoint") => Kind::Other,
        Value::Range(_) if matches!(name, "start" | "stop" | "step" | "count" | "index") => Kind::Other,
        Value::Int(_) | Value::Big(_) | Value::Bool(_) | Value::Float(_)
            if matches!(
                name,
                "real"
                    | "imag"
                    | "numerator"
                    | "denominator"
                    | "conjugate"
                    | "bit_length"
                    | "bit_count"
                    | "to_bytes"
                    | "from_bytes"
                    | "as_integer_ratio"
                    | "is_integer"
                    | "hex"
                    | "fromhex"
            ) =>
        {
            Kind::Other
        }
        _ => Kind::None,
    }
}

impl<'a> Interpreter<'a, '_> {
    pub(super) fn call_method(
        &mut self,
        object: &Value<'a>,
        name: &str,
        given: Given<'a>,
    ) -> Outcome<Value<'a>> {
        match object {
            Value::Str(text) => self.str_method(text, name, given),
            Value::Unknown(start) => {
                given.bind(name, [], 0)?;
                Ok(if name == "rstrip" { object.clone() } else { strip_unknown(start) })
            }
            Value::Dict(dict) => match name {
                "get" => {
                    let [key, default] = given.bind("get", ["", ""], 1)?;
                    let key = key.unwrap_or(Value::None);
                    self.spend((dict.entries().len() / 16) as u64)?;
                    Ok(dict.get(&key)?.cloned().or(default).unwrap_or(Value::None))
                }
                "copy" => {
                    given.bind("copy", [], 0)?;
                    Ok(object.clone())
                }
                _ => {
                    given.bind(name, [], 0)?;
                    let view = match name {
                        "items" => View::Items,
                        "keys" => View::Keys,
                        _ => View::Values,
                    };
                    Ok(Value::View(dict.clone(), view))
                }
            },
            Value::List(items) | Value::Tuple(items) => {
                if name == "copy" {
                    given.bind("copy", [], 0)?;
                    return Ok(object.clone());
                }
                let [wanted] = given.bind(name, [""], 1)?;
                let wanted = wanted.unwrap_or(Value::None);
                self.spend(items.len() as u64)?;
                let mut count = 0;
                for (at, item) in items.iter().enumerate() {
                    if equal(item, &wanted)? {
                        if name == "index" {
                            return Ok(Value::Int(at as i64));
                        }
                        count += 1;
                    }
                }
                if name == "index" {
                    Err(raise("the value is not in the list"))
                } else {
                    Ok(Value::Int(count))
                }
            }
            _ => Err(refuse("this method")),
        }
    }
}

/// A string of which only the start is known, without white space before it. Where nothing is known there may be some.
pub(super) fn strip_unknown<'a>(start: &str) -> Value<'a> {
    Value::Unknown(start.trim_start_matches(is_space).into())
}

fn int(value: &Value<'_>, name: &str) -> Outcome<i64> {
    match value {
        Value::Undefined(missing) => Err(missing.fail()),
        Value::Big(_) => Err(refuse("a number beyond 64 bits")),
        other => other.as_int().ok_or_else(|| {
            raise(format!("{name}: '{}' object cannot be interpreted as an integer", other.type_name()))
        }),
    }
}

fn text_arg<'a>(value: Option<Value<'a>>, name: &str) -> Outcome<Text<'a>> {
    match value {
        Some(Value::Str(text)) => Ok(text),
        other => {
            let found = other.map_or("NoneType", |other| other.type_name());
            Err(raise(format!("{name}() argument must be str, not {found}")))
        }
    }
}
