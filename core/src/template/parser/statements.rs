//! Statements and the targets that they assign to.

use super::Parser;
use crate::template::ast::{Expr, For, Function, LoopTest, Piece, Scope, Slot, Stmt, StmtKind, Target};
use crate::template::lexer::Kind;

impl Parser {
    /// Statements up to a block that starts with one of `ends`, whose name is taken and answered; or to the end.
    pub(super) fn statements(&mut self, ends: &[&str]) -> Result<(Vec<Stmt>, String), String> {
        self.deeper()?;
        let mut body = Vec::new();
        let mut pieces = Vec::new();
        let mut line = self.line();
        loop {
            let here = self.line();
            // One statement for each line that prints a value: errors tell it.
            if matches!(self.peek(), Some(Kind::VariableBegin)) && here != line && !pieces.is_empty() {
                body.push(Stmt { line, kind: StmtKind::Output(std::mem::take(&mut pieces)) });
            }
            if pieces.is_empty() {
                line = here;
            }
            match self.next() {
                Some(Kind::Data(text)) => pieces.push(Piece::Text(text.into())),
                Some(Kind::VariableBegin) => {
                    pieces.push(Piece::Expr(self.tuple(true)?));
                    self.expect(&Kind::VariableEnd, "end of print statement")?;
                }
                other => {
                    if !pieces.is_empty() {
                        body.push(Stmt { line, kind: StmtKind::Output(std::mem::take(&mut pieces)) });
                    }
                    match other {
                        Some(Kind::BlockBegin) => {}
                        None if ends.is_empty() => break,
                        _ => return self.fail(format_args!("unexpected end of template, expected {ends:?}")),
                    }
                    if let Some(Kind::Name(name)) = self.peek()
                        && ends.contains(&name.as_str())
                    {
                        let name = name.clone();
                        self.at += 1;
                        self.depth -= 1;
                        return Ok((body, name));
                    }
                    let kind = self.statement()?;
                    body.push(Stmt { line: here, kind });
                    self.expect(&Kind::BlockEnd, "end of statement block")?;
                }
            }
        }
        self.depth -= 1;
        Ok((body, String::new()))
    }

