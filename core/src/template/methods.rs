//! Methods of Python's `str`, `list`, `tuple` and `dict`.

use super::args::Given;
use super::eval::Interpreter;
use super::fail::{Outcome, raise, refuse};
use super::ops;
use super::python::{self, Ends, is_space, split_lines, strip};
use super::value::{Text, Value, View, count_chars, equal};

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

/// The widest padding: more is not what a template means, and costs memory.
const WIDTH_MAX: i64 = 65_536;

/// What `object.name` is in Python, apart from items.
pub(super) fn kind(object: &Value<'_>, name: &str) -> Kind {
    match object {
        Value::Str(_) if STR.contains(&name) => Kind::Method,
        Value::Unknown(_) if matches!(name, "strip" | "lstrip" | "rstrip") => Kind::Method,
        Value::Unknown(_) if STR.contains(&name) => Kind::Other,
        Value::List(_) => match name {
            "count" | "index" | "copy" => Kind::Method,
            "append" | "clear" | "pop" | "reverse" | "insert" | "sort" | "extend" | "remove" => Kind::Unsafe,
            _ => Kind::None,
        },
        Value::Tuple(_) if matches!(name, "count" | "index") => Kind::Method,
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

    fn str_method(&mut self, this: &Text<'a>, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let text = this.as_str();
        self.spend_bytes(text.len())?;
        match name {
            "strip" | "lstrip" | "rstrip" => {
                let [chars] = given.bind(name, [""], 0)?;
                let chars = optional_text(chars, name)?;
                let ends = Ends { start: name != "rstrip", end: name != "lstrip" };
                Ok(Value::Str(strip(this, chars.as_ref().map(Text::as_str), ends)))
            }
            "split" | "rsplit" => {
                let [separator, limit] = given.bind(name, ["sep", "maxsplit"], 0)?;
                let limit = limit.map_or(Ok(-1), |limit| int(&limit, name))?;
                let separator = optional_text(separator, name)?;
                let parts = match &separator {
                    None => split_space(text, limit, name == "rsplit"),
                    Some(separator) if separator.as_str().is_empty() => return Err(raise("empty separator")),
                    Some(separator) => split_by(text, separator.as_str(), limit, name == "rsplit"),
                };
                self.spend(parts.len() as u64)?;
                Ok(Value::list(parts.into_iter().map(|part| piece(this, part)).collect()))
            }
            "splitlines" => {
                let [keep] = given.bind(name, ["keepends"], 0)?;
                let lines = split_lines(text, keep.is_some_and(|keep| keep.is_true()));
                self.spend(lines.len() as u64)?;
                Ok(Value::list(lines.into_iter().map(|part| piece(this, part)).collect()))
            }
            "startswith" | "endswith" => self.starts(this, name, given),
            "replace" => {
                let [old, new, count] = given.bind(name, ["", "", ""], 2)?;
                let (old, new) = (text_arg(old, name)?, text_arg(new, name)?);
                let count = count.map_or(Ok(-1), |count| int(&count, name))?;
                self.replace(this, old.as_str(), new.as_str(), count)
            }
            "join" => {
                let [items] = given.bind(name, [""], 1)?;
                let items = self.collect(&items.unwrap_or(Value::None))?;
                let mut parts = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    let Some(part) = item.as_str() else {
                        let found = item.type_name();
                        return Err(raise(format!(
                            "sequence item {at}: expected str instance, {found} found"
                        )));
                    };
                    parts.push(part);
                }
                let bytes: usize = parts.iter().map(|part| part.len() + text.len()).sum();
                self.spend_bytes(bytes)?;
                Ok(Value::text(parts.join(text)))
            }
            "find" | "rfind" | "index" | "rindex" | "count" => self.find(text, name, given),
            "upper" | "lower" | "swapcase" | "title" | "capitalize" | "casefold" => {
                given.bind(name, [], 0)?;
                self.change_case(text, name)
            }
            "partition" | "rpartition" => {
                let [separator] = given.bind(name, [""], 1)?;
                let separator = text_arg(separator, name)?;
                let separator = separator.as_str();
                if separator.is_empty() {
                    return Err(raise("empty separator"));
                }
                let found = if name == "partition" { text.find(separator) } else { text.rfind(separator) };
                let parts = match found {
                    Some(at) => {
                        let end = at + separator.len();
                        [text.get(..at), text.get(at..end), text.get(end..)].map(Option::unwrap_or_default)
                    }
                    None if name == "partition" => [text, "", ""],
                    None => ["", "", text],
                };
                Ok(Value::tuple(parts.into_iter().map(|part| piece(this, part)).collect()))
            }
            "removeprefix" | "removesuffix" => {
                let [affix] = given.bind(name, [""], 1)?;
                let affix = text_arg(affix, name)?;
                Ok(Value::Str(this.part(|text| {
                    let rest = match name {
                        "removeprefix" => text.strip_prefix(affix.as_str()),
                        _ => text.strip_suffix(affix.as_str()),
                    };
                    rest.unwrap_or(text)
                })))
            }
            "center" | "ljust" | "rjust" | "zfill" => self.pad(this, name, given),
            "format" => self.format(text, &given),
            "expandtabs" | "encode" | "format_map" | "maketrans" | "translate" => {
                Err(refuse("a rare method of strings"))
            }
            _ => {
                given.bind(name, [], 0)?;
                is_kind(text, name).map(Value::Bool)
            }
        }
    }

    fn starts(&mut self, this: &Text<'a>, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let [affix, start, stop] = given.bind(name, ["", "", ""], 1)?;
        let bound = |value: Option<Value<'a>>| match value {
            None | Some(Value::None) => Ok(None),
            Some(value) => int(&value, name).map(Some),
        };
        let (start, stop) = (bound(start)?, bound(stop)?);
        // From beyond its end not even an empty affix is found.
        if start.is_some_and(|start| start > count_chars(this.as_str()) as i64) {
            return Ok(Value::Bool(false));
        }
        let part = ops::slice_text(this, start, stop, 1);
        let matches = |affix: &str| match name {
            "startswith" => part.as_str().starts_with(affix),
            _ => part.as_str().ends_with(affix),
        };
        match affix {
            Some(Value::Str(affix)) => Ok(Value::Bool(matches(affix.as_str()))),
            Some(Value::Tuple(affixes)) => {
                for affix in affixes.iter() {
                    let Some(affix) = affix.as_str() else {
                        return Err(raise(format!("tuple for {name} must only contain str")));
                    };
                    if matches(affix) {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            other => Err(raise(format!(
                "{name} first arg must be str or a tuple of str, not {}",
                other.map_or("NoneType", |other| other.type_name())
            ))),
        }
    }

    /// `str.replace`, paid for before anything is made.
    pub(super) fn replace(
        &mut self,
        this: &Text<'a>,
        old: &str,
        new: &str,
        count: i64,
    ) -> Outcome<Value<'a>> {
        let text = this.as_str();
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        let found = text.matches(old).take(limit).count();
        if found == 0 {
            return Ok(Value::Str(this.clone()));
        }
        self.spend_bytes(text.len().saturating_add(found.saturating_mul(new.len())))?;
        Ok(Value::text(text.replacen(old, new, limit)))
    }

    fn find(&mut self, text: &str, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let [part, start, stop] = given.bind(name, ["", "", ""], 1)?;
        if start.is_some() || stop.is_some() {
            return Err(refuse("searching in a part of a string"));
        }
        let part = text_arg(part, name)?;
        let part = part.as_str();
        if name == "count" {
            let count = if part.is_empty() { count_chars(text) + 1 } else { text.matches(part).count() };
            return Ok(Value::Int(count as i64));
        }
        let found = if name.starts_with('r') { text.rfind(part) } else { text.find(part) };
        match found {
            Some(at) => Ok(Value::Int(count_chars(text.get(..at).unwrap_or_default()) as i64)),
            None if name.ends_with("index") => Err(raise("substring not found")),
            None => Ok(Value::Int(-1)),
        }
    }

    fn change_case(&mut self, text: &str, name: &str) -> Outcome<Value<'a>> {
        Ok(Value::text(match name {
            "upper" => python::upper(text),
            "lower" => python::lower(text),
            "capitalize" => python::capitalize(text)?,
            "casefold" if text.is_ascii() => text.to_ascii_lowercase(),
            "swapcase" if text.is_ascii() => text
                .chars()
                .map(|c| if c.is_ascii_uppercase() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
                .collect(),
            "title" if text.is_ascii() => {
                let mut inside = false;
                text.chars()
                    .map(|c| {
                        let changed = if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
                        inside = c.is_ascii_alphabetic();
                        changed
                    })
                    .collect()
            }
            _ => return Err(refuse("this change of case beyond ASCII")),
        }))
    }

    fn pad(&mut self, this: &Text<'a>, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let [width, fill] = given.bind(name, ["", ""], 1)?;
        let width = int(&width.unwrap_or(Value::None), name)?;
        if width > WIDTH_MAX {
            return Err(refuse("a padding as wide as this"));
        }
        let fill = match fill {
            None => Text::Borrowed(" "),
            Some(_) if name == "zfill" => return Err(raise("zfill() takes exactly one argument")),
            Some(fill) => text_arg(Some(fill), name)?,
        };
        if count_chars(fill.as_str()) != 1 {
            return Err(raise("The fill character must be exactly one character long"));
        }
        let text = this.as_str();
        let missing = usize::try_from(width).unwrap_or_default().saturating_sub(count_chars(text));
        if missing == 0 {
            return Ok(Value::Str(this.clone()));
        }
        self.spend_bytes(text.len() + missing * fill.as_str().len())?;
        let fill = |count: usize| fill.as_str().repeat(count);
        Ok(Value::text(match name {
            "ljust" => text.to_owned() + &fill(missing),
            "rjust" => fill(missing) + text,
            "zfill" => {
                let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
                let sign = text.get(..text.len() - unsigned.len()).unwrap_or_default();
                format!("{sign}{}{unsigned}", "0".repeat(missing))
            }
            _ => {
                // The odd one goes left where the width is odd.
                let left = missing / 2 + (missing & usize::try_from(width).unwrap_or_default() & 1);
                fill(left) + text + &fill(missing - left)
            }
        }))
    }
}

/// A string of which only the start is known, without white space before it. Where nothing is known there may be some.
pub(super) fn strip_unknown<'a>(start: &str) -> Value<'a> {
    Value::Unknown(start.trim_start_matches(is_space).into())
}

/// A part of `this` that was found in it.
fn piece<'a>(this: &Text<'a>, part: &str) -> Value<'a> {
    match this {
        Text::Borrowed(text) => {
            let start = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
            match text.get(start..start.saturating_add(part.len())) {
                Some(found) if found == part => Value::Str(Text::Borrowed(found)),
                _ => Value::text(part),
            }
        }
        Text::Owned(_) => Value::text(part),
    }
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

