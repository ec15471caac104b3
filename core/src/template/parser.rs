//! Tokens to the syntax tree, after jinja2's parser with the extensions `loopcontrols` and `generation`.
//!
//! What a chat template has no use for and jinja2 knows (`block`, `extends`, `include`, `import`, `autoescape`) is
//! refused here. Names are resolved in a second walk (`template/scope.rs`).

use super::ast::{
    Apply, Args, BinOp, Call, CompareOp, Const, Expr, For, Function, LoopTest, Piece, Scope, Slot, Stmt,
    StmtKind, Target,
};
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

    /// Statements up to a block that starts with one of `ends`, whose name is taken and answered; or to the end.
    fn statements(&mut self, ends: &[&str]) -> Result<(Vec<Stmt>, String), String> {
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

    fn tuple(&mut self, conditional: bool) -> Result<Expr, String> {
        self.tuple_until(conditional, None)
    }

    /// An expression, or several separated by commas.
    fn tuple_until(&mut self, conditional: bool, end: Option<&str>) -> Result<Expr, String> {
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

    fn expression(&mut self) -> Result<Expr, String> {
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
    fn chained(&mut self, count: &mut usize) -> Result<(), String> {
        *count += 1;
        if self.depth + *count > 2 * NESTING_MAX { self.fail("too many operators in a row") } else { Ok(()) }
    }

    fn or(&mut self) -> Result<Expr, String> {
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

    fn primary(&mut self) -> Result<Expr, String> {
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

    fn postfix(&mut self, mut node: Expr) -> Result<Expr, String> {
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

    fn filters(&mut self, mut node: Expr) -> Result<Expr, String> {
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
    fn filter(&mut self, mut node: Option<Expr>, inline: bool) -> Result<Option<Expr>, String> {
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
