//! Statements.

use super::output::printed;
use super::{Flow, Interpreter};
use crate::template::args::Given;
use crate::template::ast::{Expr, Piece, Stmt, StmtKind};
use crate::template::fail::{Outcome, refuse};
use crate::template::value::Value;

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn exec(&mut self, body: &'a [Stmt]) -> Outcome<Flow> {
        self.deeper(|this| {
            for statement in body {
                let flow = this.exec_one(statement)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn exec_one(&mut self, statement: &'a Stmt) -> Outcome<Flow> {
        self.line = statement.line;
        self.step()?;
        match &statement.kind {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => self.write(text)?,
                        Piece::Expr(expr) => {
                            let value = self.eval(printed(expr))?;
                            self.write_value(&value)?;
                        }
                    }
                }
            }
            StmtKind::For(each) => return self.for_loop(each),
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test)?.is_true() {
                        return self.exec(body);
                    }
                }
                if !otherwise.is_empty() {
                    return self.exec(otherwise);
                }
            }
            StmtKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.bind(target, value)?;
            }
            StmtKind::SetBlock { target, filter, body, scope } => {
                self.enter(scope)?;
                let text = self.captured(body)?;
                let value = self.filter_text(text, filter.as_ref())?;
                self.bind(target, value)?;
            }
            StmtKind::With { assignments, body, scope } => {
                self.enter(scope)?;
                for (target, value) in assignments {
                    let value = self.eval(value)?;
                    self.bind(target, value)?;
                }
                return self.exec(body);
            }
            StmtKind::Macro { slot, function } => {
                let value = self.close_over(function);
                self.store(*slot, Some(value));
            }
            StmtKind::CallBlock { call, function } => {
                let Expr::Call(call) = call else { return Err(refuse("a call block without a call")) };
                let caller = self.close_over(function);
                let value = self.call_expr(&call.callee, &call.args, Some(caller))?;
                self.write_value(&value)?;
            }
            StmtKind::Generation(function) => {
                let Value::Macro(caller) = self.close_over(function) else { return Ok(Flow::Next) };
                let text = self.call_macro(&caller, Given::default())?;
                self.write_value(&text)?;
            }
            StmtKind::FilterBlock { filter, body, scope } => {
                self.enter(scope)?;
                let text = self.captured(body)?;
                let value = self.filter_text(text, Some(filter))?;
                self.write_value(&value)?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }
}
