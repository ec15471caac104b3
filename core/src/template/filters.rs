//! jinja2's filters, and the `tojson` that transformers puts in their place.

use std::cell::Cell;
use std::rc::Rc;

use super::args::Given;
use super::ast::BinOp;
use super::eval::Interpreter;
use super::fail::{FailKind, Outcome, raise, refuse};
use super::python::{self, Ends, is_space, parse_float, parse_int, split_lines, strip};
use super::repr::Json;
use super::value::{Dict, Iter, Text, Value, count_chars, order};
use super::{methods, ops};

/// The widest indentation: more is not what a template means, and costs memory.
const WIDTH_MAX: i64 = 1_024;

impl<'a> Interpreter<'a, '_> {
    pub(super) fn filter(&mut self, name: &str, value: Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        self.spend(1)?;
        match name {
            "default" | "d" => {
                let [default, boolean] = given.bind(name, ["default_value", "boolean"], 0)?;
                let boolean = boolean.is_some_and(|boolean| boolean.is_true());
                let missing = matches!(value, Value::Undefined(_)) || (boolean && !value.is_true());
                Ok(if missing { default.unwrap_or(Value::Str(Text::Borrowed(""))) } else { value })
            }
            "tojson" => self.tojson(&value, given),
            "length" | "count" => {
                given.bind(name, [], 0)?;
                if let Value::Str(text) = &value {
                    self.spend_bytes(text.as_str().len())?;
                }
                let length = value
                    .len()
                    .ok_or_else(|| raise(format!("object of type '{}' has no len()", value.type_name())))?;
                Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
            }
            "list" => {
                given.bind(name, [], 0)?;
                Ok(Value::List(self.collect(&value)?))
            }
            "items" => {
                given.bind(name, [], 0)?;
                match &value {
                    Value::Undefined(_) => Ok(Value::iter(Vec::new())),
                    Value::Dict(dict) => {
                        let items = self.collect(&Value::View(dict.clone(), super::value::View::Items))?;
                        Ok(Value::iter(items.to_vec()))
                    }
                    _ => Ok(failing(Vec::new(), raise("Can only get item pairs from a mapping."))),
                }
            }
            "first" | "last" | "reverse" | "join" | "sum" | "min" | "max" | "sort" | "unique" | "batch"
            | "slice" | "dictsort" => self.sequence_filter(name, &value, given),
            "map" => self.map(&value, given),
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(name, &value, given),
            "attr" => {
                let [attribute] = given.bind(name, ["name"], 1)?;
                match (&value, attribute) {
                    (Value::Undefined(_), _) => Err(refuse("attr of an undefined value")),
                    (Value::Dict(_), Some(Value::Str(name)))
                        if methods::kind(&value, name.as_str()) == methods::Kind::None =>
                    {
                        Ok(Value::undefined("a mapping has no such attribute"))
                    }
                    (_, Some(name @ Value::Str(_))) => self.item(&value, &name),
                    _ => Err(refuse("attr with a name that is no string")),
                }
            }
            "abs" | "int" | "float" | "round" => self.number_filter(name, &value, given),
            _ => self.text_filter(name, &value, given),
        }
    }

    fn text_filter(&mut self, name: &str, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        match name {
            "trim" | "string" if matches!(value, Value::Unknown(_)) => {
                given.bind(name, [], 0)?;
                match value {
                    Value::Unknown(start) if name == "trim" => Ok(methods::strip_unknown(start)),
                    other => Ok(other.clone()),
                }
            }
            "trim" => {
                let [chars] = given.bind(name, ["chars"], 0)?;
                let text = self.soft_text(value)?;
                let chars = match &chars {
                    None | Some(Value::None) => None,
                    Some(Value::Str(chars)) => Some(chars.as_str()),
                    Some(_) => return Err(raise("strip arg must be None or str")),
                };
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::Str(strip(&text, chars, Ends { start: true, end: true })))
            }
            "string" => {
                given.bind(name, [], 0)?;
                Ok(Value::Str(self.soft_text(value)?))
            }
            "upper" | "lower" | "capitalize" => {
                given.bind(name, [], 0)?;
                let text = self.soft_text(value)?;
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::text(match name {
                    "upper" => python::upper(text.as_str()),
                    "lower" => python::lower(text.as_str()),
                    _ => python::capitalize(text.as_str())?,
                }))
            }
            "title" => {
                given.bind(name, [], 0)?;
                let text = self.soft_text(value)?;
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::text(title(text.as_str())))
            }
            "replace" => {
                let [old, new, count] = given.bind(name, ["old", "new", "count"], 2)?;
                let text = self.soft_text(value)?;
                let old = self.soft_text(&old.unwrap_or(Value::None))?;
                let new = self.soft_text(&new.unwrap_or(Value::None))?;
                let count = match count {
                    None | Some(Value::None) => -1,
                    Some(count) => whole(&count)?,
                };
                self.replace(&text, old.as_str(), new.as_str(), count)
            }
            "indent" => self.indent(value, given),
            "truncate" => self.truncate(value, given),
            "center" => {
                let [width] = given.bind(name, ["width"], 0)?;
                let text = self.soft_text(value)?;
                let given = Given { positional: vec![width.unwrap_or(Value::Int(80))], keywords: Vec::new() };
                self.call_method(&Value::Str(text), "center", given)
            }
            "wordcount" => {
                given.bind(name, [], 0)?;
                let text = self.soft_text(value)?;
                if !text.as_str().is_ascii() {
                    return Err(refuse("counting words beyond ASCII"));
                }
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let words = text.as_str().split(|c| !is_word(c)).filter(|word| !word.is_empty());
                Ok(Value::Int(words.count() as i64))
            }
            "format" => {
                let format = self.soft_text(value)?;
                if given.keywords.is_empty() {
                    return self.percent(format.as_str(), &given, None);
                }
                if !given.positional.is_empty() {
                    return Err(raise("can't handle positional and keyword arguments at the same time"));
                }
                let entries = given.keywords.into_iter().map(|(name, value)| (Value::Str(name), value));
                let mapping = Value::Dict(Rc::new(Dict::of(entries.collect())));
                let given = Given { positional: vec![mapping.clone()], keywords: Vec::new() };
                self.percent(format.as_str(), &given, Some(&mapping))
            }
            "escape" | "e" | "forceescape" | "safe" | "striptags" | "urlize" | "xmlattr" | "urlencode"
            | "filesizeformat" | "pprint" | "random" | "wordwrap" | "groupby" => {
                Err(refuse("this filter, but for the last one of an output"))
            }
            _ => Err(raise(format!("No filter named {}.", super::repr::quote(name)))),
        }
    }

    fn sequence_filter(&mut self, name: &str, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        match name {
            "first" => {
                given.bind(name, [], 0)?;
                if let Value::Iter(iter) = value {
                    return Ok(iter.next()?.unwrap_or_else(no_first));
                }
                Ok(self.collect(value)?.first().cloned().unwrap_or_else(no_first))
            }
            "last" => {
                given.bind(name, [], 0)?;
                if matches!(value, Value::Iter(_)) {
                    return Err(raise("'generator' object is not reversible"));
                }
                let last = self.collect(value)?.last().cloned();
                Ok(last.unwrap_or_else(|| Value::undefined("No last item, sequence was empty.")))
            }
            "reverse" => {
                given.bind(name, [], 0)?;
                if let Value::Str(text) = value {
                    self.spend_bytes(text.as_str().len())?;
                    return Ok(Value::Str(ops::slice_text(text, None, None, -1)));
                }
                let items: Vec<_> = self.collect(value)?.iter().rev().cloned().collect();
                Ok(if matches!(value, Value::Iter(_)) { Value::list(items) } else { Value::iter(items) })
            }
            "join" => {
                let [separator, attribute] = given.bind(name, ["d", "attribute"], 0)?;
                let separator = match &separator {
                    Some(separator) => self.soft_text(separator)?,
                    None => Text::Borrowed(""),
                };
                let items = self.collect(value)?;
                let mut text = String::new();
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        text.push_str(separator.as_str());
                    }
                    let item = self.part_of(item, attribute.as_ref())?;
                    super::repr::write_str(&mut text, &item)?;
                    self.spend_bytes(text.len())?;
                    self.spend(1)?;
                }
                Ok(Value::text(text))
            }
            "sum" => {
                let [attribute, start] = given.bind(name, ["attribute", "start"], 0)?;
                let mut sum = start.unwrap_or(Value::Int(0));
                if matches!(sum, Value::Str(_)) {
                    return Err(raise("sum() can't sum strings [use ''.join(seq) instead]"));
                }
                for item in self.collect(value)?.iter() {
                    let item = self.part_of(item, attribute.as_ref())?;
                    self.spend_bytes(ops::bytes_made(BinOp::Add, &sum, &item))?;
                    sum = ops::binary(BinOp::Add, &sum, &item)?;
                }
                Ok(sum)
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = given.bind(name, ["case_sensitive", "attribute"], 0)?;
                let items = self.collect(value)?;
                let mut best: Option<(Value<'a>, Value<'a>)> = None;
                for item in items.iter() {
                    let key = self.key_of(item, attribute.as_ref(), case_sensitive.as_ref())?;
                    let better = match &best {
                        None => true,
                        Some((known, _)) if name == "min" => {
                            order(&key, known, "<")?.is_some_and(|o| o.is_lt())
                        }
                        Some((known, _)) => order(&key, known, ">")?.is_some_and(|o| o.is_gt()),
                    };
                    if better {
                        best = Some((key, item.clone()));
                    }
                }
                Ok(best.map_or_else(
                    || Value::undefined("No aggregated item, sequence was empty."),
                    |(_, item)| item,
                ))
            }
            "sort" => {
                let [reverse, case_sensitive, attribute] =
                    given.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
                let several =
                    attribute.as_ref().and_then(Value::as_str).is_some_and(|name| name.contains(','));
                if several {
                    return Err(refuse("sorting by several attributes"));
                }
                let items = self.collect(value)?;
                let mut keyed = Vec::with_capacity(items.len());
                for item in items.iter() {
                    let key = self.key_of(item, attribute.as_ref(), case_sensitive.as_ref())?;
                    keyed.push((key, item.clone()));
                }
                let sorted = self.sorted(keyed, reverse.is_some_and(|reverse| reverse.is_true()))?;
                Ok(Value::list(sorted))
            }
            "dictsort" => {
                let [case_sensitive, by, reverse] =
                    given.bind(name, ["case_sensitive", "by", "reverse"], 0)?;
                let by_key = match by.as_ref().map(Value::as_str) {
                    None | Some(Some("key")) => true,
                    Some(Some("value")) => false,
                    _ => return Err(raise("You can only sort by either \"key\" or \"value\"")),
                };
                let Value::Dict(dict) = value else {
                    return Err(match value {
                        Value::Undefined(missing) => missing.fail(),
                        other => raise(format!("'{}' object has no attribute 'items'", other.type_name())),
                    });
                };
                let mut keyed = Vec::new();
                for (key, item) in dict.entries() {
                    let by = if by_key { key } else { item };
                    let by = self.key_of(by, None, case_sensitive.as_ref())?;
                    keyed.push((by, Value::tuple(vec![key.clone(), item.clone()])));
                }
                let sorted = self.sorted(keyed, reverse.is_some_and(|reverse| reverse.is_true()))?;
                Ok(Value::list(sorted))
            }
            "unique" => {
                let [case_sensitive, attribute] = given.bind(name, ["case_sensitive", "attribute"], 0)?;
                let mut seen = Dict::default();
                let mut kept = Vec::new();
                for item in self.collect(value)?.iter() {
                    let key = self.key_of(item, attribute.as_ref(), case_sensitive.as_ref())?;
                    self.spend((kept.len() / 8) as u64)?;
                    match seen.get(&key) {
                        Ok(Some(_)) => {}
                        Ok(None) => {
                            seen.set(key, Value::None)?;
                            kept.push(item.clone());
                        }
                        Err(fail) => return Ok(failing(kept, fail)),
                    }
                }
                Ok(Value::iter(kept))
            }
            _ => self.batches(name, value, given),
        }
    }

    fn batches(&mut self, name: &str, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let count_name = if name == "batch" { "linecount" } else { "slices" };
        let [count, fill] = given.bind(name, [count_name, "fill_with"], 1)?;
        let count = usize::try_from(whole(&count.unwrap_or(Value::None))?).unwrap_or_default();
        if count == 0 || count > 10_000 {
            return Err(refuse("batches of this size"));
        }
        let fill = fill.filter(|fill| !matches!(fill, Value::None));
        let items = self.collect(value)?;
        let mut batches: Vec<Vec<Value<'a>>> = Vec::new();
        if name == "batch" {
            batches.extend(items.chunks(count).map(<[_]>::to_vec));
            if let (Some(last), Some(fill)) = (batches.last_mut(), fill) {
                self.spend(count as u64)?;
                last.resize(count, fill);
            }
        } else {
            self.spend(count as u64)?;
            let (size, longer) = (items.len() / count, items.len() % count);
            let mut rest = items.as_slice();
            for at in 0..count {
                let (part, tail) = rest.split_at(rest.len().min(size + usize::from(at < longer)));
                rest = tail;
                let mut part = part.to_vec();
                if at >= longer {
                    part.extend(fill.clone());
                }
                batches.push(part);
            }
        }
        Ok(Value::iter(batches.into_iter().map(Value::list).collect()))
    }

    /// A stable sort that asks for `<` only, and stops at the first comparison that Python refuses.
    fn sorted(&mut self, items: Vec<(Value<'a>, Value<'a>)>, reverse: bool) -> Outcome<Vec<Value<'a>>> {
        fn merge<'a>(
            this: &mut Interpreter<'a, '_>,
            mut items: Vec<(Value<'a>, Value<'a>)>,
            reverse: bool,
        ) -> Outcome<Vec<(Value<'a>, Value<'a>)>> {
            if items.len() < 2 {
                return Ok(items);
            }
            let right = merge(this, items.split_off(items.len() / 2), reverse)?;
            let left = merge(this, items, reverse)?;
            let mut merged = Vec::with_capacity(left.len() + right.len());
            let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                this.spend(1)?;
                let order = order(&b.0, &a.0, "<")?;
                let right_first =
                    order.is_some_and(|order| if reverse { order.is_gt() } else { order.is_lt() });
                merged.extend(if right_first { right.next() } else { left.next() });
            }
            merged.extend(left);
            merged.extend(right);
            Ok(merged)
        }
        Ok(merge(self, items, reverse)?.into_iter().map(|(_, item)| item).collect())
    }

    /// `attribute` of an item, as jinja2's `make_attrgetter` finds it: a path of names and numbers.
    fn part_of(&mut self, item: &Value<'a>, attribute: Option<&Value<'a>>) -> Outcome<Value<'a>> {
        match attribute {
            None | Some(Value::None) => Ok(item.clone()),
            Some(Value::Str(path)) => {
                let mut item = item.clone();
                for part in path.as_str().split('.') {
                    let number = part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
                    let key = number.map_or_else(|| Value::text(part), Value::Int);
                    item = self.item(&item, &key)?;
                }
                Ok(item)
            }
            Some(key) => self.item(item, key),
        }
    }

    /// What an item is compared by: strings without regard to case, unless they are asked for.
    fn key_of(
        &mut self,
        item: &Value<'a>,
        attribute: Option<&Value<'a>>,
        case_sensitive: Option<&Value<'a>>,
    ) -> Outcome<Value<'a>> {
        let part = self.part_of(item, attribute)?;
        if case_sensitive.is_some_and(Value::is_true) {
            return Ok(part);
        }
        match &part {
            Value::Str(text) => {
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::text(python::lower(text.as_str())))
            }
            _ => Ok(part),
        }
    }

    fn map(&mut self, value: &Value<'a>, mut given: Given<'a>) -> Outcome<Value<'a>> {
        if !value.is_true() {
            return Ok(Value::iter(Vec::new()));
        }
        let by_attribute = given.positional.is_empty()
            && given.keywords.iter().any(|(name, _)| name.as_str() == "attribute");
        let attribute = if by_attribute { given.take("attribute") } else { None };
        let default = if by_attribute { given.take("default") } else { None };
        if by_attribute && !given.keywords.is_empty() {
            return Ok(failing(Vec::new(), raise("Unexpected keyword argument")));
        }
        if !by_attribute && given.positional.is_empty() {
            return Ok(failing(Vec::new(), raise("map requires a filter argument")));
        }
        let name = if by_attribute { None } else { Some(given.positional.remove(0)) };
        let items = match self.collect(value) {
            Ok(items) => items,
            Err(fail) => return later(Vec::new(), fail),
        };
        let mut mapped = Vec::with_capacity(items.len());
        for item in items.iter() {
            let outcome = match &name {
                None => self.attribute_or(item, attribute.as_ref(), default.as_ref()),
                Some(Value::Str(name)) => {
                    let given =
                        Given { positional: given.positional.clone(), keywords: given.keywords.clone() };
                    self.filter(name.as_str(), item.clone(), given)
                }
                Some(_) => Err(raise("No filter of this name.")),
            };
            match outcome {
                Ok(value) => mapped.push(value),
                Err(fail) => return later(mapped, fail),
            }
        }
        Ok(Value::iter(mapped))
    }

    fn attribute_or(
        &mut self,
        item: &Value<'a>,
        attribute: Option<&Value<'a>>,
        default: Option<&Value<'a>>,
    ) -> Outcome<Value<'a>> {
        let Some(default) = default.filter(|default| !matches!(default, Value::None)) else {
            return self.part_of(item, attribute);
        };
        // At each part of the path a missing one becomes the default.
        let Some(Value::Str(path)) = attribute else {
            let value = self.part_of(item, attribute)?;
            return Ok(if matches!(value, Value::Undefined(_)) { default.clone() } else { value });
        };
        let mut item = item.clone();
        for part in path.as_str().split('.') {
            item = self.part_of(&item, Some(&Value::text(part)))?;
            if matches!(item, Value::Undefined(_)) {
                item = default.clone();
            }
        }
        Ok(item)
    }

    fn select(&mut self, name: &str, value: &Value<'a>, mut given: Given<'a>) -> Outcome<Value<'a>> {
        if !value.is_true() {
            return Ok(Value::iter(Vec::new()));
        }
        let (keeps, by_attribute) = (name.starts_with("select"), name.ends_with("attr"));
        if by_attribute && given.positional.is_empty() {
            return Ok(failing(Vec::new(), raise("Missing parameter for attribute name")));
        }
        let attribute = by_attribute.then(|| given.positional.remove(0));
        let test = if given.positional.is_empty() { None } else { Some(given.positional.remove(0)) };
        let items = match self.collect(value) {
            Ok(items) => items,
            Err(fail) => return later(Vec::new(), fail),
        };
        let mut kept = Vec::new();
        for item in items.iter() {
            self.spend(1)?;
            let outcome = self.part_of(item, attribute.as_ref()).and_then(|part| match &test {
                None => Ok(part.is_true()),
                Some(Value::Str(name)) => {
                    let given =
                        Given { positional: given.positional.clone(), keywords: given.keywords.clone() };
                    self.test(name.as_str(), &part, given)
                }
                Some(_) => Err(raise("No test of this name.")),
            });
            match outcome {
                Ok(passes) if passes == keeps => kept.push(item.clone()),
                Ok(_) => {}
                Err(fail) => return later(kept, fail),
            }
        }
        Ok(Value::iter(kept))
    }

    fn number_filter(&mut self, name: &str, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        if let Value::Undefined(missing) = value
            && name != "float"
        {
            return Err(missing.fail());
        }
        match name {
            "abs" => {
                given.bind(name, [], 0)?;
                match value {
                    Value::Float(value) => Ok(Value::Float(value.abs())),
                    Value::Big(digits) => Ok(Value::Big(digits.trim_start_matches('-').into())),
                    other => match other.as_int() {
                        Some(value) if value < 0 => ops::negative(&Value::Int(value)),
                        Some(value) => Ok(Value::Int(value)),
                        None => Err(raise(format!("bad operand type for abs(): '{}'", other.type_name()))),
                    },
                }
            }
            "int" => {
                let [default, base] = given.bind(name, ["default", "base"], 0)?;
                if base.is_some() {
                    return Err(refuse("numbers of another base"));
                }
                self.integer(value).map(|value| value.unwrap_or_else(|| default.unwrap_or(Value::Int(0))))
            }
            "float" => {
                let [default] = given.bind(name, ["default"], 0)?;
                let float = match value {
                    Value::Undefined(missing) => return Err(missing.fail()),
                    Value::Float(value) => Some(*value),
                    Value::Big(digits) => digits.parse().ok(),
                    Value::Str(text) if text.as_str().is_ascii() => parse_float(text.as_str()),
                    Value::Str(_) => return Err(refuse("a number beyond ASCII")),
                    other => other.as_int().map(|value| value as f64),
                };
                Ok(float.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
            }
            _ => {
                let [precision, method] = given.bind(name, ["precision", "method"], 0)?;
                let precision = precision.map_or(Ok(0), |precision| whole(&precision))?;
                let Ok(precision) = usize::try_from(precision) else {
                    return Err(refuse("rounding to tens"));
                };
                if precision > 15 {
                    return Err(refuse("rounding to as many places"));
                }
                let method = method.as_ref().map_or(Some("common"), Value::as_str);
                let float = match (value, method) {
                    (Value::Int(_) | Value::Big(_), Some("common")) => return Ok(value.clone()),
                    (Value::Bool(value), Some("common")) => return Ok(Value::Int(i64::from(*value))),
                    (Value::Float(value), _) => *value,
                    (other, _) => match other.as_int() {
                        Some(value) => value as f64,
                        None => {
                            let found = other.type_name();
                            return Err(raise(format!("type {found} doesn't define __round__ method")));
                        }
                    },
                };
                if !float.is_finite() {
                    return Err(refuse("rounding what is not finite"));
                }
                let scale = 10_f64.powi(precision as i32);
                match method {
                    Some("common") => {
                        let text = format!("{float:.precision$}");
                        Ok(Value::Float(text.parse().unwrap_or(float)))
                    }
                    Some("ceil") => Ok(Value::Float((float * scale).ceil() / scale)),
                    Some("floor") => Ok(Value::Float((float * scale).floor() / scale)),
                    _ => Err(raise("method must be common, ceil or floor")),
                }
            }
        }
    }

    /// `int(value)`; none where the filter answers its default.
    fn integer(&mut self, value: &Value<'a>) -> Outcome<Option<Value<'a>>> {
        let whole = |float: f64| {
            if !float.is_finite() {
                return Ok(None);
            }
            if float.abs() >= 9.2e18 {
                return Err(refuse("a number beyond 64 bits"));
            }
            Ok(Some(Value::Int(float.trunc() as i64)))
        };
        match value {
            Value::Int(_) | Value::Big(_) => Ok(Some(value.clone())),
            Value::Bool(value) => Ok(Some(Value::Int(i64::from(*value)))),
            Value::Float(value) if value.is_infinite() => Err(refuse("int of an infinite number")),
            Value::Float(value) => whole(*value),
            Value::Str(text) if !text.as_str().is_ascii() => Err(refuse("a number beyond ASCII")),
            Value::Str(text) => match parse_int(text.as_str()) {
                Some(Ok(value)) => Ok(Some(Value::Int(value))),
                Some(Err(digits)) => Ok(Some(Value::Big(digits.into()))),
                None => parse_float(text.as_str()).map_or(Ok(None), whole),
            },
            _ => Ok(None),
        }
    }

    fn indent(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [width, first, blank] = given.bind("indent", ["width", "first", "blank"], 0)?;
        let indention = match width {
            None => "    ".to_owned(),
            Some(Value::Str(text)) => text.as_str().to_owned(),
            Some(width) => {
                let width = whole(&width)?;
                if width > WIDTH_MAX {
                    return Err(refuse("an indentation as wide as this"));
                }
                " ".repeat(usize::try_from(width).unwrap_or_default())
            }
        };
        let Value::Str(text) = value else {
            return Err(match value {
                Value::Undefined(missing) => missing.fail(),
                other => {
                    raise(format!("unsupported operand type(s) for +=: '{}' and 'str'", other.type_name()))
                }
            });
        };
        let text = text.as_str().to_owned() + "\n";
        let lines = split_lines(&text, false);
        self.spend_bytes(text.len() + lines.len() * indention.len())?;
        let blank = blank.is_some_and(|blank| blank.is_true());
        let mut out = String::with_capacity(text.len() + lines.len() * indention.len());
        if first.is_some_and(|first| first.is_true()) {
            out.push_str(&indention);
        }
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                out.push('\n');
                if blank || !line.is_empty() {
                    out.push_str(&indention);
                }
            }
            out.push_str(line);
        }
        Ok(Value::text(out))
    }

    fn truncate(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [length, killwords, end, leeway] =
            given.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
        let length = length.map_or(Ok(255), |length| whole(&length))?;
        let leeway = match leeway {
            None | Some(Value::None) => 5,
            Some(leeway) => whole(&leeway)?,
        };
        let end = match end {
            None => Text::Borrowed("..."),
            Some(Value::Str(end)) => end,
            Some(_) => return Err(refuse("truncate with an end that is no string")),
        };
        let Value::Str(text) = value else { return Err(refuse("truncate of what is no string")) };
        let end_length = count_chars(end.as_str()) as i64;
        if length < end_length || leeway < 0 {
            return Err(raise(format!("expected length >= {end_length}, got {length}")));
        }
        self.spend_bytes(text.as_str().len())?;
        if count_chars(text.as_str()) as i64 <= length.saturating_add(leeway) {
            return Ok(value.clone());
        }
        let cut = ops::slice_text(text, None, Some(length - end_length), 1);
        let kept = if killwords.is_some_and(|kill| kill.is_true()) {
            cut.as_str()
        } else {
            cut.as_str().rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before)
        };
        Ok(Value::text([kept, end.as_str()].concat()))
    }

    /// `json.dumps(value, ensure_ascii=False, ..)`, as transformers defines the filter.
    fn tojson(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let [ensure_ascii, indent, separators, sort_keys] = given.bind("tojson", names, 0)?;
        let indent = match indent {
            None | Some(Value::None) => None,
            Some(Value::Str(text)) => Some(text.as_str().to_owned()),
            Some(width) => {
                let width = whole(&width)?;
                if width > WIDTH_MAX {
                    return Err(refuse("an indentation as wide as this"));
                }
                Some(" ".repeat(usize::try_from(width).unwrap_or_default()))
            }
        };
        let (item_separator, key_separator) = match separators {
            None | Some(Value::None) => {
                ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned())
            }
            Some(Value::Tuple(items) | Value::List(items)) => match items.as_slice() {
                [Value::Str(item), Value::Str(key)] => (item.as_str().to_owned(), key.as_str().to_owned()),
                _ => return Err(raise("separators must be two strings")),
            },
            Some(_) => return Err(raise("separators must be two strings")),
        };
        let json = Json {
            ensure_ascii: ensure_ascii.is_some_and(|ascii| ascii.is_true()),
            indent,
            item_separator,
            key_separator,
            sort_keys: sort_keys.is_some_and(|sort| sort.is_true()),
        };
        let mut text = String::new();
        json.write(&mut text, value, 0)?;
        self.spend_bytes(text.len())?;
        Ok(Value::text(text))
    }
}

