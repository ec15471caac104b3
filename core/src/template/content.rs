//! The two forms in which templates expect a message's content, and which one a template expects.
//!
//! vLLM looks whether the template loops over a message's content (`_detect_content_format` in `renderers/hf.py`); if so,
//! content is a list of parts for it, else one string. The same walk over the same syntax tree is done here.

use super::ast::for_each_child;
use super::ast::{Call, Const, Expr, For, Function, Piece, Stmt, StmtKind, Target};

/// How a template wants content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContentFormat {
    /// One string.
    String,
    /// A list of `{"type": "text", "text": ...}`.
    Parts,
}

/// Which form a template expects.
pub(super) fn detect(body: &[Stmt]) -> ContentFormat {
    let mut tree = Tree::default();
    tree.add_all(body);
    if tree.loops_over_content().unwrap_or(false) { ContentFormat::Parts } else { ContentFormat::String }
}

/// vLLM gives up, and takes strings, where it meets an assignment or a loop to anything but one name.
struct NotOneName;

/// The parts of a template that are looked at, in the order in which jinja2 walks them.
#[derive(Default)]
struct Tree<'t> {
    assignments: Vec<(&'t Target, &'t Expr)>,
    /// Loops with the macros that they are in, the innermost last.
    loops: Vec<(&'t For, Vec<&'t Function>)>,
    calls: Vec<&'t Call>,
    inside: Vec<&'t Function>,
}

impl<'t> Tree<'t> {
    fn add_all(&mut self, body: &'t [Stmt]) {
        for statement in body {
            self.add(&statement.kind);
        }
    }

    fn add(&mut self, statement: &'t StmtKind) {
        match statement {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    if let Piece::Expr(expr) = piece {
                        self.add_expr(expr);
                    }
                }
            }
            StmtKind::For(each) => {
                self.loops.push((each, self.inside.clone()));
                self.add_expr(&each.iter);
                self.add_all(&each.body);
                self.add_all(&each.otherwise);
                each.test.iter().for_each(|test| self.add_expr(&test.condition));
            }
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    self.add_expr(test);
                    self.add_all(body);
                }
                self.add_all(otherwise);
            }
            StmtKind::Set { target, value } => {
                self.assignments.push((target, value));
                self.add_expr(value);
            }
            StmtKind::SetBlock { filter, body, .. } => {
                filter.iter().for_each(|expr| self.add_expr(expr));
                self.add_all(body);
            }
            StmtKind::With { assignments, body, .. } => {
                assignments.iter().for_each(|(_, value)| self.add_expr(value));
                self.add_all(body);
            }
            StmtKind::Macro { function, .. } => {
                self.inside.push(function);
                self.add_function(function);
                self.inside.pop();
            }
            StmtKind::CallBlock { call, function } => {
                self.add_expr(call);
                self.add_function(function);
            }
            StmtKind::Generation(function) => self.add_function(function),
            StmtKind::FilterBlock { filter, body, .. } => {
                self.add_all(body);
                self.add_expr(filter);
            }
            StmtKind::Break | StmtKind::Continue => {}
        }
    }

    fn add_function(&mut self, function: &'t Function) {
        function.defaults.iter().for_each(|value| self.add_expr(value));
        self.add_all(&function.body);
    }

    fn add_expr(&mut self, expr: &'t Expr) {
        if let Expr::Call(call) = expr {
            self.calls.push(call);
        }
        for_each_child(expr, &mut |child| self.add_expr(child));
    }

    fn loops_over_content(&self) -> Result<bool, NotOneName> {
        let names = self.message_names()?;
        let is_content = |expr: &Expr| names.iter().any(|name| reads(expr, name, Some("content")));
        for (each, inside) in &self.loops {
            let by_name = match &each.iter {
                Expr::Name { name, .. } if inside.is_empty() => name.as_ref() == "content",
                Expr::Name { name, .. } => {
                    // The parameters of the innermost macro that gets a message's content count.
                    let mut parameters =
                        inside.iter().rev().map(|function| self.content_parameters(function, &is_content));
                    let parameters = parameters.find(|names| !names.is_empty());
                    parameters.is_some_and(|names| names.contains(&name.as_ref()))
                }
                _ => false,
            };
            if by_name || is_content(&each.iter) {
                return name_of(&each.target).map(|_| true);
            }
        }
        Ok(false)
    }

    /// Names of loop variables that are a message.
    fn message_names(&self) -> Result<Vec<&'t str>, NotOneName> {
        let mut aliases = vec!["messages"];
        let mut next = 0;
        while let Some(alias) = aliases.get(next).copied() {
            next += 1;
            for (target, value) in &self.assignments {
                if reads(value, alias, None) {
                    let name = name_of(target)?;
                    if !aliases.contains(&name) {
                        aliases.push(name);
                    }
                }
            }
        }
        let over_messages =
            self.loops.iter().filter(|(each, _)| aliases.iter().any(|alias| reads(&each.iter, alias, None)));
        over_messages.map(|(each, _)| name_of(&each.target)).collect()
    }

    /// The parameters of a macro that some call of it hands a message's content to.
    fn content_parameters(&self, function: &'t Function, is_content: &dyn Fn(&Expr) -> bool) -> Vec<&'t str> {
        let is_call =
            |call: &&&Call| matches!(&call.callee, Expr::Name { name, .. } if *name == function.name);
        let mut names = Vec::new();
        for call in self.calls.iter().filter(is_call) {
            for (arg, (name, _)) in call.args.positional.iter().zip(&function.parameters) {
                if is_content(arg) {
                    names.push(name.as_ref());
                }
            }
            for (key, value) in &call.args.keywords {
                let parameter = function.parameters.iter().find(|(name, _)| name == key);
                if let Some((name, _)) = parameter.filter(|_| is_content(value)) {
                    names.push(name.as_ref());
                }
            }
        }
        names
    }
}

/// Whether `expr` is the variable `name`, or its attribute `key`, perhaps sliced, filtered or tested.
fn reads(expr: &Expr, name: &str, key: Option<&str>) -> bool {
    let is_name = |expr: &Expr| matches!(expr, Expr::Name { name: known, .. } if known.as_ref() == name);
    match (expr, key) {
        (Expr::Filter(apply) | Expr::Test(apply), _) => {
            apply.node.as_ref().is_some_and(|expr| reads(expr, name, key))
        }
        (Expr::Getitem(parts), _) if matches!(parts.1, Expr::Slice(_)) => reads(&parts.0, name, key),
        (expr, None) => is_name(expr),
        (Expr::Getattr(object, attribute), Some(key)) => attribute.as_ref() == key && is_name(object),
        (Expr::Getitem(parts), Some(key)) => {
            matches!(&parts.1, Expr::Const(Const::Str(found)) if found.as_ref() == key) && is_name(&parts.0)
        }
        _ => false,
    }
}

fn name_of(target: &Target) -> Result<&str, NotOneName> {
    match target {
        Target::Name { name, .. } => Ok(name),
        _ => Err(NotOneName),
    }
}
