//! Our tokenizer runtime against the crate `tokenizers`, over generated strings.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use warmpath_core::tokenizer::check::{Mismatch, compare_at};
use warmpath_core::tokenizer::strings::Strings;
use warmpath_core::tokenizer::{HfTokenizer, Runtime, compile};

/// Differences that are kept; all are counted.
const KEPT: usize = 20;
/// Strings between two reports of progress, and that a thread takes at a time.
const STEP: usize = 1_000;

/// How much is compared.
#[derive(Clone, Copy)]
pub struct Options {
    /// Strings of each tokenizer.
    pub strings: usize,
    /// Their seed.
    pub seed: u64,
    /// Threads; in Wasm there is one.
    pub threads: usize,
}

/// What came of one tokenizer.
pub struct Differences {
    /// Its name.
    pub name: String,
    /// Seed of the strings.
    pub seed: u64,
    /// Strings that were compared.
    pub strings: usize,
    /// Strings that differ.
    pub count: usize,
    /// The first of them, by position.
    pub first: Vec<Mismatch>,
    /// Why nothing was compared: the runtime refuses the file.
    pub refused: Option<String>,
}

/// Compares over all strings; `progress` is told how many are done.
///
/// # Errors
/// When the oracle does not read the file.
pub fn run(
    name: &str,
    tokenizer_json: &[u8],
    options: Options,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Differences, String> {
    let strings = Strings::of(tokenizer_json, options.seed);
    let mut found = Differences {
        name: name.to_owned(),
        seed: options.seed,
        strings: 0,
        count: 0,
        first: Vec::new(),
        refused: None,
    };
    let asset = match compile(tokenizer_json) {
        Ok(asset) => asset,
        Err(refused) => {
            found.refused = Some(refused.to_string());
            return Ok(found);
        }
    };
    let next = AtomicUsize::new(0);
    let part = || -> Result<(usize, Vec<Mismatch>), String> {
        // Instances of its own: a shared cache behind a lock would make the threads wait for each other.
        let oracle = HfTokenizer::from_json(tokenizer_json)?;
        let ours = Runtime::load(asset.clone()).map_err(|error| error.to_string())?;
        let (mut count, mut kept) = (0, Vec::new());
        loop {
            let start = next.fetch_add(STEP, Ordering::Relaxed);
            if start >= options.strings {
                return Ok((count, kept));
            }
            for position in start..(start + STEP).min(options.strings) {
                if let Err(mismatch) = compare_at(&oracle, &ours, &strings, position) {
                    count += 1;
                    if kept.len() < KEPT {
                        kept.push(*mismatch);
                    }
                }
            }
            progress((start + STEP).min(options.strings));
        }
    };
    let parts: Vec<_> = if options.threads > 1 {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..options.threads).map(|_| scope.spawn(part)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
                .collect()
        })
    } else {
        vec![part()]
    };
    for part in parts {
        let (count, kept) = part?;
        found.count += count;
        found.first.extend(kept);
    }
    found.strings = options.strings;
    found.first.sort_by_key(|mismatch| mismatch.position);
    found.first.truncate(KEPT);
    Ok(found)
}

impl Differences {
    /// As one line, and one more for each difference that is kept.
    pub fn text(&self) -> String {
        let Self { name, seed, strings, count, first, refused } = self;
        let mut lines = vec![match refused {
            Some(why) => format!("{name}: skipped, the runtime does not serve it: {why}"),
            None => format!("{name}: {strings} strings, {count} differences, seed {seed}"),
        }];
        lines.extend(first.iter().map(|mismatch| format!("  {mismatch}")));
        lines.join("\n")
    }

    /// As JSON: `{tokenizer, seed, strings, differences, refused, first: [text]}`.
    pub fn json(&self) -> Value {
        let first: Vec<String> = self.first.iter().map(ToString::to_string).collect();
        json!({"tokenizer": self.name, "seed": self.seed, "strings": self.strings, "differences": self.count,
               "refused": self.refused, "first": first})
    }
}
