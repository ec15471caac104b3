//! Requests in every shape for which a match must be right, all from one seed.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use warmpath_core::model::Model;
use warmpath_core::request::{self, Api};

/// Pieces of text that tokenizers treat differently: words, digits, code, white space, composed and decomposed
/// letters, other scripts, a special token's text.
#[rustfmt::skip] // It would give each piece a line.
const PIECES: [&str; 40] = [
    "route", " the", " request", " to", " that", " pod", " cache", " block", " prefix", " which", " holds", " longest",
    " don't", " we'll", "def f(x):\n    return x", " self._value", "==", " 1024", "7", " 3.14159", "\n", "\n\n", "  ",
    "\t", " ", " naïve", " café", " cafe\u{301}", " Straße", " größer", "日本語", " テスト", "🙂", " привет", " ≤",
    "<|im_end|>", "_", "...", " -->", " {\"key\": [1, 2]}",
];

/// Tenants whose cache vLLM keeps apart.
const SALTS: [&str; 2] = ["tenant-a", "tenant-b"];
/// Requests that a repeat or an extension usually goes back by: they are mostly still cached, some in part.
const RECENT: usize = 8;
/// Longest prompt in tokens that a new one is derived from; a derived one may be up to half as long again.
const DERIVE_TOKENS_MAX: usize = 1000;
/// Token ids to make prompts of: neither the first bytes nor the special tokens at the end.
const IDS: std::ops::Range<u32> = 300..4000;

/// How a request relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    /// Shares nothing but what all prompts share.
    New,
    /// As long as a whole number of blocks.
    ExactMultiple,
    /// At most one block: nothing of it can be cached.
    Short,
    /// The same body again.
    Repeat,
    /// An earlier prompt and more.
    Extension,
    /// An earlier prompt up to somewhere, then something else.
    Branch,
    /// An earlier prompt, and the tokens that the model answered with, and more.
    Continuation,
    /// An earlier prompt under another cache salt, or under none.
    Resalted,
}

impl Relation {
    /// All, with how often each comes in a hundred.
    const SHARES: [(Self, usize); 8] = [
        (Self::New, 14),
        (Self::ExactMultiple, 12),
        (Self::Short, 4),
        (Self::Repeat, 24),
        (Self::Extension, 18),
        (Self::Branch, 11),
        (Self::Continuation, 8),
        (Self::Resalted, 9),
    ];
}

/// A prompt, in the form that it is sent in.
#[derive(Clone, Debug)]
enum Prompt {
    Text(String),
    Ids(Vec<u32>),
    /// Roles and contents; each content in one or more text parts.
    Chat(Vec<(&'static str, Vec<String>)>),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) relation: Relation,
    pub(crate) salt: Option<&'static str>,
    prompt: Prompt,
    output_tokens: u32,
}

impl Request {
    /// Its API, and the form of its prompt.
    pub(crate) fn form(&self) -> &'static str {
        match &self.prompt {
            Prompt::Text(_) => "completion, text",
            Prompt::Ids(_) => "completion, ids",
            Prompt::Chat(_) => "chat",
        }
    }

    pub(crate) fn path(&self) -> &'static str {
        match &self.prompt {
            Prompt::Chat(_) => "/v1/chat/completions",
            _ => "/v1/completions",
        }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"model": "demo", "max_tokens": self.output_tokens, "return_token_ids": true});
        match &self.prompt {
            Prompt::Text(text) => body["prompt"] = json!(text),
            Prompt::Ids(ids) => body["prompt"] = json!(ids),
            Prompt::Chat(messages) => body["messages"] = messages.iter().map(message).collect(),
        }
        if let Some(salt) = self.salt {
            body["cache_salt"] = json!(salt);
        }
        body
    }
}

