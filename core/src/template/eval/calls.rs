//! Calls of macros, methods and other objects.

use std::rc::Rc;

use super::Interpreter;
use crate::template::args::Given;
use crate::template::ast::{Args, Expr};
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::value::{Dict, Macro, Text, Undefined, Value};
use crate::template::{methods, repr};

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(in crate::template) fn args(&mut self, args: &'a Args) -> Outcome<Given<'a>> {
        let mut given = Given { positional: self.eval_all(&args.positional)?, keywords: Vec::new() };
        if let Some(star) = &args.star {
            let value = self.eval(star)?;
            given.positional.extend(self.collect(&value)?.iter().cloned());
        }
        for (name, value) in &args.keywords {
            let value = self.eval(value)?;
            given.keywords.push((Text::Borrowed(name), value));
        }
        if let Some(star_star) = &args.star_star {
            let Value::Dict(dict) = self.eval(star_star)? else {
                return Err(raise("argument after ** must be a mapping"));
            };
            for (key, value) in dict.entries() {
                let Value::Str(name) = key else { return Err(raise("keywords must be strings")) };
                if given.keywords.iter().any(|(known, _)| known.as_str() == name.as_str()) {
                    return Err(raise("got multiple values for keyword argument"));
                }
                given.keywords.push((name.clone(), value.clone()));
            }
        }
        Ok(given)
    }

    pub(super) fn call_expr(
        &mut self,
        callee: &'a Expr,
        args: &'a Args,
        caller: Option<Value<'a>>,
    ) -> Outcome<Value<'a>> {
        // A method of a string, a list or a dict, without making an object of it.
        if let Expr::Getattr(object, name) = callee {
            let object = self.eval_object(object)?;
            if methods::kind(&object, name) == methods::Kind::Method {
                let given = self.args(args)?.with_caller(caller);
                return self.call_method(&object, name, given);
            }
            let function = self.attribute(&object, name)?;
            let given = self.args(args)?.with_caller(caller);
            return self.call(&function, given);
        }
        let function = self.eval_object(callee)?;
        let given = self.args(args)?.with_caller(caller);
        self.call(&function, given)
    }

    pub(in crate::template) fn call(&mut self, function: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        match function {
            Value::Macro(function) => self.call_macro(function, given),
            Value::Method(method) => match &method.0 {
                Value::Loop(id) => self.call_loop(*id, &method.1, given),
                Value::Cycler(at) => self.call_cycler(*at, &method.1),
                object => self.call_method(object, &method.1, given),
            },
            Value::Global(global) => self.call_global(*global, given),
            Value::Loop(id) => self.call_loop(*id, "", given),
            Value::Joiner(at) => {
                let Some((separator, used)) = self.joiners.get_mut(*at) else {
                    return Err(refuse("a joiner that is lost"));
                };
                let first = !std::mem::replace(used, true);
                Ok(if first { Value::Str(Text::Borrowed("")) } else { separator.clone() })
            }
            Value::Undefined(missing) => Err(missing.fail()),
            other => Err(raise(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    fn call_cycler(&mut self, at: usize, name: &str) -> Outcome<Value<'a>> {
        let Some((items, at)) = self.cyclers.get_mut(at) else { return Err(refuse("a cycler that is lost")) };
        if name == "reset" {
            *at = 0;
            return Ok(Value::None);
        }
        let item = items.get(*at).cloned().unwrap_or(Value::None);
        *at = (*at + 1) % items.len().max(1);
        Ok(item)
    }

    pub(super) fn call_macro(&mut self, called: &Rc<Macro<'a>>, mut given: Given<'a>) -> Outcome<Value<'a>> {
        let function = called.function;
        self.spend(8)?;
        let activation = self.activate(called.outer, function.slots);
        let caller = std::mem::replace(&mut self.current, activation);
        let count = function.parameters.len();
        let rest = given.positional.split_off(given.positional.len().min(count));
        let mut positional = std::mem::take(&mut given.positional).into_iter();
        let mut values = Vec::with_capacity(count);
        let mut found_caller = false;
        for (name, _) in &function.parameters {
            found_caller |= name.as_ref() == "caller";
            values.push(positional.next().or_else(|| given.take(name)));
        }
        if let Some(slot) = function.caller.filter(|_| !found_caller) {
            let value = given.take("caller").unwrap_or_else(|| Value::undefined("No caller defined"));
            self.store(slot, Some(value));
        }
        if let Some(slot) = function.kwargs {
            let entries = std::mem::take(&mut given.keywords);
            let entries = entries.into_iter().map(|(name, value)| (Value::Str(name), value)).collect();
            self.store(slot, Some(Value::Dict(Rc::new(Dict::of(entries)))));
        } else if let Some((name, _)) = given.keywords.first() {
            let (function, name) = (repr::quote(&function.name), repr::quote(name.as_str()));
            return Err(raise(match name.as_str() {
                "'caller'" => format!(
                    "macro {function} was invoked with two values for the special caller argument. This is most likely a bug."
                ),
                _ => format!("macro {function} takes no keyword argument {name}"),
            }));
        }
        if let Some(slot) = function.varargs {
            self.store(slot, Some(Value::tuple(rest)));
        } else if !rest.is_empty() {
            let name = repr::quote(&function.name);
            return Err(raise(format!("macro {name} takes not more than {count} argument(s)")));
        }
        for ((_, slot), value) in function.parameters.iter().zip(&values) {
            self.store(*slot, value.clone());
        }
        let line = self.line;
        let (text, _) = self.capture(|this| {
            this.enter(&function.scope)?;
            let first_default = count - function.defaults.len().min(count);
            for (at, ((name, slot), value)) in function.parameters.iter().zip(&values).enumerate() {
                if value.is_none() {
                    let default = at.checked_sub(first_default).and_then(|at| function.defaults.get(at));
                    let value = match default {
                        Some(expr) => this.eval(expr)?,
                        None => Value::Undefined(Rc::new(Undefined::Parameter(name.clone()))),
                    };
                    this.store(*slot, Some(value));
                }
            }
            this.exec(&function.body)
        })?;
        self.line = line;
        self.leave(activation, caller);
        Ok(text)
    }
}
