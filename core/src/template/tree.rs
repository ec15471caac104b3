//! A template's syntax tree, as far as something must be known of it before it renders.

use minijinja::Error;
use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Slice, Spanned, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

/// A parsed template. The walks borrow from it.
pub(super) fn parse_template(source: &str, syntax: SyntaxConfig) -> Result<Stmt<'_>, Error> {
    parse(source, super::NAME, syntax)
}

/// A `{% for %}`.
pub(super) struct Loop<'t, 's> {
    pub(super) target: &'t Expr<'s>,
    pub(super) iter: &'t Expr<'s>,
    /// The macro it is in.
    pub(super) inside: Option<&'t Macro<'s>>,
}

/// The parts of a template that are looked at, wherever they are in it.
#[derive(Default)]
pub(super) struct Tree<'t, 's> {
    /// `{% set target = value %}`
    pub(super) assignments: Vec<(&'t Expr<'s>, &'t Expr<'s>)>,
    pub(super) loops: Vec<Loop<'t, 's>>,
    pub(super) calls: Vec<&'t Call<'s>>,
    slices: Vec<&'t Spanned<Slice<'s>>>,
    /// Everything that gives a value to a name, assignments and loops included.
    targets: Vec<&'t Expr<'s>>,
    inside: Option<&'t Macro<'s>>,
}

impl<'t, 's> Tree<'t, 's> {
    /// Walks over all of a template.
    pub(super) fn of(root: &'t Stmt<'s>) -> Self {
        let mut tree = Self::default();
        tree.add(root);
        tree
    }

    /// Line of a slice that may go backwards over something empty, or with bounds: minijinja 3.0.5 panics at the one
    /// and counts otherwise than Python at the other (`range_step_backwards` in its `value/ops.rs`).
    ///
    /// What is let through is `messages[::-1]`, which published templates have: `messages` is never empty.
    pub(super) fn unsafe_slice(&self) -> Option<u32> {
        let rebound = self.targets.iter().any(|target| binds(target, "messages"));
        let is_safe = |slice: &Slice<'_>| match &slice.step {
            None => true,
            Some(step) if is_positive(step) => true,
            Some(_) => {
                let whole = slice.start.is_none() && slice.stop.is_none();
                whole && !rebound && matches!(&slice.expr, Expr::Var(var) if var.id == "messages")
            }
        };
        let slice = self.slices.iter().find(|slice| !is_safe(slice))?;
        Some(slice.span().start_line.into())
    }

    fn add_all(&mut self, statements: &'t [Stmt<'s>]) {
        for statement in statements {
            self.add(statement);
        }
    }

    fn add(&mut self, statement: &'t Stmt<'s>) {
        match statement {
            Stmt::Template(template) => self.add_all(&template.children),
            Stmt::EmitExpr(emit) => self.add_expr(&emit.expr),
            Stmt::ForLoop(each) => {
                self.loops.push(Loop { target: &each.target, iter: &each.iter, inside: self.inside });
                self.targets.push(&each.target);
                self.add_expr(&each.iter);
                each.filter_expr.iter().for_each(|expr| self.add_expr(expr));
                self.add_all(&each.body);
                self.add_all(&each.else_body);
            }
            Stmt::IfCond(branch) => {
                self.add_expr(&branch.expr);
                self.add_all(&branch.true_body);
                self.add_all(&branch.false_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.targets.push(target);
                    self.add_expr(value);
                }
                self.add_all(&with.body);
            }
            Stmt::Set(set) => {
                self.assignments.push((&set.target, &set.expr));
                self.targets.push(&set.target);
                self.add_expr(&set.expr);
            }
            Stmt::SetBlock(set) => {
                self.targets.push(&set.target);
                set.filter.iter().for_each(|expr| self.add_expr(expr));
                self.add_all(&set.body);
            }
            Stmt::AutoEscape(block) => self.add_all(&block.body),
            Stmt::FilterBlock(block) => {
                self.add_expr(&block.filter);
                self.add_all(&block.body);
            }
            Stmt::Block(block) => self.add_all(&block.body),
            Stmt::Macro(definition) => {
                let outer = self.inside.replace(definition);
                self.targets.extend(&definition.args);
                definition.defaults.iter().for_each(|value| self.add_expr(value));
                self.add_all(&definition.body);
                self.inside = outer;
            }
            Stmt::CallBlock(block) => {
                self.add_call(&block.call);
                self.targets.extend(&block.macro_decl.args);
                self.add_all(&block.macro_decl.body);
            }
            Stmt::Do(block) => self.add_call(&block.call),
            // Nothing to look at, or a second file, which a chat template does not have.
            _ => {}
        }
    }

    fn add_call(&mut self, call: &'t Call<'s>) {
        self.calls.push(call);
        self.add_expr(&call.expr);
        self.add_args(&call.args);
    }

    fn add_args(&mut self, args: &'t [CallArg<'s>]) {
        for arg in args {
            match arg {
                CallArg::Pos(expr) | CallArg::Kwarg(_, expr) => self.add_expr(expr),
                CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => self.add_expr(expr),
            }
        }
    }

    fn add_expr(&mut self, expr: &'t Expr<'s>) {
        if let Expr::Slice(slice) = expr {
            self.slices.push(slice);
        }
        let mut within = |exprs: &[&'t Expr<'s>]| exprs.iter().for_each(|expr| self.add_expr(expr));
        match expr {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                within(&[&slice.expr]);
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                    .for_each(|expr| within(&[expr]));
            }
            Expr::UnaryOp(op) => within(&[&op.expr]),
            Expr::BinOp(op) => within(&[&op.left, &op.right]),
            Expr::Compare(compare) => {
                within(&[&compare.expr]);
                compare.ops.iter().for_each(|op| within(&[&op.expr]));
            }
            Expr::IfExpr(branch) => {
                within(&[&branch.test_expr, &branch.true_expr]);
                branch.false_expr.iter().for_each(|expr| within(&[expr]));
            }
            Expr::Filter(filter) => {
                filter.expr.iter().for_each(|expr| within(&[expr]));
                self.add_args(&filter.args);
            }
            Expr::Test(test) => {
                within(&[&test.expr]);
                self.add_args(&test.args);
            }
            Expr::GetAttr(get) => within(&[&get.expr]),
            Expr::GetItem(get) => within(&[&get.expr, &get.subscript_expr]),
            Expr::Call(call) => self.add_call(call),
            Expr::List(list) => list.items.iter().for_each(|expr| within(&[expr])),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|expr| within(&[expr])),
            Expr::Map(map) => map.keys.iter().chain(&map.values).for_each(|expr| within(&[expr])),
        }
    }
}

/// Whether an assignment to `target` gives a value to `name`.
fn binds(target: &Expr<'_>, name: &str) -> bool {
    match target {
        Expr::Var(var) => var.id == name,
        Expr::Tuple(tuple) => tuple.items.iter().any(|item| binds(item, name)),
        Expr::List(list) => list.items.iter().any(|item| binds(item, name)),
        _ => false,
    }
}

/// Whether a slice's step is a constant that goes forward.
fn is_positive(step: &Expr<'_>) -> bool {
    matches!(step, Expr::Const(step) if step.value.as_i64().is_some_and(|step| step > 0))
}
