//! Variables: the activations of functions, scopes that are entered, targets that are bound.

use std::rc::Rc;

use super::Interpreter;
use crate::template::ast::{Function, Load, Scope, Slot, Target};
use crate::template::fail::{FailKind, Outcome, raise};
use crate::template::value::{Global, Macro, Text, Value};

/// The variables of a function that is running, or that a macro still knows.
pub(super) struct Activation<'a> {
    slots: Vec<Option<Value<'a>>>,
    pub(super) outer: usize,
    /// A macro or a loop keeps it.
    kept: bool,
}

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn activate(&mut self, outer: usize, slots: u16) -> usize {
        self.activations.push(Activation { slots: vec![None; slots.into()], outer, kept: false });
        self.activations.len() - 1
    }

    pub(super) fn read(&self, slot: Slot) -> Option<&Value<'a>> {
        let mut at = self.current;
        for _ in 0..slot.hops {
            at = self.activations.get(at)?.outer;
        }
        self.activations.get(at)?.slots.get(usize::from(slot.index))?.as_ref()
    }

    pub(super) fn store(&mut self, slot: Slot, value: Option<Value<'a>>) {
        let mut at = self.current;
        for _ in 0..slot.hops {
            at = self.activations.get(at).map_or(0, |activation| activation.outer);
        }
        let place = self.activations.get_mut(at).and_then(|act| act.slots.get_mut(usize::from(slot.index)));
        if let Some(place) = place {
            *place = value;
        }
    }

    pub(super) fn enter(&mut self, scope: &'a Scope) -> Outcome<()> {
        for (index, load) in &scope.0 {
            let value = match load {
                Load::Alias(slot) => self.read(*slot).cloned(),
                Load::Resolve(name) => self.lookup(name),
                Load::Undefined => None,
            };
            self.store(Slot { hops: 0, index: *index }, value);
        }
        self.spend(scope.0.len() as u64)
    }

    fn lookup(&self, name: &str) -> Option<Value<'a>> {
        if let Some(value) = self.variables.get(name) {
            return Some(value.clone());
        }
        Some(Value::Global(match name {
            "range" => Global::Range,
            "dict" => Global::Dict,
            "lipsum" => Global::Lipsum,
            "cycler" => Global::Cycler,
            "joiner" => Global::Joiner,
            "namespace" => Global::Namespace,
            "raise_exception" => Global::RaiseException,
            "strftime_now" => Global::StrftimeNow,
            _ => return None,
        }))
    }

    pub(super) fn bind(&mut self, target: &'a Target, value: Value<'a>) -> Outcome<()> {
        match target {
            Target::Name { slot, .. } => self.store(*slot, Some(value)),
            Target::Tuple(targets) => {
                let items = self.collect(&value).map_err(|fail| match fail.kind {
                    FailKind::Raised => {
                        raise(format!("cannot unpack non-iterable {} object", value.type_name()))
                    }
                    _ => fail,
                })?;
                if items.len() > targets.len() {
                    return Err(raise(format!("too many values to unpack (expected {})", targets.len())));
                }
                if items.len() < targets.len() {
                    let (wanted, got) = (targets.len(), items.len());
                    return Err(raise(format!("not enough values to unpack (expected {wanted}, got {got})")));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.bind(target, item.clone())?;
                }
            }
            Target::Attribute { slot, attribute, .. } => {
                let Some(Value::Namespace(at)) = self.read(*slot) else {
                    return Err(raise("cannot assign attribute on non-namespace object"));
                };
                let at = *at;
                self.spend(1)?;
                if let Some(entries) = self.namespaces.get_mut(at) {
                    match entries.iter_mut().find(|(name, _)| name.as_str() == attribute.as_ref()) {
                        Some((_, place)) => *place = value,
                        None => entries.push((Text::Borrowed(attribute), value)),
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn close_over(&mut self, function: &'a Function) -> Value<'a> {
        if let Some(activation) = self.activations.get_mut(self.current) {
            activation.kept = true;
        }
        Value::Macro(Rc::new(Macro { function, outer: self.current }))
    }

    /// Ends a function's activation.
    pub(super) fn leave(&mut self, activation: usize, caller: usize) {
        self.current = caller;
        let kept = self.activations.get(activation).is_none_or(|activation| activation.kept);
        if !kept && activation + 1 == self.activations.len() {
            self.activations.pop();
        }
    }
}
