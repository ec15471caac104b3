//! Methods of `str`.

use super::letters::is_kind;
use super::split::{split_by, split_space};
use super::{int, text_arg};
use crate::template::args::Given;
use crate::template::eval::Interpreter;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::ops;
use crate::template::python::{Ends, split_lines, strip};
use crate::template::value::{Text, Value, count_chars};

/// The widest padding: more is not what a template means, and costs memory.
const WIDTH_MAX: i64 = 65_536;

/// Methods that make another text than a part of theirs, which `Markup` marks and escapes in its own ways.
const MAKES_TEXT: [&str; 14] = [
    "replace",
    "join",
    "upper",
    "lower",
    "swapcase",
    "title",
    "capitalize",
    "casefold",
    "center",
    "ljust",
    "rjust",
    "zfill",
    "format",
    "expandtabs",
];

impl<'a> Interpreter<'a, '_> {
    pub(super) fn str_method(&mut self, this: &Text<'a>, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let text = this.as_str();
        self.spend_bytes(text.len())?;
        if this.is_markup() && MAKES_TEXT.contains(&name) {
            return Err(refuse("this method of a text marked as HTML"));
        }
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
            "join" => self.join_strings(text, given),
            "find" | "rfind" | "index" | "rindex" | "count" => self.find(text, name, given),
            "upper" | "lower" | "swapcase" | "title" | "capitalize" | "casefold" => {
                given.bind(name, [], 0)?;
                self.change_case(text, name)
            }
            "partition" | "rpartition" => self.partition(this, name, given),
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

    /// `str.join`
    fn join_strings(&mut self, text: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let [items] = given.bind("join", [""], 1)?;
        let items = self.collect(&items.unwrap_or(Value::None))?;
        let mut parts = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let Some(part) = item.as_str() else {
                let found = item.type_name();
                return Err(raise(format!("sequence item {at}: expected str instance, {found} found")));
            };
            parts.push(part);
        }
        let bytes: usize = parts.iter().map(|part| part.len() + text.len()).sum();
        self.spend_bytes(bytes)?;
        Ok(Value::text(parts.join(text)))
    }

    fn partition(&mut self, this: &Text<'a>, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let text = this.as_str();
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
    pub(in crate::template) fn replace(
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

    pub(super) fn find(&mut self, text: &str, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
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
        Text::Owned(_) | Text::Markup(_) => Value::Str(this.like(part)),
    }
}

fn optional_text<'a>(value: Option<Value<'a>>, name: &str) -> Outcome<Option<Text<'a>>> {
    match value {
        None | Some(Value::None) => Ok(None),
        other => text_arg(other, name).map(Some),
    }
}
