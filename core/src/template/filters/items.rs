//! Filters that look at each item of a sequence: `map`, `select` and their kin.

use super::failing;
use crate::template::args::Given;
use crate::template::eval::Interpreter;
use crate::template::fail::{FailKind, Outcome, raise};
use crate::template::python;
use crate::template::value::Value;

impl<'a> Interpreter<'a, '_> {
    /// `attribute` of an item, as jinja2's `make_attrgetter` finds it: a path of names and numbers.
    pub(super) fn part_of(&mut self, item: &Value<'a>, attribute: Option<&Value<'a>>) -> Outcome<Value<'a>> {
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
    pub(super) fn key_of(
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

    pub(super) fn map(&mut self, value: &Value<'a>, mut given: Given<'a>) -> Outcome<Value<'a>> {
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

    pub(super) fn select(
        &mut self,
        name: &str,
        value: &Value<'a>,
        mut given: Given<'a>,
    ) -> Outcome<Value<'a>> {
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
}

/// As [`failing`], where the failure is Python's own; others end the rendering at once.
fn later<'a>(items: Vec<Value<'a>>, fail: Box<crate::template::fail::Fail>) -> Outcome<Value<'a>> {
    if fail.kind == FailKind::Raised { Ok(failing(items, fail)) } else { Err(fail) }
}
