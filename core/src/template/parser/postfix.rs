//! What follows a value: attributes, subscripts, calls, filters and tests.

use super::Parser;
use crate::template::ast::{Apply, Args, Call, Const, Expr};
use crate::template::lexer::{Kind, Token};

impl Parser {
    pub(super) fn postfix(&mut self, mut node: Expr) -> Result<Expr, String> {
        let mut count = 0;
        loop {
            if self.is_op(".") || self.is_op("[") {
                node = self.subscript(node)?;
            } else if self.is_op("(") {
                node = Expr::Call(Box::new(Call { callee: node, args: self.call_args()? }));
            } else {
                return Ok(node);
            }
            self.chained(&mut count)?;
        }
    }

    pub(super) fn filters(&mut self, mut node: Expr) -> Result<Expr, String> {
        let mut count = 0;
        loop {
            if self.is_op("|") {
                let Some(filtered) = self.filter(Some(node), false)? else {
                    return self.fail("expected a filter");
                };
                node = filtered;
            } else if self.is_name("is") {
                node = self.test(node)?;
            } else if self.is_op("(") {
                node = Expr::Call(Box::new(Call { callee: node, args: self.call_args()? }));
            } else {
                return Ok(node);
            }
            self.chained(&mut count)?;
        }
    }

    fn subscript(&mut self, node: Expr) -> Result<Expr, String> {
        if self.skip_op(".") {
            return match self.next() {
                Some(Kind::Name(name)) => Ok(Expr::Getattr(Box::new(node), name.into())),
                Some(Kind::Int(at)) => Ok(Expr::Getitem(Box::new((node, Expr::Const(Const::Int(at)))))),
                _ => {
                    self.at = self.at.saturating_sub(1);
                    self.fail("expected name or number")
                }
            };
        }
        self.expect_op("[")?;
        let mut args = Vec::new();
        while !self.is_op("]") {
            if !args.is_empty() {
                self.expect_op(",")?;
            }
            args.push(self.subscribed()?);
        }
        self.expect_op("]")?;
        match args.pop() {
            Some(arg) if args.is_empty() => Ok(Expr::Getitem(Box::new((node, arg)))),
            _ => self.fail("more than one subscript is not supported"),
        }
    }

    fn subscribed(&mut self) -> Result<Expr, String> {
        let first = if self.is_op(":") { None } else { Some(self.expression()?) };
        if !self.skip_op(":") {
            return match first {
                Some(first) => Ok(first),
                None => self.fail("expected a subscript"),
            };
        }
        let part = |parser: &mut Self| {
            let ends = parser.is_op(":") || parser.is_op("]") || parser.is_op(",");
            if ends { Ok(None) } else { parser.expression().map(Some) }
        };
        let stop = part(self)?;
        let step = if self.skip_op(":") { part(self)? } else { None };
        Ok(Expr::Slice(Box::new([first, stop, step])))
    }

    fn call_args(&mut self) -> Result<Args, String> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.is_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            first = false;
            let keyword = matches!(self.peek(), Some(Kind::Name(_)))
                && matches!(self.tokens.get(self.at + 1), Some(Token { kind: Kind::Op("="), .. }));
            let (star, star_star) = (args.star.is_some(), args.star_star.is_some());
            let allowed = if self.is_op("*") {
                !star && !star_star
            } else if self.is_op("**") || keyword {
                !star_star
            } else {
                !star && !star_star && args.keywords.is_empty()
            };
            if !allowed {
                return self.fail("invalid syntax for function call expression");
            }
            if self.skip_op("*") {
                args.star = Some(Box::new(self.expression()?));
            } else if self.skip_op("**") {
                args.star_star = Some(Box::new(self.expression()?));
            } else if keyword {
                let name = self.name()?;
                self.at += 1;
                if args.keywords.iter().any(|(known, _)| *known == name) {
                    return self.fail("keyword argument repeated");
                }
                args.keywords.push((name, self.expression()?));
            } else {
                args.positional.push(self.expression()?);
            }
        }
        self.expect_op(")")?;
        Ok(args)
    }

    fn dotted(&mut self) -> Result<Box<str>, String> {
        let mut name = self.name()?.into_string();
        while self.skip_op(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name.into())
    }

    /// Filters after a value, or those of a filter block.
    pub(super) fn filter(&mut self, mut node: Option<Expr>, inline: bool) -> Result<Option<Expr>, String> {
        let mut count = 0;
        let mut inline = inline;
        while inline || self.is_op("|") {
            if !inline {
                self.at += 1;
            }
            inline = false;
            let name = self.dotted()?;
            let args = if self.is_op("(") { self.call_args()? } else { Args::default() };
            node = Some(Expr::Filter(Box::new(Apply { node, name, args })));
            self.chained(&mut count)?;
        }
        Ok(node)
    }

    fn test(&mut self, node: Expr) -> Result<Expr, String> {
        self.at += 1;
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        let takes_primary = match self.peek() {
            Some(Kind::Name(name)) => !matches!(name.as_str(), "else" | "or" | "and"),
            Some(Kind::Str(_) | Kind::Int(_) | Kind::Big(_) | Kind::Float(_) | Kind::Op("[" | "{")) => true,
            _ => false,
        };
        let mut args = Args::default();
        if self.is_op("(") {
            args = self.call_args()?;
        } else if takes_primary {
            if self.is_name("is") {
                return self.fail("You cannot chain multiple tests with is");
            }
            let arg = self.primary()?;
            args.positional.push(self.postfix(arg)?);
        }
        let test = Expr::Test(Box::new(Apply { node: Some(node), name, args }));
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }
}
