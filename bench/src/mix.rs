//! Texts of the tokenizer benchmark: a mix of prose, Chinese, code and JSON, a quarter of the bytes each, in paragraphs.
//!
//! English prose and code are this repository's own (comments and Rust), in an order that depends on the seed; Chinese
//! is put together from pieces of one to four characters, so that hardly any run of it comes twice, as in real text; JSON
//! is made of records. Texts of different seeds share words but no paragraphs in the same order.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::vocabulary::Random;

/// Material of a few characters each for Chinese.
const CHINESE: &str = include_str!("../../core/src/tokenizer/strings/chinese.txt");
/// Bytes of one paragraph, about.
const PARAGRAPH: usize = 600;

/// What texts are made of.
pub struct Material {
    prose: Vec<String>,
    code: Vec<String>,
    han: Vec<char>,
}

impl Material {
    /// From the sources of the repository at `root`.
    pub fn of(root: &Path) -> Result<Self> {
        let (mut prose, mut code) = (Vec::new(), Vec::new());
        let mut folders = vec![root.to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() && name != "target" && !name.starts_with('.') {
                    folders.push(path);
                } else if name.ends_with(".rs") || name.ends_with(".md") {
                    files.push(path);
                }
            }
        }
        files.sort();
        for path in files {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            if path.extension().is_some_and(|extension| extension == "md") {
                prose.extend(text.split("\n\n").filter(|part| is_prose(part)).map(str::to_owned));
                continue;
            }
            let is_comment = |line: &&str| line.trim_start().starts_with("//");
            let comments: Vec<&str> = text.lines().filter(is_comment).collect();
            let comments = comments.iter().map(|line| line.trim_start().trim_start_matches(['/', '!', ' ']));
            prose.extend(paragraphs(comments).filter(|part| is_prose(part)));
            code.extend(paragraphs(text.lines().filter(|line| !is_comment(line))));
        }
        if prose.len() < 100 || code.len() < 100 {
            bail!(
                "{} has too little text: {} paragraphs, {} of code",
                root.display(),
                prose.len(),
                code.len()
            );
        }
        let han = CHINESE.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).collect();
        Ok(Self { prose, code, han })
    }

    /// A mixed text of about so many bytes.
    pub fn mix(&self, bytes: usize, seed: u64) -> String {
        let mut random = Random::new(seed);
        let mut text = String::with_capacity(bytes + 4 * PARAGRAPH);
        while text.len() < bytes {
            for part in [Self::prose, Self::chinese, Self::code, Self::json] {
                let start = text.len();
                while text.len() < start + PARAGRAPH {
                    text.push_str(&part(self, &mut random));
                    text.push('\n');
                }
                text.push('\n');
            }
        }
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text
    }

    /// A paragraph of English.
    pub fn prose(&self, random: &mut Random) -> String {
        self.prose[random.below(self.prose.len())].clone()
    }

    fn code(&self, random: &mut Random) -> String {
        self.code[random.below(self.code.len())].clone()
    }

    fn chinese(&self, random: &mut Random) -> String {
        let mut text = String::new();
        while text.len() < PARAGRAPH {
            for _ in 0..2 + random.below(5) {
                let start = random.below(self.han.len() - 4);
                text.extend(&self.han[start..start + 1 + random.below(4)]);
            }
            text.push(['，', '，', '。', '、', '；', '？'][random.below(6)]);
        }
        text
    }

    fn json(&self, random: &mut Random) -> String {
        let words: Vec<&str> = self.prose[random.below(self.prose.len())].split_whitespace().collect();
        let word = |random: &mut Random| words[random.below(words.len())].replace(['"', '\\'], "");
        format!(
            r#"{{"id": {}, "at": "20{:02}-{:02}-{:02}T{:02}:{:02}:00Z", "{}": "{} {}", "score": {}.{}, "tags": ["{}", "{}"], "ok": {}, "next": null}}"#,
            random.below(1_000_000),
            random.below(30),
            1 + random.below(12),
            1 + random.below(28),
            random.below(24),
            random.below(60),
            ["name", "title", "message", "path"][random.below(4)],
            word(random),
            word(random),
            random.below(100),
            random.below(10_000),
            word(random),
            word(random),
            random.below(2) == 0,
        )
    }
}

/// Whether a paragraph is mostly words: tables, lists of links and drawings are not.
fn is_prose(text: &str) -> bool {
    text.len() > 80 && !text.contains('|') && text.is_ascii()
}

/// Lines in groups of about [`PARAGRAPH`] bytes.
fn paragraphs<'t>(lines: impl Iterator<Item = &'t str>) -> impl Iterator<Item = String> {
    let mut lines = lines.peekable();
    std::iter::from_fn(move || {
        lines.peek()?;
        let mut text = String::new();
        while text.len() < PARAGRAPH {
            let Some(line) = lines.next() else { break };
            text.push_str(line);
            text.push('\n');
        }
        Some(text)
    })
}
