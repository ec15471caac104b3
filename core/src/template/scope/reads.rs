//! Which of the names that jinja2 gives to a macro its body asks for.

use crate::template::ast::{Expr, Function, Piece, Stmt, StmtKind, Target, for_each_child};

/// Whether a function's body reads `name` before it sets it, as jinja2's `find_undeclared` walks it: in order, through
/// nested scopes too.
pub(super) fn reads(body: &[Stmt], name: &str) -> bool {
    fn expr(value: &Expr, name: &str) -> bool {
        if matches!(value, Expr::Name { name: known, .. } if known.as_ref() == name) {
            return true;
        }
        let mut found = false;
        for_each_child(value, &mut |child| found = found || expr(child, name));
        found
    }
    fn sets(target: &Target, name: &str) -> bool {
        match target {
            Target::Name { name: known, .. } => known.as_ref() == name,
            Target::Tuple(items) => items.iter().any(|item| sets(item, name)),
            Target::Attribute { .. } => false,
        }
    }
    /// Some(true): reads it; Some(false): sets it first.
    fn walk(body: &[Stmt], name: &str) -> Option<bool> {
        let read = |value: &Expr| expr(value, name).then_some(true);
        let set = |target: &Target| sets(target, name).then_some(false);
        body.iter().find_map(|statement| match &statement.kind {
            StmtKind::Output(pieces) => pieces.iter().find_map(|piece| match piece {
                Piece::Expr(value) => read(value),
                Piece::Text(_) => None,
            }),
            StmtKind::For(each) => set(&each.target)
                .or_else(|| read(&each.iter))
                .or_else(|| walk(&each.body, name))
                .or_else(|| walk(&each.otherwise, name))
                .or_else(|| each.test.as_ref().and_then(|test| read(&test.condition))),
            StmtKind::If { branches, otherwise } => branches
                .iter()
                .find_map(|(test, body)| read(test).or_else(|| walk(body, name)))
                .or_else(|| walk(otherwise, name)),
            StmtKind::Set { target, value } => set(target).or_else(|| read(value)),
            StmtKind::SetBlock { target, filter, body, .. } => {
                set(target).or_else(|| filter.as_ref().and_then(read)).or_else(|| walk(body, name))
            }
            StmtKind::With { assignments, body, .. } => assignments
                .iter()
                .find_map(|(target, _)| set(target))
                .or_else(|| assignments.iter().find_map(|(_, value)| read(value)))
                .or_else(|| walk(body, name)),
            StmtKind::Macro { function, .. } => walk_function(function, name),
            StmtKind::CallBlock { call, function } => read(call).or_else(|| walk_function(function, name)),
            StmtKind::Generation(function) => walk_function(function, name),
            StmtKind::FilterBlock { filter, body, .. } => walk(body, name).or_else(|| read(filter)),
            StmtKind::Break | StmtKind::Continue => None,
        })
    }
    fn walk_function(function: &Function, name: &str) -> Option<bool> {
        let named = function.parameters.iter().any(|(known, _)| known.as_ref() == name);
        named
            .then_some(false)
            .or_else(|| function.defaults.iter().any(|value| expr(value, name)).then_some(true))
            .or_else(|| walk(&function.body, name))
    }
    walk(body, name) == Some(true)
}
