//! Slots into names.

use super::Resolver;
use super::reads::reads;
use crate::template::ast::{Expr, For, Function, Piece, Slot, Stmt, StmtKind, Target, for_each_child_mut};

impl Resolver {
    pub(super) fn body(&mut self, body: &mut [Stmt], frame: usize) -> Result<(), String> {
        body.iter_mut().try_for_each(|statement| self.statement(&mut statement.kind, frame))
    }

    fn statement(&mut self, statement: &mut StmtKind, frame: usize) -> Result<(), String> {
        match statement {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    if let Piece::Expr(expr) = piece {
                        self.expr(expr, frame)?;
                    }
                }
                Ok(())
            }
            StmtKind::For(each) => self.for_loop(each, frame),
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    self.expr(test, frame)?;
                    self.body(body, frame)?;
                }
                self.body(otherwise, frame)
            }
            StmtKind::Set { target, value } => {
                self.expr(value, frame)?;
                self.target(target, frame)
            }
            StmtKind::SetBlock { target, filter, body, scope } => {
                let inner = self.inner(frame);
                self.analyze(inner, body);
                if let Some(filter) = filter {
                    self.analyze_expr(inner, filter);
                }
                *scope = self.enter(inner);
                self.body(body, inner)?;
                if let Some(filter) = filter {
                    self.expr(filter, inner)?;
                }
                self.target(target, frame)
            }
            StmtKind::With { assignments, body, scope } => {
                let inner = self.inner(frame);
                assignments.iter().for_each(|(target, _)| self.declare_target(inner, target));
                self.analyze(inner, body);
                *scope = self.enter(inner);
                for (target, value) in assignments {
                    self.expr(value, frame)?;
                    self.target(target, inner)?;
                }
                self.body(body, inner)
            }
            StmtKind::Macro { slot, function } => {
                self.function(function, frame)?;
                *slot = self.slot(frame, &function.name)?;
                Ok(())
            }
            StmtKind::CallBlock { call, function } => {
                self.function(function, frame)?;
                self.expr(call, frame)
            }
            StmtKind::Generation(function) => self.function(function, frame),
            StmtKind::FilterBlock { filter, body, scope } => {
                let inner = self.inner(frame);
                self.analyze(inner, body);
                self.analyze_expr(inner, filter);
                *scope = self.enter(inner);
                self.body(body, inner)?;
                self.expr(filter, inner)
            }
            StmtKind::Break | StmtKind::Continue => Ok(()),
        }
    }

    fn for_loop(&mut self, each: &mut For, frame: usize) -> Result<(), String> {
        self.expr(&mut each.iter, frame)?;
        let function = if each.recursive {
            self.new_function()
        } else {
            self.get(frame).map_or(0, |frame| frame.function)
        };
        let inner = self.frame(Some(frame), function);
        each.loop_slot = Slot { hops: 0, index: self.parameter(inner, "loop") };
        self.declare_target(inner, &each.target);
        self.analyze(inner, &each.body);
        if let Some(test) = &mut each.test {
            // Its own scope, but the loop's function: it is evaluated while the loop's slots are there.
            let within = self.frame(Some(frame), function);
            self.declare_target(within, &test.target);
            self.analyze_expr(within, &test.condition);
            test.scope = self.enter(within);
            self.target(&mut test.target, within)?;
            self.expr(&mut test.condition, within)?;
        }
        self.target(&mut each.target, inner)?;
        each.scope = self.enter(inner);
        self.body(&mut each.body, inner)?;
        let otherwise = self.frame(Some(frame), function);
        self.analyze(otherwise, &each.otherwise);
        each.otherwise_scope = self.enter(otherwise);
        self.body(&mut each.otherwise, otherwise)?;
        each.slots = self.slots_of(function)?;
        Ok(())
    }

    pub(super) fn function(&mut self, function: &mut Function, frame: usize) -> Result<(), String> {
        let number = self.new_function();
        let inner = self.frame(Some(frame), number);
        for (name, slot) in &mut function.parameters {
            *slot = Slot { hops: 0, index: self.parameter(inner, name) };
        }
        function.defaults.iter().for_each(|value| self.analyze_expr(inner, value));
        let named = |name: &str| function.parameters.iter().any(|(known, _)| known.as_ref() == name);
        let wants = |name: &str| !named(name) && reads(&function.body, name);
        let implicit = [wants("caller"), wants("kwargs"), wants("varargs")];
        if named("caller") && reads(&function.body, "caller") && function.defaults.is_empty() {
            return Err("a macro's own parameter 'caller' needs a default".to_owned());
        }
        let mut declare =
            |wanted: bool, name: &str| wanted.then(|| Slot { hops: 0, index: self.parameter(inner, name) });
        function.caller = declare(implicit[0], "caller");
        function.kwargs = declare(implicit[1], "kwargs");
        function.varargs = declare(implicit[2], "varargs");
        self.analyze(inner, &function.body);
        function.scope = self.enter(inner);
        for value in &mut function.defaults {
            self.expr(value, inner)?;
        }
        self.body(&mut function.body, inner)?;
        function.slots = self.slots_of(number)?;
        Ok(())
    }

    pub(super) fn target(&self, target: &mut Target, frame: usize) -> Result<(), String> {
        match target {
            Target::Name { name, slot } | Target::Attribute { name, slot, .. } => {
                *slot = self.slot(frame, name)?;
                Ok(())
            }
            Target::Tuple(items) => items.iter_mut().try_for_each(|item| self.target(item, frame)),
        }
    }

    fn expr(&self, expr: &mut Expr, frame: usize) -> Result<(), String> {
        if let Expr::Name { name, slot } = expr {
            *slot = self.slot(frame, name)?;
            return Ok(());
        }
        let mut outcome = Ok(());
        for_each_child_mut(expr, &mut |child| {
            if outcome.is_ok() {
                outcome = self.expr(child, frame);
            }
        });
        outcome
    }
}
