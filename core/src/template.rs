//! Chat templates: messages to text, as `transformers` renders them for vLLM.
//!
//! Jinja through `minijinja`, set up as `transformers` sets up jinja2 (`_compile_jinja_template` in
//! `utils/chat_template_utils.py`). Where the two engines would print different text, the chat is refused:
//! `template/python.rs` says where. There is no clock here, so a template that calls `strftime_now` is refused when it does.
//!
//! Cost: about 40 µs natively and 70 µs in Wasm for a chat of ten turns and 5 KB.

mod format;
mod python;
mod tree;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use crate::pass::{Pass, PassReason};
use crate::request::Chat;
use format::ContentFormat;
use tree::Tree;

/// Instructions that one rendering may take. A chat of 1,000 messages takes about 100,000 with the templates at hand;
/// at 20 to 50 ns each the limit is reached within 50 ms, for which an Envoy worker stands still.
/// Beyond it the chat passes as [`PassReason::TemplateError`].
pub const TEMPLATE_FUEL: u64 = 1_000_000;

/// Name of the only template in its environment; shows in errors.
const NAME: &str = "chat_template";

/// One model's chat template.
pub struct Template {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
    format: ContentFormat,
}

impl Template {
    /// Compiles a template; `special_tokens` are variables for it, such as `bos_token`.
    pub fn new(source: &str, special_tokens: &BTreeMap<String, String>) -> Result<Self, String> {
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| error.to_string())?;
        let root = tree::parse_template(source, syntax.clone()).map_err(|error| error.to_string())?;
        let tree = Tree::of(&root);
        if let Some(line) = tree.unsafe_slice() {
            return Err(format!(
                "line {line}: a slice with a negative step, of which only messages[::-1] is supported"
            ));
        }
        let format = format::detect(&tree);
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(TEMPLATE_FUEL));
        python::install(&mut environment);
        environment.add_function("raise_exception", |_: Value| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "the template raised an exception"))
        });
        environment.add_function("strftime_now", |_: Value| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "the template asks for the time"))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| error.to_string())?;
        Ok(Self { environment, special_tokens: special_tokens.clone(), format })
    }

    /// Renders a chat. Errors of the template, its own exceptions among them, are [`PassReason::TemplateError`]:
    /// vLLM answers them with status 400.
    pub fn render(&self, chat: &Chat) -> Result<String, Pass> {
        let messages = format::shape(&chat.messages, self.format);
        let tokens =
            self.special_tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
        // Later ones win, as the arguments of vLLM's call win over special tokens. Tools and documents are None for a
        // request without them, not undefined.
        let variables = tokens
            .chain([
                ("messages", Value::from(Serde(&messages))),
                ("tools", Value::from(())),
                ("documents", Value::from(())),
                ("add_generation_prompt", Value::from(chat.add_generation_prompt)),
            ])
            .collect::<BTreeMap<_, _>>();
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from(variables)))
            .map_err(|error| failure(&error))
    }
}

/// What may be told of a template error. Its text may quote the prompt, so only kind and line are.
fn failure(error: &Error) -> Pass {
    let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
    Pass::new(PassReason::TemplateError, format!("{}{line}", error.kind()))
}
