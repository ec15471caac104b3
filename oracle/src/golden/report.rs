//! What came of the cases.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

/// What came of one case.
pub(super) enum Outcome {
    /// Ours is the reference's.
    Equal,
    /// It is not; both sides.
    Different(String),
    /// It was not compared, and why.
    Skipped(String),
}

/// What came of one file's cases.
pub struct FileReport {
    /// Its path in the folder without the endings, such as `tokens/qwen3`.
    pub file: String,
    /// What it was run with.
    pub engine: String,
    /// Cases that are equal.
    pub equal: usize,
    /// Names of the cases that differ, with both sides.
    pub different: Vec<(String, String)>,
    /// Names of the cases that were not compared, by reason.
    pub skipped: BTreeMap<String, Vec<String>>,
}

impl FileReport {
    /// No case yet.
    pub(super) fn new(file: String, engine: impl Into<String>) -> Self {
        Self { file, engine: engine.into(), equal: 0, different: Vec::new(), skipped: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, case: &str, outcome: Outcome) {
        match outcome {
            Outcome::Equal => self.equal += 1,
            Outcome::Different(sides) => self.different.push((case.to_owned(), sides)),
            Outcome::Skipped(reason) => self.skipped.entry(reason).or_default().push(case.to_owned()),
        }
    }

    fn skipped_count(&self) -> usize {
        self.skipped.values().map(Vec::len).sum()
    }

    /// All its cases.
    pub fn cases(&self) -> usize {
        self.equal + self.different.len() + self.skipped_count()
    }
}

/// What came of a folder.
#[derive(Default)]
pub struct Report {
    /// Its files.
    pub files: Vec<FileReport>,
}

/// Differences of one file that are printed; `--json` has all.
const SHOWN: usize = 5;
/// Characters of each side of a difference: from a little before the first one that differs.
const SHOWN_CHARS: usize = 300;
const SHOWN_BEFORE: usize = 60;

/// Two texts, from a little before where they part.
pub(super) fn sides(ours: &str, reference: &str) -> String {
    let same = ours.chars().zip(reference.chars()).take_while(|(one, other)| one == other).count();
    let start = same.saturating_sub(SHOWN_BEFORE);
    let part = |text: &str| text.chars().skip(start).take(SHOWN_CHARS).collect::<String>();
    format!("at character {same}: {:?}, reference {:?}", part(ours), part(reference))
}

impl Report {
    /// All cases.
    pub fn cases(&self) -> usize {
        self.files.iter().map(FileReport::cases).sum()
    }

    /// Cases that are equal.
    pub fn equal(&self) -> usize {
        self.files.iter().map(|file| file.equal).sum()
    }

    /// Cases that differ.
    pub fn different(&self) -> usize {
        self.files.iter().map(|file| file.different.len()).sum()
    }

    /// Cases that were not compared.
    pub fn skipped(&self) -> usize {
        self.files.iter().map(FileReport::skipped_count).sum()
    }

    /// Reasons for which cases were not compared, over all files.
    fn reasons(&self) -> BTreeMap<&str, Vec<String>> {
        let mut reasons = BTreeMap::<&str, Vec<String>>::new();
        for file in &self.files {
            for (reason, cases) in &file.skipped {
                let cases = cases.iter().map(|case| format!("{}, {case}", file.file));
                reasons.entry(reason).or_default().extend(cases);
            }
        }
        reasons
    }

    /// As text: a table, then the reasons, then the first differences.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["file", "cases", "equal", "different", "skipped", "with"]);
        for file in &self.files {
            let counts = [file.cases(), file.equal, file.different.len(), file.skipped_count()];
            let mut row = vec![file.file.clone()];
            row.extend(counts.map(|count| count.to_string()));
            row.push(file.engine.clone());
            table.add_row(row);
        }
        let mut lines = vec![table.to_string()];
        for (reason, cases) in self.reasons() {
            let example = cases.first().map_or("", String::as_str);
            lines.push(format!("skipped, {reason}: {} (as {example})", cases.len()));
        }
        for file in &self.files {
            for (case, sides) in file.different.iter().take(SHOWN) {
                let shown: String = sides.chars().take(3 * SHOWN_CHARS).collect();
                lines.push(format!("{}, {case} differs: {shown}", file.file));
            }
        }
        let [cases, equal, different, skipped] =
            [self.cases(), self.equal(), self.different(), self.skipped()];
        lines.push(format!("{cases} cases: {equal} equal, {different} different, {skipped} skipped"));
        lines.join("\n")
    }

    /// As JSON: `{cases, equal, different, skipped, files: [{file, engine, cases, equal, different: [{case, sides}],
    /// skipped: {reason: [case]}}]}`.
    pub fn json(&self) -> Value {
        let files = self.files.iter().map(|file| {
            let different = file.different.iter().map(|(case, sides)| json!({"case": case, "sides": sides}));
            json!({"file": file.file, "engine": file.engine, "cases": file.cases(), "equal": file.equal,
                   "different": different.collect::<Vec<_>>(), "skipped": file.skipped})
        });
        json!({"cases": self.cases(), "equal": self.equal(), "different": self.different(),
               "skipped": self.skipped(), "files": files.collect::<Vec<_>>()})
    }
}
