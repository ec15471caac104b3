//! The two forms in which templates expect a message's content, and which one a template expects.
//!
//! vLLM looks whether the template loops over a message's content (`_detect_content_format` in `renderers/hf.py`);
//! if so, content is a list of parts for it, else one string. The same walk over the same syntax tree is done here.

use minijinja::machinery::ast::{CallArg, Expr, Macro};
use serde_json::{Map, Value, json};

use super::tree::{Loop, Tree};

/// How a template wants content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContentFormat {
    /// One string.
    String,
    /// A list of `{"type": "text", "text": ...}`.
    OpenAi,
}

/// Messages as the template gets them, from [`crate::request::Chat::messages`].
pub(super) fn shape(messages: &[Value], format: ContentFormat) -> Vec<Value> {
    messages.iter().map(|message| shape_message(message, format)).collect()
}

fn shape_message(message: &Value, format: ContentFormat) -> Value {
    let Value::Object(message) = message else {
        return message.clone();
    };
    let tool = message.get("role").and_then(Value::as_str) == Some("tool");
    let shaped = message.iter().map(|(key, value)| {
        let value = if key == "content" { shape_content(value, format, tool) } else { value.clone() };
        (key.clone(), value)
    });
    Value::Object(shaped.collect::<Map<_, _>>())
}

/// A tool's content is always one string; there, with a template that loops over content, empty parts count.
fn shape_content(content: &Value, format: ContentFormat, tool: bool) -> Value {
    let parts: &[Value] = match content {
        Value::Array(parts) => parts,
        _ => &[],
    };
    let texts = || parts.iter().filter_map(|part| part.get("text")?.as_str());
    match (content, format) {
        (Value::String(text), ContentFormat::OpenAi) if !tool => json!([{"type": "text", "text": text}]),
        (Value::String(text), _) => json!(text),
        (_, ContentFormat::OpenAi) if tool => json!(texts().collect::<Vec<_>>().join("\n")),
        (_, ContentFormat::OpenAi) => json!(parts),
        (_, ContentFormat::String) => {
            json!(texts().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Which form a template expects.
pub(super) fn detect(tree: &Tree<'_, '_>) -> ContentFormat {
    if tree.loops_over_content().unwrap_or(false) { ContentFormat::OpenAi } else { ContentFormat::String }
}

/// vLLM gives up, and takes "string", where it meets an assignment or a loop to more than one name.
struct NotOneName;

impl<'s> Tree<'_, 's> {
    fn loops_over_content(&self) -> Result<bool, NotOneName> {
        let names = self.message_names()?;
        let is_content = |expr: &Expr<'_>| names.iter().any(|name| reads(expr, name, Some("content")));
        for Loop { target, iter, inside } in &self.loops {
            let by_name = match (iter, inside) {
                (Expr::Var(var), None) => var.id == "content",
                (Expr::Var(var), Some(inside)) => self.gets_content(inside, var.id, &is_content),
                _ => false,
            };
            if by_name || is_content(iter) {
                return name_of(target).map(|_| true);
            }
        }
        Ok(false)
    }

    /// Names of loop variables that are a message.
    fn message_names(&self) -> Result<Vec<&'s str>, NotOneName> {
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
            self.loops.iter().filter(|each| aliases.iter().any(|alias| reads(each.iter, alias, None)));
        over_messages.map(|each| name_of(each.target)).collect()
    }

    /// Whether some call of `callee` hands a message's content to its parameter `name`.
    fn gets_content(&self, callee: &Macro<'_>, name: &str, is_content: &dyn Fn(&Expr<'_>) -> bool) -> bool {
        let is_name =
            |parameter: Option<&Expr<'_>>| matches!(parameter, Some(Expr::Var(var)) if var.id == name);
        let calls =
            self.calls.iter().filter(|call| matches!(&call.expr, Expr::Var(var) if var.id == callee.name));
        calls.flat_map(|call| call.args.iter().enumerate()).any(|(at, arg)| match arg {
            CallArg::Pos(value) => is_name(callee.args.get(at)) && is_content(value),
            CallArg::Kwarg(key, value) => {
                *key == name
                    && callee.args.iter().any(|parameter| is_name(Some(parameter)))
                    && is_content(value)
            }
            _ => false,
        })
    }
}

/// Whether `expr` is the variable `name`, or its attribute `key`, perhaps sliced, filtered or tested.
fn reads(expr: &Expr<'_>, name: &str, key: Option<&str>) -> bool {
    let is_name = |expr: &Expr<'_>| matches!(expr, Expr::Var(var) if var.id == name);
    match (expr, key) {
        (Expr::Filter(filter), _) => filter.expr.as_ref().is_some_and(|expr| reads(expr, name, key)),
        (Expr::Test(test), _) => reads(&test.expr, name, key),
        (Expr::Slice(slice), _) => reads(&slice.expr, name, key),
        (expr, None) => is_name(expr),
        (Expr::GetAttr(get), Some(key)) => get.name == key && is_name(&get.expr),
        (Expr::GetItem(get), Some(key)) => {
            let is_key =
                matches!(&get.subscript_expr, Expr::Const(key_of) if key_of.value.as_str() == Some(key));
            is_key && is_name(&get.expr)
        }
        _ => false,
    }
}

fn name_of<'s>(target: &Expr<'s>) -> Result<&'s str, NotOneName> {
    match target {
        Expr::Var(var) => Ok(var.id),
        _ => Err(NotOneName),
    }
}