/// A generator that goes wrong when its items have been taken.
fn failing<'a>(items: Vec<Value<'a>>, fail: Box<super::fail::Fail>) -> Value<'a> {
    Value::Iter(Rc::new(Iter { items, at: Cell::new(0), fails: Some(fail) }))
}

/// As [`failing`], where the failure is Python's own; others end the rendering at once.
fn later<'a>(items: Vec<Value<'a>>, fail: Box<super::fail::Fail>) -> Outcome<Value<'a>> {
    if fail.kind == FailKind::Raised { Ok(failing(items, fail)) } else { Err(fail) }
}

fn no_first<'a>() -> Value<'a> {
    Value::undefined("No first item, sequence was empty.")
}

fn whole(value: &Value<'_>) -> Outcome<i64> {
    match value {
        Value::Undefined(missing) => Err(missing.fail()),
        other => other.as_int().ok_or_else(|| {
            raise(format!("'{}' object cannot be interpreted as an integer", other.type_name()))
        }),
    }
}

/// jinja2's own `title`: letters after white space, `-`, `(`, `{`, `[` and `<` are upper case.
fn title(text: &str) -> String {
    let breaks = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if breaks(first) {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let end = rest.find(breaks).unwrap_or(rest.len());
        out.extend(first.to_uppercase());
        out.push_str(&python::lower(rest.get(first.len_utf8()..end).unwrap_or_default()));
        rest = rest.get(end..).unwrap_or_default();
    }
    out
}
