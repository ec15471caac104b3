//! Tokens to the syntax tree, after jinja2's parser with the extensions `loopcontrols` and `generation`.
//!
//! What a chat template has no use for and jinja2 knows (`block`, `extends`, `include`, `import`, `autoescape`) is
//! refused here. Names are resolved in a second walk (`template/scope.rs`).
//!
//! - `parser/expressions.rs`: expressions, by precedence.
//! - `parser/postfix.rs`: what follows a value: attributes, subscripts, calls, filters and tests.
//! - `parser/statements.rs`: statements and the targets that they assign to.

mod expressions;
mod postfix;
mod statements;

use super::ast::Stmt;
use super::lexer::{Kind, Token, tokens};

/// Deepest nesting of statements and expressions: far above what templates have, far below what the stack takes.
const NESTING_MAX: usize = 100;

pub(super) fn parse(source: &str) -> Result<Vec<Stmt>, String> {
    let tokens = tokens(source)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, loops: 0 };
    let (body, _) = parser.statements(&[])?;
    Ok(body)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Loops around the statement, of the function it is in.
    loops: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn fail<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("syntax error: line {}: {what}", self.line()))
    }

    fn next(&mut self) -> Option<Kind> {
        let kind = self.tokens.get(self.at).map(|token| token.kind.clone());
        self.at += 1;
        kind
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Kind::Op(found)) if *found == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Kind::Name(found)) if found == name)
    }

    fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect_op(&mut self, op: &str) -> Result<(), String> {
        if self.skip_op(op) { Ok(()) } else { self.fail(format_args!("expected '{op}'")) }
    }

    fn expect(&mut self, kind: &Kind, what: &str) -> Result<(), String> {
        if self.peek() == Some(kind) {
            self.at += 1;
            return Ok(());
        }
        self.fail(format_args!("expected {what}"))
    }

    fn name(&mut self) -> Result<Box<str>, String> {
        match self.next() {
            Some(Kind::Name(name)) if !name.starts_with(char::is_numeric) => Ok(name.into()),
            _ => {
                self.at = self.at.saturating_sub(1);
                self.fail("expected a name")
            }
        }
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > NESTING_MAX { self.fail("nested too deeply") } else { Ok(()) }
    }
}
