//! The parts of an expression.

use super::{Args, Expr};

fn args_of<'e>(args: &'e Args, visit: &mut dyn FnMut(&'e Expr)) {
    args.positional.iter().for_each(&mut *visit);
    args.keywords.iter().for_each(|(_, value)| visit(value));
    args.star.iter().chain(&args.star_star).for_each(|value| visit(value));
}

/// The parts of an expression, in jinja2's order.
pub(in crate::template) fn for_each_child<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Const(_) | Expr::Name { .. } => {}
        Expr::Tuple(items) | Expr::List(items) | Expr::Concat(items) => items.iter().for_each(visit),
        Expr::Dict(items) => items.iter().for_each(|(key, value)| {
            visit(key);
            visit(value);
        }),
        Expr::Cond(parts) => {
            visit(&parts.0);
            visit(&parts.1);
            parts.2.iter().for_each(visit);
        }
        Expr::Bin(_, sides) | Expr::And(sides) | Expr::Or(sides) | Expr::Getitem(sides) => {
            visit(&sides.0);
            visit(&sides.1);
        }
        Expr::Not(inner) | Expr::Neg(inner) | Expr::Pos(inner) | Expr::Getattr(inner, _) => visit(inner),
        Expr::Compare(first, rest) => {
            visit(first);
            rest.iter().for_each(|(_, value)| visit(value));
        }
        Expr::Filter(apply) | Expr::Test(apply) => {
            apply.node.iter().for_each(&mut *visit);
            args_of(&apply.args, visit);
        }
        Expr::Call(call) => {
            visit(&call.callee);
            args_of(&call.args, visit);
        }
        Expr::Slice(parts) => parts.iter().flatten().for_each(visit),
    }
}

/// As [`for_each_child`], to change them.
pub(in crate::template) fn for_each_child_mut(expr: &mut Expr, visit: &mut dyn FnMut(&mut Expr)) {
    fn args_of(args: &mut Args, visit: &mut dyn FnMut(&mut Expr)) {
        args.positional.iter_mut().for_each(&mut *visit);
        args.keywords.iter_mut().for_each(|(_, value)| visit(value));
        args.star.iter_mut().chain(&mut args.star_star).for_each(|value| visit(value));
    }
    match expr {
        Expr::Const(_) | Expr::Name { .. } => {}
        Expr::Tuple(items) | Expr::List(items) | Expr::Concat(items) => items.iter_mut().for_each(visit),
        Expr::Dict(items) => items.iter_mut().for_each(|(key, value)| {
            visit(key);
            visit(value);
        }),
        Expr::Cond(parts) => {
            visit(&mut parts.0);
            visit(&mut parts.1);
            parts.2.iter_mut().for_each(visit);
        }
        Expr::Bin(_, sides) | Expr::And(sides) | Expr::Or(sides) | Expr::Getitem(sides) => {
            visit(&mut sides.0);
            visit(&mut sides.1);
        }
        Expr::Not(inner) | Expr::Neg(inner) | Expr::Pos(inner) | Expr::Getattr(inner, _) => visit(inner),
        Expr::Compare(first, rest) => {
            visit(first);
            rest.iter_mut().for_each(|(_, value)| visit(value));
        }
        Expr::Filter(apply) | Expr::Test(apply) => {
            apply.node.iter_mut().for_each(&mut *visit);
            args_of(&mut apply.args, visit);
        }
        Expr::Call(call) => {
            visit(&mut call.callee);
            args_of(&mut call.args, visit);
        }
        Expr::Slice(parts) => parts.iter_mut().flatten().for_each(visit),
    }
}
