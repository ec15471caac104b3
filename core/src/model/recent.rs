//! Prompts seen before, with their keys: the repeat of a prompt is neither rendered nor tokenized again.
//!
//! A prompt is known by everything that its keys are made of ([`Spelled`]), which is compared in full. Cost: one copy of
//! the prompt's texts, and where one of the same length was seen, one comparison.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::PromptKeys;
use super::spelled::Spelled;
use crate::tokenizer::same_bytes;

/// Bytes of all prompts and keys that are kept: some seven chats of 14,000 tokens.
const BYTES_MAX: usize = 512 << 10;
/// A prompt that takes more would leave room for hardly any other.
const PROMPT_BYTES_MAX: usize = BYTES_MAX / 2;
/// A shorter prompt is keyed as quickly as it is looked for.
const PROMPT_BYTES_MIN: usize = 1 << 10;
/// Prompts that are kept at most: as many lengths are compared.
const PROMPTS_MAX: usize = 64;

/// The prompts, latest last.
#[derive(Default)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
    /// Bytes of prompts that were found.
    hit_bytes: AtomicU64,
}

#[derive(Default)]
struct Kept {
    prompts: VecDeque<(Vec<u8>, PromptKeys)>,
    bytes: usize,
}

fn size(prompt: &[u8], keys: &PromptKeys) -> usize {
    prompt.len() + size_of_val(keys.keys.as_slice())
}

impl Recent {
    /// Keys of a prompt that is spelled so.
    pub(super) fn find(&self, prompt: &Spelled) -> Option<PromptKeys> {
        let Spelled(prompt) = prompt;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.prompts.iter().rposition(|(known, _)| same_bytes(known, prompt))?;
        // What is asked for stays.
        let found = kept.prompts.remove(at)?;
        let keys = found.1.clone();
        kept.prompts.push_back(found);
        self.hit_bytes.fetch_add(prompt.len() as u64, Ordering::Relaxed);
        Some(keys)
    }

    /// Keeps the keys of a prompt, in the place of the one that was longest not asked for.
    pub(super) fn keep(&self, prompt: Spelled, keys: &PromptKeys) {
        let Spelled(mut prompt) = prompt;
        let bytes = size(&prompt, keys);
        if prompt.len() < PROMPT_BYTES_MIN || bytes > PROMPT_BYTES_MAX {
            return;
        }
        prompt.shrink_to_fit();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.bytes + bytes > BYTES_MAX || kept.prompts.len() >= PROMPTS_MAX {
            let Some((prompt, keys)) = kept.prompts.pop_front() else { break };
            kept.bytes -= size(&prompt, &keys);
        }
        kept.bytes += bytes;
        kept.prompts.push_back((prompt, keys.clone()));
    }

    /// Bytes of prompts that were found, and bytes that are kept.
    pub(super) fn stats(&self) -> [u64; 2] {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).bytes as u64;
        [self.hit_bytes.load(Ordering::Relaxed), kept]
    }
}
