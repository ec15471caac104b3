//! Which names a scope reads and sets.

use std::collections::BTreeSet;

use super::{Known, Resolver};
use crate::template::ast::{Expr, Load, Piece, Stmt, StmtKind, Target, for_each_child};

impl Resolver {
    pub(super) fn analyze(&mut self, frame: usize, body: &[Stmt]) {
        for statement in body {
            self.analyze_statement(frame, statement);
        }
    }

    fn analyze_statement(&mut self, frame: usize, statement: &Stmt) {
        match &statement.kind {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    if let Piece::Expr(expr) = piece {
                        self.analyze_expr(frame, expr);
                    }
                }
            }
            StmtKind::For(each) => self.analyze_expr(frame, &each.iter),
            StmtKind::If { branches, otherwise } => self.analyze_if(frame, branches, otherwise),
            StmtKind::Set { target, value } => {
                self.analyze_expr(frame, value);
                self.analyze_target(frame, target);
            }
            StmtKind::SetBlock { target, .. } => self.analyze_target(frame, target),
            StmtKind::With { assignments, .. } => {
                for (_, value) in assignments {
                    self.analyze_expr(frame, value);
                }
            }
            StmtKind::Macro { function, .. } => self.store(frame, &function.name),
            StmtKind::CallBlock { call, .. } => self.analyze_expr(frame, call),
            StmtKind::FilterBlock { filter, .. } => self.analyze_expr(frame, filter),
            StmtKind::Generation(_) | StmtKind::Break | StmtKind::Continue => {}
        }
    }

    /// Each branch is looked at by itself. What only some branches set is, where it was not set, what it was outside.
    fn analyze_if(&mut self, frame: usize, branches: &[(Expr, Vec<Stmt>)], otherwise: &[Stmt]) {
        let Some(((test, body), rest)) = branches.split_first() else { return };
        self.analyze_expr(frame, test);
        let Some(before) = self.get(frame).cloned() else { return };
        let mut after = Vec::new();
        let mut stores = BTreeSet::new();
        for part in 0..3 {
            match part {
                0 => self.analyze(frame, body),
                // jinja2 keeps `elif`s as a list of ifs of one branch.
                1 => rest.iter().for_each(|branch| self.analyze_if(frame, std::slice::from_ref(branch), &[])),
                _ => self.analyze(frame, otherwise),
            }
            if let Some(frame) = self.get_mut(frame) {
                let branch = std::mem::replace(frame, before.clone());
                stores.extend(branch.stores.iter().cloned());
                after.push(branch);
            }
        }
        let Some(frame_now) = self.get_mut(frame) else { return };
        stores.retain(|name| !frame_now.stores.contains(name));
        for branch in after {
            frame_now.refs.extend(branch.refs);
            frame_now.loads.extend(branch.loads);
            frame_now.stores.extend(branch.stores);
        }
        let parent = frame_now.parent;
        for name in stores {
            let Some((_, slot)) = self.find(frame, &name) else { continue };
            let known = match parent.and_then(|parent| self.find(parent, &name)) {
                Some((outer, index)) => Known::Alias(outer, index),
                None => Known::Load(Load::Resolve(name)),
            };
            if let Some(frame) = self.get_mut(frame) {
                frame.loads.insert(slot, known);
            }
        }
    }

    fn analyze_target(&mut self, frame: usize, target: &Target) {
        match target {
            Target::Name { name, .. } => self.store(frame, name),
            Target::Tuple(items) => items.iter().for_each(|item| self.analyze_target(frame, item)),
            Target::Attribute { name, .. } => self.load(frame, name),
        }
    }

    pub(super) fn declare_target(&mut self, frame: usize, target: &Target) {
        match target {
            Target::Name { name, .. } => {
                self.parameter(frame, name);
            }
            Target::Tuple(items) => items.iter().for_each(|item| self.declare_target(frame, item)),
            Target::Attribute { name, .. } => self.load(frame, name),
        }
    }

    pub(super) fn analyze_expr(&mut self, frame: usize, expr: &Expr) {
        if let Expr::Name { name, .. } = expr {
            self.load(frame, name);
        }
        for_each_child(expr, &mut |child| self.analyze_expr(frame, child));
    }
}
