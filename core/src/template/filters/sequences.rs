//! Filters that order, join or divide a sequence.

use super::{failing, whole};
use crate::template::args::Given;
use crate::template::ast::BinOp;
use crate::template::eval::Interpreter;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::ops;
use crate::template::value::{Dict, Text, Value, equal, order};

impl<'a> Interpreter<'a, '_> {
    pub(super) fn sequence_filter(
        &mut self,
        name: &str,
        value: &Value<'a>,
        given: Given<'a>,
    ) -> Outcome<Value<'a>> {
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
                if matches!(value, Value::Str(Text::Markup(_))) {
                    return Err(refuse("the last character of a text marked as HTML"));
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
            "join" => self.join(value, given),
            "sum" => self.sum(value, given),
            "min" | "max" => self.extreme(name, value, given),
            "sort" => self.sort(value, given),
            "dictsort" => self.dictsort(value, given),
            "unique" => self.unique(value, given),
            "groupby" => self.groupby(value, given),
            _ => self.batches(name, value, given),
        }
    }

    fn unique(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [case_sensitive, attribute] = given.bind("unique", ["case_sensitive", "attribute"], 0)?;
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

    fn dictsort(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [case_sensitive, by, reverse] = given.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
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

    fn sort(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [reverse, case_sensitive, attribute] =
            given.bind("sort", ["reverse", "case_sensitive", "attribute"], 0)?;
        let several = attribute.as_ref().and_then(Value::as_str).is_some_and(|name| name.contains(','));
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

    /// Pairs of a value of `attribute` and the items that have it, in the order of those values.
    fn groupby(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let names = ["attribute", "default", "case_sensitive"];
        let [attribute, default, case_sensitive] = given.bind("groupby", names, 1)?;
        if default.is_some_and(|default| !matches!(default, Value::None)) {
            return Err(refuse("grouping with a default"));
        }
        let (attribute, case_sensitive) = (attribute.as_ref(), case_sensitive.as_ref());
        let mut keyed = Vec::new();
        for item in self.collect(value)?.iter() {
            keyed.push((self.key_of(item, attribute, case_sensitive)?, item.clone()));
        }
        let mut groups: Vec<(Value<'a>, Vec<Value<'a>>)> = Vec::new();
        for item in self.sorted(keyed, false)? {
            let key = self.key_of(&item, attribute, case_sensitive)?;
            match groups.last_mut() {
                Some((known, items)) if equal(known, &key)? => items.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        let mut pairs = Vec::with_capacity(groups.len());
        for (_, items) in groups {
            // As the first of them has it, where the case of letters did not count.
            let first = items.first().map_or(Ok(Value::None), |item| self.part_of(item, attribute))?;
            pairs.push(Value::tuple(vec![first, Value::list(items)]));
        }
        Ok(Value::list(pairs))
    }

    /// `min` and `max`.
    fn extreme(&mut self, name: &str, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [case_sensitive, attribute] = given.bind(name, ["case_sensitive", "attribute"], 0)?;
        let items = self.collect(value)?;
        let mut best: Option<(Value<'a>, Value<'a>)> = None;
        for item in items.iter() {
            let key = self.key_of(item, attribute.as_ref(), case_sensitive.as_ref())?;
            let better = match &best {
                None => true,
                Some((known, _)) if name == "min" => order(&key, known, "<")?.is_some_and(|o| o.is_lt()),
                Some((known, _)) => order(&key, known, ">")?.is_some_and(|o| o.is_gt()),
            };
            if better {
                best = Some((key, item.clone()));
            }
        }
        Ok(best.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |(_, item)| item))
    }

    fn sum(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [attribute, start] = given.bind("sum", ["attribute", "start"], 0)?;
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

    fn join(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [separator, attribute] = given.bind("join", ["d", "attribute"], 0)?;
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
            crate::template::repr::write_str(&mut text, &item)?;
            self.spend_bytes(text.len())?;
            self.spend(1)?;
        }
        Ok(Value::text(text))
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
}

fn no_first<'a>() -> Value<'a> {
    Value::undefined("No first item, sequence was empty.")
}
