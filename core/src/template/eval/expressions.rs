//! Expressions.

use std::rc::Rc;

use super::Interpreter;
use crate::template::ast::{CompareOp, Const, Expr};
use crate::template::fail::{Outcome, refuse};
use crate::template::value::{Dict, Text, Value};
use crate::template::{ops, repr};

/// Deepest nesting of lists and dicts, somewhat above what a body can hold.
const VALUE_DEPTH_MAX: u32 = 160;

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(in crate::template) fn eval(&mut self, expr: &'a Expr) -> Outcome<Value<'a>> {
        self.step()?;
        match expr {
            Expr::Const(constant) => Ok(match constant {
                Const::None => Value::None,
                Const::Bool(value) => Value::Bool(*value),
                Const::Int(value) => Value::Int(*value),
                Const::Big(digits) => Value::Big(digits.as_ref().into()),
                Const::Float(value) => Value::Float(*value),
                Const::Str(text) => Value::Str(Text::Borrowed(text)),
            }),
            Expr::Name { name, slot } => {
                let value = self.read(*slot).cloned();
                if let Some(Value::Loop(id)) = value
                    && let Some(state) = self.loops.get_mut(id)
                {
                    state.escaped = true;
                }
                Ok(value.unwrap_or_else(|| Value::undefined_name(name)))
            }
            _ => {
                let value = self.deeper(|this| this.eval_inner(expr))?;
                // Python lets them grow; walking over them takes a stack.
                if value.depth() > VALUE_DEPTH_MAX {
                    return Err(refuse("values nested too deeply"));
                }
                Ok(value)
            }
        }
    }

    pub(super) fn eval_all(&mut self, items: &'a [Expr]) -> Outcome<Vec<Value<'a>>> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn eval_inner(&mut self, expr: &'a Expr) -> Outcome<Value<'a>> {
        match expr {
            Expr::Const(_) | Expr::Name { .. } => self.eval(expr),
            Expr::Tuple(items) => Ok(Value::tuple(self.eval_all(items)?)),
            Expr::List(items) => Ok(Value::list(self.eval_all(items)?)),
            Expr::Dict(items) => self.dict(items),
            Expr::Cond(parts) => {
                if self.eval(&parts.0)?.is_true() {
                    return self.eval(&parts.1);
                }
                match &parts.2 {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::undefined(
                        "the inline if-expression evaluated to false and no else section was defined.",
                    )),
                }
            }
            Expr::Bin(op, sides) => {
                let left = self.eval(&sides.0)?;
                let right = self.eval(&sides.1)?;
                self.binary(*op, &left, &right)
            }
            Expr::And(sides) => {
                let left = self.eval(&sides.0)?;
                if left.is_true() { self.eval(&sides.1) } else { Ok(left) }
            }
            Expr::Or(sides) => {
                let left = self.eval(&sides.0)?;
                if left.is_true() { Ok(left) } else { self.eval(&sides.1) }
            }
            Expr::Not(inner) => Ok(Value::Bool(!self.eval(inner)?.is_true())),
            Expr::Neg(inner) => ops::negative(&self.eval(inner)?),
            Expr::Pos(inner) => ops::positive(&self.eval(inner)?),
            Expr::Concat(items) => self.concat(items),
            Expr::Compare(first, rest) => self.compare_all(first, rest),
            Expr::Filter(apply) => {
                let Some(node) = &apply.node else { return Err(refuse("a filter without a value")) };
                let value = self.eval(node)?;
                let args = self.args(&apply.args)?;
                self.filter(&apply.name, value, args)
            }
            Expr::Test(apply) => {
                let Some(node) = &apply.node else { return Err(refuse("a test without a value")) };
                let value = self.eval(node)?;
                let args = self.args(&apply.args)?;
                Ok(Value::Bool(self.test(&apply.name, &value, args)?))
            }
            Expr::Call(call) => self.call_expr(&call.callee, &call.args, None),
            Expr::Getattr(object, name) => {
                let object = self.eval_object(object)?;
                self.attribute(&object, name)
            }
            Expr::Getitem(parts) => {
                let object = self.eval(&parts.0)?;
                if let Expr::Slice(slice) = &parts.1 {
                    return self.slice(&object, slice);
                }
                let key = self.eval(&parts.1)?;
                self.item(&object, &key)
            }
            Expr::Slice(_) => Err(refuse("a slice by itself")),
        }
    }

    fn dict(&mut self, items: &'a [(Expr, Expr)]) -> Outcome<Value<'a>> {
        let mut dict = Dict::default();
        for (key, value) in items {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            dict.set(key, value)?;
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    /// `a < b < c`
    fn compare_all(&mut self, first: &'a Expr, rest: &'a [(CompareOp, Expr)]) -> Outcome<Value<'a>> {
        let mut left = self.eval(first)?;
        for (op, right) in rest {
            let right = self.eval(right)?;
            if !self.compare(*op, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// `a ~ b`. What comes after something unknown is evaluated, and not kept.
    fn concat(&mut self, items: &'a [Expr]) -> Outcome<Value<'a>> {
        let mut text = String::new();
        let mut known = true;
        for item in items {
            let value = self.eval(item)?;
            if !known {
                continue;
            }
            if let Value::Unknown(start) = &value {
                text.push_str(start);
                known = false;
                continue;
            }
            repr::write_str(&mut text, &value)?;
            self.spend_bytes(text.len())?;
        }
        Ok(if known { Value::text(text) } else { Value::Unknown(text.into()) })
    }

    /// A value whose attribute is asked for: reading `loop` for that does not let it escape.
    pub(super) fn eval_object(&mut self, expr: &'a Expr) -> Outcome<Value<'a>> {
        if let Expr::Name { slot, .. } = expr
            && let Some(Value::Loop(id)) = self.read(*slot)
        {
            return Ok(Value::Loop(*id));
        }
        self.eval(expr)
    }
}
