//! Folders of recorded answers of vLLM: every case, equal, different, or skipped with the reason.
//!
//! A folder holds any of `templates/NAME.jinja`, `conversations.jsonl`, `renders/TEMPLATE.jsonl`, `tokens/TOKENIZER.jsonl`
//! and `prompts/MODEL.jsonl` with `prompts/MODEL/{tokenizer_config.json, config.json, chat_template.jinja}`; a second
//! folder holds `NAME.json`, the tokenizers. Any of the files may be gzip'ed. What the rows hold is said where they are
//! read.
//!
//! A case that vLLM answers with an error is equal when we refuse it. A case that vLLM answers and we pass unsteered is
//! skipped: nothing is wrong with it but that it is not steered.

mod prompts;
mod renders;
mod report;
mod tokens;

use std::path::Path;

use anyhow::{Result, bail};

pub use prompts::MAX_MODEL_LEN;
use report::Outcome;
pub use report::{FileReport, Report};

/// The clock of recorded renderings, 2025-07-04 13:05:09 UTC, in seconds since 1970.
pub(crate) const CLOCK: i64 = 1_751_634_309;

/// What to run.
pub struct Golden<'a> {
    /// The folder.
    pub directory: &'a Path,
    /// The folder with the tokenizers.
    pub tokenizers: &'a Path,
    /// `--max-model-len` of the servers that answered `prompts/`.
    pub max_model_len: u32,
}

impl Golden<'_> {
    /// Runs every case.
    ///
    /// # Errors
    /// When the folder has no case at all, or a file is not laid out as it should be.
    pub fn run(&self) -> Result<Report> {
        let mut report = Report::default();
        renders::run(self.directory, &mut report)?;
        tokens::run(self, &mut report)?;
        prompts::run(self, &mut report)?;
        if report.cases() == 0 {
            bail!(
                "{} has no case: none of renders/, tokens/ and prompts/ holds rows",
                self.directory.display()
            );
        }
        Ok(report)
    }
}