fn optional_text<'a>(value: Option<Value<'a>>, name: &str) -> Outcome<Option<Text<'a>>> {
    match value {
        None | Some(Value::None) => Ok(None),
        other => text_arg(other, name).map(Some),
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

/// Splits at runs of white space.
fn split_space(text: &str, limit: i64, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_end { rest.trim_end_matches(is_space) } else { rest.trim_start_matches(is_space) };
        if rest.is_empty() {
            break;
        }
        let at_limit = usize::try_from(limit).is_ok_and(|limit| parts.len() == limit);
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        match cut {
            Some(at) if !at_limit => {
                if from_end {
                    let width = rest.get(at..).and_then(|tail| tail.chars().next()).map_or(1, char::len_utf8);
                    parts.push(rest.get(at + width..).unwrap_or_default());
                    rest = rest.get(..at).unwrap_or_default();
                } else {
                    parts.push(rest.get(..at).unwrap_or_default());
                    rest = rest.get(at..).unwrap_or_default();
                }
            }
            _ => {
                parts.push(rest);
                break;
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    parts
}

fn split_by<'t>(text: &'t str, separator: &str, limit: i64, from_end: bool) -> Vec<&'t str> {
    let Ok(limit) = usize::try_from(limit) else { return text.split(separator).collect() };
    if from_end {
        let mut parts: Vec<_> = text.rsplitn(limit.saturating_add(1), separator).collect();
        parts.reverse();
        parts
    } else {
        text.splitn(limit.saturating_add(1), separator).collect()
    }
}

/// `str.isspace` and its kin. Beyond ASCII most depend on Python's own Unicode tables.
fn is_kind(text: &str, name: &str) -> Outcome<bool> {
    let filled = !text.is_empty();
    match name {
        "isspace" => return Ok(filled && text.chars().all(is_space)),
        "isascii" => return Ok(text.is_ascii()),
        _ if !text.is_ascii() => return Err(refuse("the kind of letters beyond ASCII")),
        _ => {}
    }
    let bytes = text.as_bytes();
    let cased = bytes.iter().any(u8::is_ascii_alphabetic);
    Ok(match name {
        "isalnum" => filled && bytes.iter().all(u8::is_ascii_alphanumeric),
        "isalpha" => filled && bytes.iter().all(u8::is_ascii_alphabetic),
        "isdecimal" | "isdigit" | "isnumeric" => filled && bytes.iter().all(u8::is_ascii_digit),
        "isidentifier" => {
            filled
                && !bytes.first().is_some_and(u8::is_ascii_digit)
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        }
        "islower" => cased && !bytes.iter().any(u8::is_ascii_uppercase),
        "isupper" => cased && !bytes.iter().any(u8::is_ascii_lowercase),
        "isprintable" => bytes.iter().all(|byte| (b' '..=b'~').contains(byte)),
        "istitle" => {
            let mut inside = false;
            cased
                && bytes.iter().all(|byte| {
                    let fits = if inside { !byte.is_ascii_uppercase() } else { !byte.is_ascii_lowercase() };
                    inside = byte.is_ascii_alphabetic();
                    fits
                })
        }
        _ => return Err(refuse("a rare method of strings")),
    })
}

/// `str.islower` and `str.isupper`, for the tests of these names.
pub(super) fn has_case(text: &str, name: &str) -> Outcome<bool> {
    is_kind(text, name)
}
