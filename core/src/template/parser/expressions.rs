//! Expressions, by precedence.

use super::{NESTING_MAX, Parser};
use crate::template::ast::{BinOp, CompareOp, Const, Expr, Slot};
use crate::template::lexer::Kind;

impl Parser {
    pub(super) fn tuple(&mut self, conditional: bool) -> Result<Expr, String> {
        self.tuple_until(conditional, None)
    }

    /// An expression, or several separated by commas.
    pub(super) fn tuple_until(&mut self, conditional: bool, end: Option<&str>) -> Result<Expr, String> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let ends = matches!(self.peek(), None | Some(Kind::VariableEnd | Kind::BlockEnd))
                || self.is_op(")")
                || end.is_some_and(|end| self.is_name(end));
            if ends {
                break;
            }
            items.push(if conditional { self.expression()? } else { self.or()? });
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(item) if !is_tuple => Ok(item),
            Some(item) => {
                items.push(item);
                Ok(Expr::Tuple(items))
            }
            None => self.fail("Expected an expression"),
        }
    }

    pub(super) fn expression(&mut self) -> Result<Expr, String> {
        self.deeper()?;
        let mut value = self.or()?;
        while self.skip_name("if") {
            let test = self.or()?;
            let otherwise = if self.skip_name("else") { Some(self.expression()?) } else { None };
            value = Expr::Cond(Box::new((test, value, otherwise)));
        }
        self.depth -= 1;
        Ok(value)
    }

    /// Operators of one precedence build trees to the left, as deep as there are operators.
    pub(super) fn chained(&mut self, count: &mut usize) -> Result<(), String> {
        *count += 1;
        if self.depth + *count > 2 * NESTING_MAX { self.fail("too many operators in a row") } else { Ok(()) }
    }

    pub(super) fn or(&mut self) -> Result<Expr, String> {
        let mut left = self.and()?;
        let mut count = 0;
        while self.skip_name("or") {
            self.chained(&mut count)?;
            left = Expr::Or(Box::new((left, self.and()?)));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.not()?;
        let mut count = 0;
        while self.skip_name("and") {
            self.chained(&mut count)?;
            left = Expr::And(Box::new((left, self.not()?)));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, String> {
        if self.skip_name("not") {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr, String> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Some(Kind::Op("==")) => CompareOp::Eq,
                Some(Kind::Op("!=")) => CompareOp::Ne,
                Some(Kind::Op("<")) => CompareOp::Lt,
                Some(Kind::Op("<=")) => CompareOp::Le,
                Some(Kind::Op(">")) => CompareOp::Gt,
                Some(Kind::Op(">=")) => CompareOp::Ge,
                Some(Kind::Name(name)) if name == "in" => CompareOp::In,
                Some(Kind::Name(name)) if name == "not" => {
                    let after = self.tokens.get(self.at + 1).map(|token| &token.kind);
                    if !matches!(after, Some(Kind::Name(name)) if name == "in") {
                        break;
                    }
                    self.at += 1;
                    CompareOp::NotIn
                }
                _ => break,
            };
            self.at += 1;
            rest.push((op, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn binary(
        &mut self,
        ops: &[(&str, BinOp)],
        operand: fn(&mut Self) -> Result<Expr, String>,
    ) -> Result<Expr, String> {
        let mut left = operand(self)?;
        let mut count = 0;
        while let Some((_, op)) = ops.iter().find(|(text, _)| self.is_op(text)) {
            self.at += 1;
            self.chained(&mut count)?;
            left = Expr::Bin(*op, Box::new((left, operand(self)?)));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr, String> {
        self.binary(&[("+", BinOp::Add), ("-", BinOp::Sub)], Self::concat)
    }

    fn concat(&mut self) -> Result<Expr, String> {
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op("~") {
            items.push(self.product()?);
        }
        Ok(Expr::Concat(items))
    }

    fn product(&mut self) -> Result<Expr, String> {
        let ops = [("*", BinOp::Mul), ("/", BinOp::Div), ("//", BinOp::FloorDiv), ("%", BinOp::Mod)];
        self.binary(&ops, |parser| parser.binary(&[("**", BinOp::Pow)], |parser| parser.unary(true)))
    }

    fn unary(&mut self, filters: bool) -> Result<Expr, String> {
        self.deeper()?;
        let node = if self.skip_op("-") {
            Expr::Neg(Box::new(self.unary(false)?))
        } else if self.skip_op("+") {
            Expr::Pos(Box::new(self.unary(false)?))
        } else {
            self.primary()?
        };
        let mut node = self.postfix(node)?;
        if filters {
            node = self.filters(node)?;
        }
        self.depth -= 1;
        Ok(node)
    }

    pub(super) fn primary(&mut self) -> Result<Expr, String> {
        let constant = match self.next() {
            Some(Kind::Name(name)) => match name.as_str() {
                "true" | "True" => Const::Bool(true),
                "false" | "False" => Const::Bool(false),
                "none" | "None" => Const::None,
                _ if name.starts_with(char::is_numeric) => return self.fail("unexpected name"),
                _ => return Ok(Expr::Name { name: name.into(), slot: Slot::default() }),
            },
            Some(Kind::Str(mut text)) => {
                while let Some(Kind::Str(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Const::Str(text.into())
            }
            Some(Kind::Int(value)) => Const::Int(value),
            Some(Kind::Big(digits)) => Const::Big(digits.into()),
            Some(Kind::Float(value)) => Const::Float(value),
            Some(Kind::Op("(")) => {
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let value = self.tuple(true)?;
                self.expect_op(")")?;
                return Ok(value);
            }
            Some(Kind::Op("[")) => {
                let items = self.items("]", Self::expression)?;
                return Ok(Expr::List(items));
            }
            Some(Kind::Op("{")) => {
                let items = self.items("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect_op(":")?;
                    Ok((key, parser.expression()?))
                })?;
                return Ok(Expr::Dict(items));
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return self.fail("unexpected token in an expression");
            }
        };
        Ok(Expr::Const(constant))
    }

    /// Items up to `close`, which may follow a comma.
    fn items<T>(
        &mut self,
        close: &str,
        item: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        while !self.is_op(close) {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_op(close) {
                break;
            }
            items.push(item(self)?);
        }
        self.expect_op(close)?;
        Ok(items)
    }
}
