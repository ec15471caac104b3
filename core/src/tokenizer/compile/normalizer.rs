//! The normalizer of the file.

use serde_json::Value;

use super::super::meta::{Form, Step};
use super::{CompileError, unsupported};

/// What the normalizer does.
pub(super) struct Normalizer {
    pub(super) steps: Vec<Step>,
    /// Replaces spaces by U+2581, as SentencePiece does: no longer among `steps`.
    pub(super) metaspace: bool,
    /// Puts U+2581 in front: no longer among `steps`.
    pub(super) prepended: bool,
}

const METASPACE: &str = "\u{2581}";

pub(super) fn read(normalizer: &Value) -> Result<Normalizer, CompileError> {
    let mut steps = Vec::new();
    push(normalizer, &mut steps)?;
    Ok(Normalizer { steps, metaspace: false, prepended: false })
}

fn push(normalizer: &Value, steps: &mut Vec<Step>) -> Result<(), CompileError> {
    let invalid = |what: &str| CompileError::Invalid(format!("normalizer: {what}: {normalizer}"));
    if normalizer.is_null() {
        return Ok(());
    }
    let text = |field: &str| normalizer.get(field).and_then(Value::as_str);
    steps.push(match text("type").ok_or_else(|| invalid("no type"))? {
        "Sequence" => {
            let parts = normalizer.get("normalizers").and_then(Value::as_array);
            return parts
                .ok_or_else(|| invalid("no normalizers"))?
                .iter()
                .try_for_each(|part| push(part, steps));
        }
        "NFC" => Step::Form(Form::Nfc),
        "NFD" => Step::Form(Form::Nfd),
        "NFKC" => Step::Form(Form::Nfkc),
        "NFKD" => Step::Form(Form::Nfkd),
        "Lowercase" => Step::Lowercase,
        "Prepend" => Step::Prepend(text("prepend").ok_or_else(|| invalid("no text"))?.to_owned()),
        "Replace" => {
            let pattern =
                normalizer.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
            match (pattern, text("content")) {
                (Some(from), Some(to)) if !from.is_empty() => Step::Replace(from.to_owned(), to.to_owned()),
                _ => return unsupported(format!("normalizer {normalizer}; Replace of a text is supported")),
            }
        }
        kind => return unsupported(format!("normalizer {kind}")),
    });
    Ok(())
}

impl Normalizer {
    /// Takes SentencePiece's steps off the end of the list, if they are there: U+2581 for every space, and perhaps one in
    /// front, in either order.
    pub(super) fn take_metaspace(&mut self) -> bool {
        let is_replace = |step: &Step| *step == Step::Replace(" ".to_owned(), METASPACE.to_owned());
        let is_prepend = |step: &Step| *step == Step::Prepend(METASPACE.to_owned());
        let rest = match self.steps.as_slice() {
            [rest @ .., first, second]
                if is_prepend(first) && is_replace(second) || is_replace(first) && is_prepend(second) =>
            {
                self.prepended = true;
                rest.len()
            }
            [rest @ .., last] if is_replace(last) => rest.len(),
            _ => return false,
        };
        self.steps.truncate(rest);
        self.metaspace = true;
        true
    }
}
