//! The demo's requests: chats of a few teams, each with a long system prompt that all its requests share.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use warmpath_core::block::{self, BlockKey, KeySpace};
use warmpath_core::definition::ModelDefinition;
use warmpath_core::model::Model;
use warmpath_core::request::{self, Api};
use warmpath_core::tokenizer::HfTokenizer;
use warmpath_harness::ModelFiles;
use warmpath_harness::load::Job;

/// Teams, each with a prefix of its own.
pub(crate) const TEAMS: usize = 15;
/// Requests of each team. The first one finds no cache anywhere, so more than ten keep it out of the 90th percentile.
const REQUESTS_PER_TEAM: usize = 15;
/// Words in a team's system prompt: about 2,300 tokens of this tokenizer.
const PREFIX_WORDS: usize = 1_400;
/// Words in a question.
const QUESTION_WORDS: usize = 24;
/// Tokens that each answer has.
const ANSWER_TOKENS: u32 = 16;

/// Blocks in one pod's cache: the prefixes of all teams need about twice as many, those of a third fit well.
pub(crate) const GPU_BLOCKS: u32 = 256;

const WORDS: &[&str] = &[
    "the", "cache", "of", "a", "pod", "holds", "every", "block", "that", "its", "requests", "have", "filled",
    "until", "another", "one", "needs", "room", "and", "then", "oldest", "leaves", "first", "when", "two",
    "prompts", "begin", "with", "same", "words", "second", "can", "use", "what", "is", "there", "already",
    "so", "it", "answers", "sooner", "while", "gateway", "knows", "which", "server", "has", "longest",
    "part", "sends", "request", "to", "that", "place",
];

/// The requests in their order, and what a perfect cache could serve of them.
pub(crate) struct Workload {
    /// Requests, in the order in which they are sent.
    pub(crate) jobs: Vec<Job>,
    /// Prompt tokens of all requests.
    pub(crate) prompt_tokens: usize,
    /// Those in full leading blocks that an earlier request has sent already.
    pub(crate) shareable_tokens: usize,
    /// Blocks that the teams' prefixes fill, all together.
    pub(crate) prefix_blocks: usize,
}

impl Workload {
    /// The demo's workload for a model; the same one every time.
    ///
    /// # Errors
    /// When the model's files cannot be read, or a request is one that Warmpath would not key.
    pub(crate) fn make(files: &ModelFiles) -> Result<Self> {
        let model = load(files)?;
        let mut random = Random(7);
        let systems: Vec<String> =
            (0..TEAMS).map(|team| format!("You help team {team}. {}", random.words(PREFIX_WORDS))).collect();
        let mut ledger = Ledger::default();
        let mut jobs = Vec::new();
        let mut prompt_tokens = 0;
        for round in 0..REQUESTS_PER_TEAM {
            for team in random.shuffled(TEAMS) {
                let question = format!("Question {round} of team {team}: {}?", random.words(QUESTION_WORDS));
                let body = json!({
                    "model": files.name,
                    "messages": [
                        {"role": "system", "content": systems[team]},
                        {"role": "user", "content": question},
                    ],
                    "max_tokens": ANSWER_TOKENS,
                    "stream": true,
                });
                let tokens = tokens(&model, &body)?;
                prompt_tokens += tokens.len();
                ledger.send(&tokens, files.block_tokens as usize);
                jobs.push(Job { path: "/v1/chat/completions", body });
            }
        }
        Ok(Workload {
            jobs,
            prompt_tokens,
            shareable_tokens: ledger.shareable_tokens,
            prefix_blocks: ledger.shared.len(),
        })
    }
}

/// Books over the blocks of all prompts sent so far. Ours alone: what pods really serve from cache is read from them.
#[derive(Default)]
struct Ledger {
    sent: HashSet<BlockKey>,
    /// Blocks that more than one request has sent.
    shared: HashSet<BlockKey>,
    shareable_tokens: usize,
}

impl Ledger {
    fn send(&mut self, tokens: &[u32], block_tokens: usize) {
        let root = KeySpace { seed: 0, model: "demo", lora: None, salt: None }.root();
        let keys = block::chain(root, tokens, block_tokens);
        // No engine reuses the block that holds a prompt's last token.
        let usable = &keys[..keys.len().min(block::matchable_blocks(tokens.len(), block_tokens))];
        let known = usable.iter().take_while(|key| self.sent.contains(key)).count();
        self.shareable_tokens += known * block_tokens;
        self.shared.extend(&usable[..known]);
        self.sent.extend(keys);
    }
}

/// The model as the sidecar defines it, as far as token ids depend on that.
fn load(files: &ModelFiles) -> Result<Model> {
    let read =
        |path: &std::path::Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let definition = ModelDefinition {
        name: files.name.clone(),
        served_names: vec![files.name.clone()],
        default: true,
        block_tokens: files.block_tokens,
        max_model_len: Some(files.max_model_len),
        ..ModelDefinition::default()
    };
    let template =
        String::from_utf8(read(&files.chat_template)?).context("the chat template is not UTF-8")?;
    let tokenizer = HfTokenizer::from_json(&read(&files.tokenizer)?).map_err(anyhow::Error::msg)?;
    Ok(Model::load(definition, Box::new(tokenizer), Some(&template))?)
}

fn tokens(model: &Model, body: &serde_json::Value) -> Result<Vec<u32>> {
    request::parse(Api::ChatCompletions, body.to_string().as_bytes())
        .and_then(|request| Ok(model.tokens(&request, None)?.ids))
        .map_err(|pass| anyhow!("a request of the demo would not be keyed: {pass:?}"))
}

/// A linear congruential generator (constants of Knuth's MMIX): the workload shall be the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| WORDS[self.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
    }

    /// 0..count in random order (Fisher-Yates).
    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            all.swap(last, self.below(last + 1));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_need_more_than_one_pod_and_fit_into_three() {
        let workload = Workload::make(&ModelFiles::demo()).unwrap();
        let blocks = workload.prefix_blocks as f64;
        let one = f64::from(GPU_BLOCKS);
        assert!(blocks > 1.5 * one, "{blocks} blocks, {one} in a pod");
        assert!(blocks < 3.0 * one * 0.8, "{blocks} blocks, {one} in a pod");
        assert_eq!(workload.jobs.len(), TEAMS * REQUESTS_PER_TEAM);
    }

    #[test]
    fn counts_full_leading_blocks_that_were_sent_before() {
        let mut ledger = Ledger::default();
        ledger.send(&[1, 2, 3, 4, 5], 2);
        assert_eq!(ledger.shareable_tokens, 0);
        // Both full blocks were sent; the fifth token is in no full one.
        ledger.send(&[1, 2, 3, 4, 6], 2);
        assert_eq!(ledger.shareable_tokens, 4);
        // The same blocks, but the second one now holds the last token.
        ledger.send(&[1, 2, 3, 4], 2);
        assert_eq!(ledger.shareable_tokens, 6);
        // Another beginning: what follows is another prefix.
        ledger.send(&[9, 2, 3, 4, 6], 2);
        assert_eq!(ledger.shareable_tokens, 6);
        assert_eq!(ledger.shared.len(), 2);
    }
}