fn message((role, parts): &(&'static str, Vec<String>)) -> Value {
    match parts.as_slice() {
        [only] => json!({"role": role, "content": only}),
        parts => {
            let parts: Value = parts.iter().map(|text| json!({"type": "text", "text": text})).collect();
            json!({"role": role, "content": parts})
        }
    }
}

/// A request that was answered, and the token ids on both sides, as vLLM told them.
struct Answered {
    request: Request,
    prompt_ids: Vec<u32>,
    output_ids: Vec<u32>,
}

/// Makes requests; what was answered is what later ones are derived from.
pub(crate) struct Workload {
    random: fastrand::Rng,
    model: Model,
    answered: Vec<Answered>,
}

impl Workload {
    pub(crate) fn new(seed: u64, model: Model) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), model, answered: Vec::new() }
    }

    /// The token ids of a request's prompt, by the code that the filter runs.
    pub(crate) fn tokens(&self, request: &Request) -> Result<Vec<u32>> {
        let api = Api::from_path(request.path()).context("no such API")?;
        let parsed = request::parse(api, request.body().to_string().as_bytes())?;
        Ok(self.model.tokens(&parsed, None)?.ids)
    }

    /// Remember an answer.
    pub(crate) fn answered(&mut self, request: Request, prompt_ids: Vec<u32>, output_ids: Vec<u32>) {
        self.answered.push(Answered { request, prompt_ids, output_ids });
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Result<Request> {
        let mut point = self.random.usize(0..100);
        let (relation, _) = Relation::SHARES
            .into_iter()
            .find(|(_, share)| point.checked_sub(*share).map(|rest| point = rest).is_none())
            .context("the shares are not a hundred")?;
        let derived = match relation {
            Relation::New | Relation::ExactMultiple | Relation::Short => None,
            _ => self.earlier(),
        };
        match (relation, derived) {
            (Relation::ExactMultiple, _) => self.exact_multiple(),
            (Relation::Short, _) => Ok(self.fresh(Relation::Short, 1, 2)),
            (_, None) => Ok(self.fresh(Relation::New, 20, 250)),
            (relation, Some(at)) => Ok(self.derive(relation, at)),
        }
    }

    /// An earlier request that is short enough to become longer; mostly a recent one.
    fn earlier(&mut self) -> Option<usize> {
        let count = self.answered.len();
        let oldest = if self.random.u8(0..4) > 0 { count.saturating_sub(RECENT) } else { 0 };
        let short = |at: &usize| self.answered[*at].prompt_ids.len() <= DERIVE_TOKENS_MAX;
        let candidates: Vec<usize> = (oldest..count).filter(short).collect();
        self.random.choice(candidates)
    }

    fn fresh(&mut self, relation: Relation, least: usize, most: usize) -> Request {
        let pieces = self.random.usize(least..=most);
        let prompt = match self.random.u8(0..3) {
            0 => Prompt::Text(self.text(pieces)),
            1 => Prompt::Ids(self.ids(pieces)),
            // The template's own text alone is more than a short prompt may have.
            _ if relation == Relation::Short => Prompt::Text(self.text(pieces)),
            _ => Prompt::Chat(self.messages(pieces)),
        };
        let salt = if self.random.u8(0..5) == 0 { self.random.choice(SALTS) } else { None };
        // Now and then long enough to fill a block while decoding.
        let output_tokens =
            if self.random.u8(0..4) == 0 { self.random.u32(20..60) } else { self.random.u32(1..4) };
        Request { relation, salt, prompt, output_tokens }
    }

    /// A new prompt, made longer until its last block is full.
    fn exact_multiple(&mut self) -> Result<Request> {
        let mut request = self.fresh(Relation::ExactMultiple, 20, 200);
        let block = self.model.definition().block_tokens as usize;
        while self.tokens(&request)?.len() % block != 0 {
            let word = self.text(1);
            match &mut request.prompt {
                Prompt::Text(text) => text.push_str(&word),
                Prompt::Ids(ids) => ids.push(self.random.u32(IDS)),
                Prompt::Chat(messages) => {
                    let (_, parts) = messages.last_mut().context("a chat without messages")?;
                    parts.last_mut().context("a message without parts")?.push_str(&word);
                }
            }
        }
        Ok(request)
    }

    fn derive(&mut self, relation: Relation, at: usize) -> Request {
        let more = self.random.usize(1..100);
        let (text, ids, turns) = (self.text(more), self.ids(more), self.messages(more));
        let Answered { request, prompt_ids, output_ids } = &self.answered[at];
        let mut request = Request { relation, ..request.clone() };
        match relation {
            Relation::Extension => match &mut request.prompt {
                Prompt::Text(old) => old.push_str(&text),
                Prompt::Ids(old) => old.extend(ids),
                Prompt::Chat(old) => old.extend([("assistant", vec![text])].into_iter().chain(turns)),
            },
            Relation::Branch => {
                let kept = self.random.f64();
                let kept_of = |length: usize| (kept * length as f64) as usize;
                request.prompt = match &request.prompt {
                    Prompt::Text(old) => Prompt::Text(
                        old.chars().take(kept_of(old.chars().count())).collect::<String>() + &text,
                    ),
                    _ => Prompt::Ids([&prompt_ids[..kept_of(prompt_ids.len())], &ids].concat()),
                };
            }
            Relation::Continuation => {
                request.prompt = Prompt::Ids([prompt_ids.as_slice(), output_ids, &ids].concat());
            }
            Relation::Resalted => {
                let others =
                    [None, Some(SALTS[0]), Some(SALTS[1])].into_iter().filter(|salt| *salt != request.salt);
                request.salt = self.random.choice(others.collect::<Vec<_>>()).flatten();
            }
            _ => {}
        }
        request
    }

    fn text(&mut self, pieces: usize) -> String {
        (0..pieces).map(|_| PIECES[self.random.usize(0..PIECES.len())]).collect()
    }

    fn ids(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.random.u32(IDS)).collect()
    }

    /// A conversation of about that many pieces, that ends with the user.
    fn messages(&mut self, pieces: usize) -> Vec<(&'static str, Vec<String>)> {
        let mut messages = Vec::new();
        if self.random.bool() {
            messages.push(("system", self.parts(pieces / 4)));
        }
        if self.random.bool() {
            messages.push(("user", self.parts(pieces / 4)));
            messages.push(("assistant", self.parts(pieces / 4)));
        }
        messages.push(("user", self.parts(pieces / 2)));
        messages
    }

    fn parts(&mut self, pieces: usize) -> Vec<String> {
        let count = if self.random.u8(0..3) == 0 { 3 } else { 1 };
        (0..count).map(|_| self.text(pieces / count + 1)).collect()
    }
}
