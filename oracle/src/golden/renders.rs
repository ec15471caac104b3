//! `renders/TEMPLATE.jsonl`: what vLLM makes of each of `conversations.jsonl` under `templates/TEMPLATE.jinja`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use warmpath_core::definition::ChatRules;
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api, Prompt};
use warmpath_core::template::{LocalTime, Template};

use super::report::sides;
use super::{FileReport, Outcome, Report};
use crate::files;

/// A body of `/v1/chat/completions`, as it was sent: numbers and duplicate keys would not survive a parser.
#[derive(Deserialize)]
struct Conversation {
    id: String,
    request: Box<RawValue>,
}

/// A conversation under a template.
#[derive(Deserialize)]
struct Row {
    case: String,
    template: String,
    /// HTTP status; `prompt` is there with 200, `error` otherwise.
    status: u16,
    prompt: Option<String>,
    error: Option<Error>,
    /// Variables such as `bos_token`.
    #[serde(default)]
    special_tokens: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Error {
    message: String,
}

pub(super) fn run(directory: &Path, report: &mut Report) -> Result<()> {
    let renders = files::list(&directory.join("renders"), "jsonl")?;
    if renders.is_empty() {
        return Ok(());
    }
    let conversations = match files::find(directory, "conversations", "jsonl") {
        Some(path) => files::rows::<Conversation>(&path)?,
        None => Vec::new(),
    };
    let requests: BTreeMap<&str, &str> =
        conversations.iter().map(|one| (one.id.as_str(), one.request.get())).collect();
    for (name, path) in renders {
        let rows: Vec<Row> = files::rows(&path)?;
        let mut file = FileReport::new(format!("renders/{name}"), "-");
        let mut templates = Templates { directory, compiled: BTreeMap::new() };
        for row in &rows {
            let outcome = match requests.get(row.case.as_str()) {
                None => Outcome::Skipped("conversations.jsonl has no such case".to_owned()),
                Some(body) => match templates.of(row)? {
                    Ok(template) => compare(row, render(template, body)),
                    Err(why) => Outcome::Skipped(why.clone()),
                },
            };
            file.add(&row.case, outcome);
        }
        report.files.push(file);
    }
    Ok(())
}

/// Templates as compiled, by name and special tokens; or why one is not there.
struct Templates<'a> {
    directory: &'a Path,
    compiled: BTreeMap<(String, BTreeMap<String, String>), Result<Template, String>>,
}

impl Templates<'_> {
    fn of(&mut self, row: &Row) -> Result<&Result<Template, String>> {
        let key = (row.template.clone(), row.special_tokens.clone());
        if !self.compiled.contains_key(&key) {
            let compiled = match files::find(&self.directory.join("templates"), &row.template, "jinja") {
                None => Err(format!("templates/{}.jinja is missing", row.template)),
                Some(path) => {
                    let source = String::from_utf8(files::read(&path)?)
                        .with_context(|| format!("{} is not UTF-8", path.display()))?;
                    Template::new(&source, &row.special_tokens, &ChatRules::default())
                        .map_err(|error| format!("the template is refused: {error}"))
                }
            };
            self.compiled.insert(key.clone(), compiled);
        }
        self.compiled.get(&key).context("inserted above")
    }
}

fn render(template: &Template, body: &str) -> Result<String, Pass> {
    let request = request::parse(Api::ChatCompletions, body.as_bytes())?;
    match request.prompt {
        Prompt::Chat(chat) => {
            let now = LocalTime::at(super::CLOCK, 0);
            template.render(&chat, Some(now)).map(|rendered| rendered.text).map_err(|fail| fail.pass())
        }
        _ => Ok(String::new()),
    }
}

fn compare(row: &Row, ours: Result<String, Pass>) -> Outcome {
    match (ours, &row.prompt) {
        (Ok(text), Some(prompt)) if text == *prompt => Outcome::Equal,
        (Ok(text), Some(prompt)) => Outcome::Different(sides(&text, prompt)),
        (Ok(text), None) => {
            let message = row.error.as_ref().map_or("", |error| error.message.as_str());
            let status = row.status;
            Outcome::Different(format!(
                "we render {} characters, vLLM answers {status}: {message}",
                text.len()
            ))
        }
        (Err(pass), Some(_)) => Outcome::Skipped(pass.to_string()),
        (Err(_), None) => Outcome::Equal,
    }
}
