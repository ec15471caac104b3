//! What a rendering writes, and what a block captures of it.

use super::{Flow, Interpreter};
use crate::template::ast::{Args, Expr, Stmt};
use crate::template::fail::{Fail, FailKind, Outcome, refuse};
use crate::template::repr;
use crate::template::value::{Text, Value};

/// What is being written.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) text: String,
    /// Something unknown came after the text; nothing after that is kept.
    cut: bool,
}

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn write(&mut self, text: &str) -> Outcome<()> {
        if self.out.cut {
            return Ok(());
        }
        let Some(left) = self.output_left.checked_sub(text.len()) else {
            return Err(Box::new(Fail { kind: FailKind::Output, message: String::new(), line: 0 }));
        };
        self.output_left = left;
        self.out.text.push_str(text);
        Ok(())
    }

    pub(super) fn write_value(&mut self, value: &Value<'a>) -> Outcome<()> {
        if let Value::Str(text) = value {
            return self.write(text.as_str());
        }
        if let Value::Unknown(start) = value {
            self.write(start)?;
            if self.captures == 0 {
                let message = std::mem::take(&mut self.out.text);
                return Err(Box::new(Fail { kind: FailKind::Cut, message, line: 0 }));
            }
            self.out.cut = true;
            return Ok(());
        }
        let text = self.text_of(value)?;
        self.write(&text)
    }

    /// `str(value)`
    pub(in crate::template) fn text_of(&mut self, value: &Value<'a>) -> Outcome<String> {
        let text = repr::to_str(value)?;
        self.spend_bytes(text.len())?;
        Ok(text)
    }

    /// `str(value)` without copying what is a string.
    pub(in crate::template) fn soft_text(&mut self, value: &Value<'a>) -> Outcome<Text<'a>> {
        match value {
            Value::Str(text) => Ok(text.clone()),
            other => Ok(Text::Owned(self.text_of(other)?.into())),
        }
    }

    /// What is written inside, as a value.
    pub(super) fn capture<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<(Value<'a>, T)> {
        let outer = std::mem::take(&mut self.out);
        self.captures += 1;
        let result = self.deeper(inside)?;
        self.captures -= 1;
        let written = std::mem::replace(&mut self.out, outer);
        self.output_left += written.text.len();
        let value = match written.cut {
            true => Value::Unknown(written.text.into()),
            false => Value::text(written.text),
        };
        Ok((value, result))
    }

    /// What a block's body writes.
    pub(super) fn captured(&mut self, body: &'a [Stmt]) -> Outcome<Value<'a>> {
        let (value, flow) = self.capture(|this| this.exec(body))?;
        if flow == Flow::Next {
            Ok(value)
        } else {
            Err(refuse("leaving a loop from a block that captures its text"))
        }
    }

    /// The filters of a filter block, over its text.
    pub(super) fn filter_text(&mut self, text: Value<'a>, filter: Option<&'a Expr>) -> Outcome<Value<'a>> {
        match filter {
            Some(Expr::Filter(apply)) => {
                let value = match &apply.node {
                    Some(inner) => self.filter_text(text, Some(inner))?,
                    None => text,
                };
                let args = self.args(&apply.args)?;
                self.filter(&apply.name, value, args)
            }
            _ => Ok(text),
        }
    }
}

/// What is printed: `safe` at the end marks a text as HTML, which changes nothing where it goes no further.
pub(super) fn printed(expr: &Expr) -> &Expr {
    match expr {
        Expr::Filter(apply) if apply.name.as_ref() == "safe" && apply.args == Args::default() => {
            apply.node.as_ref().map_or(expr, printed)
        }
        _ => expr,
    }
}