    /// The body after the end of a block's head, up to its end, whose `%}` is left.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Stmt>, String), String> {
        // A colon there was allowed once, and is skipped.
        self.skip_op(":");
        self.expect(&Kind::BlockEnd, "end of statement block")?;
        self.statements(ends)
    }

    fn statement(&mut self) -> Result<StmtKind, String> {
        let name = self.name()?;
        match name.as_ref() {
            "for" => self.for_loop(),
            "if" => self.if_block(),
            "set" => self.set(),
            "with" => self.with(),
            "macro" => {
                let name = self.name()?;
                if matches!(name.as_ref(), "true" | "false" | "none" | "True" | "False" | "None") {
                    return self.fail("can't assign to a constant");
                }
                let (parameters, defaults) = self.signature()?;
                let function = self.function(name, parameters, defaults, "endmacro")?;
                Ok(StmtKind::Macro { slot: Slot::default(), function: Box::new(function) })
            }
            "call" => {
                let (parameters, defaults) =
                    if self.is_op("(") { self.signature()? } else { (Vec::new(), Vec::new()) };
                let call = self.expression()?;
                if !matches!(call, Expr::Call(_)) {
                    return self.fail("expected call");
                }
                let function = self.function("caller".into(), parameters, defaults, "endcall")?;
                Ok(StmtKind::CallBlock { call, function: Box::new(function) })
            }
            "generation" => {
                let function = self.function("caller".into(), Vec::new(), Vec::new(), "endgeneration")?;
                Ok(StmtKind::Generation(Box::new(function)))
            }
            "filter" => {
                let Some(filter) = self.filter(None, true)? else { return self.fail("expected a filter") };
                let (body, _) = self.body(&["endfilter"])?;
                Ok(StmtKind::FilterBlock { filter, body, scope: Scope::default() })
            }
            "print" => {
                let mut pieces = Vec::new();
                while self.peek() != Some(&Kind::BlockEnd) {
                    if !pieces.is_empty() {
                        self.expect_op(",")?;
                    }
                    pieces.push(Piece::Expr(self.expression()?));
                }
                Ok(StmtKind::Output(pieces))
            }
            "break" | "continue" if self.loops == 0 => self.fail(format_args!("'{name}' outside loop")),
            "break" => Ok(StmtKind::Break),
            "continue" => Ok(StmtKind::Continue),
            "block" | "extends" | "include" | "import" | "from" | "autoescape" => {
                self.fail(format_args!("the tag '{name}' is not supported"))
            }
            _ => self.fail(format_args!("Encountered unknown tag '{name}'.")),
        }
    }

    fn for_loop(&mut self) -> Result<StmtKind, String> {
        let target = self.target("in", true, false)?;
        if !self.skip_name("in") {
            return self.fail("expected 'in'");
        }
        let iter = self.tuple_until(false, Some("recursive"))?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let inside = self.body(&["endfor", "else"]);
        self.loops -= 1;
        let (body, end) = inside?;
        let otherwise = if end == "else" { self.body(&["endfor"])?.0 } else { Vec::new() };
        if stores_loop(&target, &body, &otherwise) {
            return self.fail("Can't assign to special loop variable in for-loop target");
        }
        let test = condition.map(|condition| LoopTest {
            target: target.clone(),
            condition,
            scope: Scope::default(),
        });
        Ok(StmtKind::For(Box::new(For {
            target,
            iter,
            test,
            body,
            otherwise,
            recursive,
            loop_slot: Slot::default(),
            scope: Scope::default(),
            otherwise_scope: Scope::default(),
            slots: 0,
        })))
    }

    fn if_block(&mut self) -> Result<StmtKind, String> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false)?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            match end.as_str() {
                "elif" => {}
                "else" => {
                    let (otherwise, _) = self.body(&["endif"])?;
                    return Ok(StmtKind::If { branches, otherwise });
                }
                _ => return Ok(StmtKind::If { branches, otherwise: Vec::new() }),
            }
        }
    }

    fn set(&mut self) -> Result<StmtKind, String> {
        let target = self.target("", true, true)?;
        if self.skip_op("=") {
            return Ok(StmtKind::Set { target, value: self.tuple(true)? });
        }
        let filter = self.filter(None, false)?;
        let (body, _) = self.body(&["endset"])?;
        Ok(StmtKind::SetBlock { target, filter, body, scope: Scope::default() })
    }

    fn with(&mut self) -> Result<StmtKind, String> {
        let mut assignments = Vec::new();
        while self.peek() != Some(&Kind::BlockEnd) {
            if !assignments.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target("", true, false)?;
            self.expect_op("=")?;
            assignments.push((target, self.expression()?));
        }
        let (body, _) = self.body(&["endwith"])?;
        Ok(StmtKind::With { assignments, body, scope: Scope::default() })
    }

    #[allow(clippy::type_complexity, reason = "parameters and defaults, once")]
    fn signature(&mut self) -> Result<(Vec<(Box<str>, Slot)>, Vec<Expr>), String> {
        let (mut parameters, mut defaults) = (Vec::new(), Vec::new());
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.name()?;
            if self.skip_op("=") {
                defaults.push(self.expression()?);
            } else if !defaults.is_empty() {
                return self.fail("non-default argument follows default argument");
            }
            parameters.push((name, Slot::default()));
        }
        self.expect_op(")")?;
        Ok((parameters, defaults))
    }

    fn function(
        &mut self,
        name: Box<str>,
        parameters: Vec<(Box<str>, Slot)>,
        defaults: Vec<Expr>,
        end: &str,
    ) -> Result<Function, String> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.body(&[end]);
        self.loops = loops;
        let (body, _) = body?;
        Ok(Function {
            name,
            parameters,
            defaults,
            body,
            scope: Scope::default(),
            slots: 0,
            caller: None,
            kwargs: None,
            varargs: None,
        })
    }

    /// A name, names separated by commas (perhaps in parentheses), or an attribute of a namespace.
    fn target(&mut self, end: &str, tuples: bool, attributes: bool) -> Result<Target, String> {
        self.deeper()?;
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            let ends = (!end.is_empty() && self.is_name(end)) || self.is_op(")") || self.is_op("=");
            if ends || matches!(self.peek(), Some(Kind::BlockEnd)) {
                break;
            }
            if self.skip_op("(") {
                targets.push(self.target("", true, attributes)?);
                self.expect_op(")")?;
            } else {
                let name = self.name()?;
                if matches!(name.as_ref(), "true" | "false" | "none" | "True" | "False" | "None") {
                    return self.fail("can't assign to 'const'");
                }
                targets.push(if attributes && self.skip_op(".") {
                    Target::Attribute { name, slot: Slot::default(), attribute: self.name()? }
                } else {
                    Target::Name { name, slot: Slot::default() }
                });
            }
            if !tuples || !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        self.depth -= 1;
        match targets.pop() {
            Some(target) if !is_tuple && targets.is_empty() => Ok(target),
            Some(target) => {
                targets.push(target);
                Ok(Target::Tuple(targets))
            }
            None => self.fail("expected a name to assign to"),
        }
    }
}

/// Whether a loop assigns to its own `loop`.
fn stores_loop(target: &Target, body: &[Stmt], otherwise: &[Stmt]) -> bool {
    fn is_loop(target: &Target) -> bool {
        match target {
            Target::Name { name, .. } => name.as_ref() == "loop",
            Target::Tuple(items) => items.iter().any(is_loop),
            Target::Attribute { .. } => false,
        }
    }
    fn any(body: &[Stmt]) -> bool {
        body.iter().any(|statement| match &statement.kind {
            StmtKind::Set { target, .. } => is_loop(target),
            StmtKind::SetBlock { target, body, .. } => is_loop(target) || any(body),
            StmtKind::If { branches, otherwise } => {
                branches.iter().any(|(_, body)| any(body)) || any(otherwise)
            }
            StmtKind::For(each) => any(&each.body) || any(&each.otherwise),
            StmtKind::With { body, .. } | StmtKind::FilterBlock { body, .. } => any(body),
            StmtKind::CallBlock { function, .. }
            | StmtKind::Generation(function)
            | StmtKind::Macro { function, .. } => any(&function.body),
            _ => false,
        })
    }
    is_loop(target) || any(body) || any(otherwise)
}
