//! `tokens/TOKENIZER.jsonl`: strings and their ids by the Python package `tokenizers`.

use anyhow::Result;
use serde::Deserialize;
use sha1::{Digest, Sha1};
use warmpath_core::tokenizer::{Limits, Tokenizer};

use super::report::sides;
use super::{FileReport, Golden, Outcome, Report};
use crate::engine::Engine;
use crate::files;

/// A string. `ids`, or `n` and `sha1`, are for `add_special_tokens` false; those with `_sp` for true, where it makes a
/// difference.
#[derive(Deserialize)]
struct Row {
    id: u64,
    text: String,
    n: Option<usize>,
    /// SHA-1 in hex of the ids in decimal, joined by commas.
    sha1: Option<String>,
    ids: Option<Vec<u32>>,
    n_sp: Option<usize>,
    sha1_sp: Option<String>,
    ids_sp: Option<Vec<u32>>,
}

/// What is known of the ids of one encoding.
#[derive(Clone, Copy)]
struct Known<'a> {
    n: Option<usize>,
    sha1: Option<&'a str>,
    ids: Option<&'a [u32]>,
}

impl Known<'_> {
    fn says_something(&self) -> bool {
        self.ids.is_some() || self.sha1.is_some()
    }

    /// Whether everything that is known holds for these.
    fn are(&self, ids: &[u32]) -> bool {
        self.n.is_none_or(|n| n == ids.len())
            && self.sha1.is_none_or(|known| known == sha1(ids))
            && self.ids.is_none_or(|known| known == ids)
    }
}

pub(super) fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    for (name, path) in files::list(&golden.directory.join("tokens"), "jsonl")? {
        let rows: Vec<Row> = files::rows(&path)?;
        let engine = match files::find(golden.tokenizers, &name, "json") {
            Some(path) => Engine::of(&files::read(&path)?),
            None => Err(format!("{} has no {name}.json", golden.tokenizers.display())),
        };
        let with = engine.as_ref().map_or("-", |engine| engine.name.as_str());
        let mut file = FileReport::new(format!("tokens/{name}"), with);
        for row in &rows {
            let outcome = match &engine {
                Ok(engine) => compare(&*engine.tokenizer, row),
                Err(why) => Outcome::Skipped(why.clone()),
            };
            file.add(&row.id.to_string(), outcome);
        }
        report.files.push(file);
    }
    Ok(())
}

/// Both ways to encode are one case.
fn compare(tokenizer: &dyn Tokenizer, row: &Row) -> Outcome {
    let plain = Known { n: row.n, sha1: row.sha1.as_deref(), ids: row.ids.as_deref() };
    let special = Known { n: row.n_sp, sha1: row.sha1_sp.as_deref(), ids: row.ids_sp.as_deref() };
    let special = if special.says_something() { special } else { plain };
    if !plain.says_something() {
        return Outcome::Skipped("the row has neither ids nor their SHA-1".to_owned());
    }
    for (add_special_tokens, known) in [(false, plain), (true, special)] {
        let encoded = match tokenizer.encode(&row.text, add_special_tokens, &Limits::NONE) {
            Ok(encoded) => encoded,
            Err(error) => return Outcome::Different(format!("{:?}: {error}", row.text)),
        };
        let right = encoded.complete && known.are(&encoded.ids);
        if !right {
            let ours = format!("{:?}", encoded.ids);
            let reference = match known.ids {
                Some(ids) => format!("{ids:?}"),
                None => {
                    format!("{} ids, SHA-1 {}", known.n.unwrap_or_default(), known.sha1.unwrap_or_default())
                }
            };
            let text: String = row.text.chars().take(200).collect();
            return Outcome::Different(format!(
                "add_special_tokens {add_special_tokens}, {text:?}: {}",
                sides(&ours, &reference)
            ));
        }
    }
    Outcome::Equal
}

fn sha1(ids: &[u32]) -> String {
    let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    hex::encode(Sha1::digest(text))
}
