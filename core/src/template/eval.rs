//! Runs a template. The interpreter, what it holds and what its steps cost are here; what it does with each noun is below.
//!
//! - `eval/attributes.rs`: `object.name`, `object[key]` and slices.
//! - `eval/calls.rs`: calls of macros, methods and other objects.
//! - `eval/expressions.rs`: expressions.
//! - `eval/globals.rs`: functions that every template has.
//! - `eval/iteration.rs`: what iterating over a value yields.
//! - `eval/loops.rs`: loops, and the `loop` object of each.
//! - `eval/operators.rs`: operators on values, paid for before anything is made.
//! - `eval/output.rs`: what a rendering writes, and what a block captures of it.
//! - `eval/statements.rs`: statements.
//! - `eval/variables.rs`: activations of functions, scopes that are entered, targets that are bound.

mod attributes;
mod calls;
mod expressions;
mod globals;
mod iteration;
mod loops;
mod operators;
mod output;
mod statements;
mod variables;

use std::collections::BTreeMap;

use super::ast::{Scope, Stmt};
use super::clock::LocalTime;
use super::fail::{Fail, FailKind, Outcome, refuse};
use super::value::{Text, Value};
pub(super) use loops::LoopState;
use output::Buffer;
use variables::Activation;

/// Deepest nesting of statements, expressions and macro calls while rendering: what the stack of a Wasm module takes.
/// Python stops at about as much.
const DEPTH_MAX: usize = 256;

/// Bytes of text that cost as much as one step.
const BYTES_PER_STEP: usize = 64;

/// How a statement ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Interpreter<'a, 'v> {
    activations: Vec<Activation<'a>>,
    current: usize,
    out: Buffer,
    /// Buffers around it.
    captures: usize,
    pub(super) fuel: u64,
    output_left: usize,
    output_max: usize,
    loops: Vec<LoopState<'a>>,
    namespaces: Vec<Vec<(Text<'a>, Value<'a>)>>,
    cyclers: Vec<(Vec<Value<'a>>, usize)>,
    joiners: Vec<(Value<'a>, bool)>,
    variables: &'v BTreeMap<&'a str, Value<'a>>,
    now: Option<LocalTime>,
    depth: usize,
    pub(super) line: u32,
}

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn new(
        variables: &'v BTreeMap<&'a str, Value<'a>>,
        now: Option<LocalTime>,
        fuel: u64,
        output_max: usize,
    ) -> Self {
        Self {
            activations: Vec::new(),
            current: 0,
            out: Buffer::default(),
            captures: 0,
            fuel,
            output_left: output_max,
            output_max,
            loops: Vec::new(),
            namespaces: Vec::new(),
            cyclers: Vec::new(),
            joiners: Vec::new(),
            variables,
            now,
            depth: 0,
            line: 0,
        }
    }

    /// Renders a whole template.
    pub(super) fn run(
        &mut self,
        body: &'a [Stmt],
        scope: &'a Scope,
        slots: u16,
    ) -> Result<String, Box<Fail>> {
        self.current = self.activate(0, slots);
        let outcome = self.enter(scope).and_then(|()| self.exec(body));
        match outcome {
            Ok(_) => Ok(std::mem::take(&mut self.out.text)),
            Err(mut fail) => {
                fail.line = self.line;
                Err(fail)
            }
        }
    }

    fn step(&mut self) -> Outcome<()> {
        self.spend(1)
    }

    pub(super) fn spend(&mut self, steps: u64) -> Outcome<()> {
        match self.fuel.checked_sub(steps) {
            Some(left) => {
                self.fuel = left;
                Ok(())
            }
            None => Err(Box::new(Fail { kind: FailKind::Fuel, message: String::new(), line: 0 })),
        }
    }

    /// Pays for walking over or making `bytes` of text. Text longer than the output may be is refused.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Outcome<()> {
        if bytes > self.output_max {
            return Err(Box::new(Fail { kind: FailKind::Output, message: String::new(), line: 0 }));
        }
        self.spend((bytes / BYTES_PER_STEP) as u64)
    }

    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(refuse("nesting too deep"));
        }
        let outcome = inside(self);
        self.depth -= 1;
        outcome
    }
}
