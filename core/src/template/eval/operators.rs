//! Operators on values, paid for before anything is made.

use super::{BYTES_PER_STEP, Interpreter};
use crate::template::args::Given;
use crate::template::ast::{BinOp, CompareOp};
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::ops;
use crate::template::value::{Value, View, equal, order};

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn binary(&mut self, op: BinOp, left: &Value<'a>, right: &Value<'a>) -> Outcome<Value<'a>> {
        let bytes = ops::bytes_made(op, left, right);
        self.spend_bytes(bytes)?;
        if op == BinOp::Mod
            && let Value::Str(format) = left
        {
            if format.is_markup() {
                return Err(refuse("a format marked as HTML"));
            }
            let args = match right {
                Value::Tuple(items) => Given { positional: items.to_vec(), keywords: Vec::new() },
                other => Given { positional: vec![other.clone()], keywords: Vec::new() },
            };
            return self.percent(format.as_str(), &args, matches!(right, Value::Dict(_)).then_some(right));
        }
        ops::binary(op, left, right)
    }

    pub(in crate::template) fn compare(
        &mut self,
        op: CompareOp,
        a: &Value<'a>,
        b: &Value<'a>,
    ) -> Outcome<bool> {
        self.spend(a.cost().min(b.cost()))?;
        Ok(match op {
            CompareOp::Eq => equal(a, b)?,
            CompareOp::Ne => !equal(a, b)?,
            CompareOp::Lt => order(a, b, "<")?.is_some_and(|order| order.is_lt()),
            CompareOp::Le => order(a, b, "<=")?.is_some_and(|order| order.is_le()),
            CompareOp::Gt => order(a, b, ">")?.is_some_and(|order| order.is_gt()),
            CompareOp::Ge => order(a, b, ">=")?.is_some_and(|order| order.is_ge()),
            CompareOp::In => self.contains(b, a)?,
            CompareOp::NotIn => !self.contains(b, a)?,
        })
    }

    /// `item in container`
    fn contains(&mut self, container: &Value<'a>, item: &Value<'a>) -> Outcome<bool> {
        match container {
            Value::Str(text) => match item {
                Value::Str(part) => {
                    self.spend_bytes(text.as_str().len())?;
                    Ok(text.as_str().contains(part.as_str()))
                }
                other => Err(raise(format!(
                    "'in <string>' requires string as left operand, not {}",
                    other.type_name()
                ))),
            },
            Value::Dict(dict) | Value::View(dict, View::Keys) => Ok(dict.get(item)?.is_some()),
            Value::Iter(iter) => {
                while let Some(next) = iter.next()? {
                    if equal(&next, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Big(_) | Value::Float(_) => {
                Err(raise(format!("argument of type '{}' is not iterable", container.type_name())))
            }
            _ => {
                let items = self.collect(container)?;
                self.spend(items.len() as u64)?;
                for next in items.iter() {
                    if equal(next, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Value<'_> {
    /// Steps that comparing it takes, roughly.
    fn cost(&self) -> u64 {
        match self {
            Value::Str(text) => (text.as_str().len() / BYTES_PER_STEP) as u64,
            Value::List(items) | Value::Tuple(items) => items.len() as u64,
            Value::Dict(dict) => dict.entries().len() as u64,
            _ => 0,
        }
    }
}
