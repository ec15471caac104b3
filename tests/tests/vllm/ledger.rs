//! What was predicted for each request beside what vLLM counted for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workload::{Relation, Request};

/// What filter and sidecar decided about a request: one access log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Leading blocks that the picked server was said to hold.
    pub(crate) matched: u64,
    /// Keys that were asked about.
    pub(crate) keys: u64,
    /// The picked server.
    pub(crate) endpoint: SocketAddr,
}

impl Decision {
    /// From filter state `wasm.warmpath_match` (`matched/keys`) and `wasm.warmpath_endpoint`.
    fn parse(matched_of_keys: &str, endpoint: &str) -> Option<Self> {
        let (matched, keys) = matched_of_keys.split_once('/')?;
        Some(Self {
            matched: matched.parse().ok()?,
            keys: keys.parse().ok()?,
            endpoint: endpoint.parse().ok()?,
        })
    }
}

/// The decisions in the access log of the shipped Envoy configuration, by `x-request-id`. A last line that is still
/// being written is left out.
pub(crate) fn decisions(access_log: &str) -> Result<BTreeMap<String, Decision>> {
    let complete = access_log.rfind('\n').map_or("", |end| &access_log[..end]);
    let read = |line: &str| {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let decision = Decision::parse(&text("warmpath_match"), &text("warmpath_endpoint"));
        Ok((text("request_id"), decision.with_context(|| format!("this request was not steered: {line}"))?))
    };
    complete.lines().map(read).collect()
}

/// What became of a request: where it arrived, and what that server's counters moved by.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) relation: Relation,
    pub(crate) form: &'static str,
    pub(crate) salted: bool,
    /// Tokens of the prompt by the code that the filter runs.
    pub(crate) tokens: u64,
    /// The server whose counters moved.
    pub(crate) server: SocketAddr,
    /// Tokens that it looked up.
    pub(crate) queries: u64,
    /// Tokens that it found.
    pub(crate) hits: u64,
}

impl Outcome {
    pub(crate) fn new(
        id: String,
        request: &Request,
        tokens: usize,
        server: SocketAddr,
        queries: u64,
        hits: u64,
    ) -> Self {
        let (relation, form, salted) = (request.relation, request.form(), request.salt.is_some());
        Self { id, relation, form, salted, tokens: tokens as u64, server, queries, hits }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) requests: u64,
    /// Requests of which vLLM found nothing.
    pub(crate) zero: u64,
    /// Requests of which it found some blocks, though not all that it could have.
    pub(crate) part: u64,
    /// Requests of which it found every block that can be found.
    pub(crate) full: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) predicted_tokens: u64,
    pub(crate) hit_tokens: u64,
    /// Requests for which prediction and vLLM's counters differ.
    pub(crate) differences: u64,
}

/// All requests, compared.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) by_relation: BTreeMap<Relation, Row>,
    pub(crate) by_form: BTreeMap<&'static str, Row>,
    pub(crate) by_server: BTreeMap<SocketAddr, Row>,
    pub(crate) salted: Row,
    /// Prompts, of any relation, whose last block is full.
    pub(crate) whole_blocks: Row,
    pub(crate) all: Row,
    /// One line for each request that differs.
    pub(crate) differences: Vec<String>,
}

impl Ledger {
    /// Compare a request's decision with what became of it.
    pub(crate) fn add(&mut self, outcome: &Outcome, decision: Decision, block_tokens: u64) {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, ours: &dyn fmt::Display, vllm: &dyn fmt::Display| {
            let (ours, vllm) = (ours.to_string(), vllm.to_string());
            if ours != vllm {
                wrong.push(format!("{what}: ours {ours}, vLLM's {vllm}"));
            }
        };
        let predicted = decision.matched * block_tokens;
        compare("server", &decision.endpoint, &outcome.server);
        compare("tokens of the prompt", &outcome.tokens, &outcome.queries);
        compare("matchable blocks", &decision.keys, &(outcome.queries.saturating_sub(1) / block_tokens));
        compare("hit tokens", &predicted, &outcome.hits);
        if !wrong.is_empty() {
            let Outcome { id, relation, form, queries, .. } = outcome;
            self.differences
                .push(format!("{id} ({relation:?}, {form}, {queries} tokens): {}", wrong.join("; ")));
        }
        let found = outcome.hits / block_tokens;
        let row = Row {
            requests: 1,
            zero: u64::from(found == 0),
            part: u64::from(found > 0 && found < decision.keys),
            full: u64::from(found > 0 && found >= decision.keys),
            prompt_tokens: outcome.queries,
            predicted_tokens: predicted,
            hit_tokens: outcome.hits,
            differences: u64::from(!wrong.is_empty()),
        };
        self.by_relation.entry(outcome.relation).or_default().add(row);
        self.by_form.entry(outcome.form).or_default().add(row);
        self.by_server.entry(outcome.server).or_default().add(row);
        if outcome.salted {
            self.salted.add(row);
        }
        if outcome.queries.is_multiple_of(block_tokens) {
            self.whole_blocks.add(row);
        }
        self.all.add(row);
    }
}

impl Row {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.zero += other.zero;
        self.part += other.part;
        self.full += other.full;
        self.prompt_tokens += other.prompt_tokens;
        self.predicted_tokens += other.predicted_tokens;
        self.hit_tokens += other.hit_tokens;
        self.differences += other.differences;
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let Self { requests, zero, part, full, prompt_tokens, predicted_tokens, hit_tokens, differences } =
            self;
        writeln!(
            f,
            "{name:22} {requests:>8} {zero:>6} {part:>6} {full:>6} {prompt_tokens:>14} {predicted_tokens:>16} {hit_tokens:>11} {differences:>11}"
        )
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:22} {:>8} {:>6} {:>6} {:>6} {:>14} {:>16} {:>11} {:>11}",
            "",
            "requests",
            "zero",
            "part",
            "full",
            "prompt tokens",
            "predicted hits",
            "vLLM hits",
            "differences"
        )?;
        for (relation, row) in &self.by_relation {
            row.line(f, &format!("{relation:?}"))?;
        }
        writeln!(f)?;
        for (form, row) in &self.by_form {
            row.line(f, form)?;
        }
        self.salted.line(f, "with cache_salt")?;
        self.whole_blocks.line(f, "whole blocks only")?;
        writeln!(f)?;
        for (server, row) in &self.by_server {
            row.line(f, &server.to_string())?;
        }
        self.all.line(f, "all")
    }
}

#[test]
fn a_block_too_much_is_a_difference() {
    let server = "127.0.0.1:8001".parse().unwrap();
    let outcome = |hits| Outcome {
        id: "1".to_owned(),
        relation: Relation::Repeat,
        form: "chat",
        salted: false,
        tokens: 97,
        server,
        queries: 97,
        hits,
    };
    let mut ledger = Ledger::default();
    let decision = Decision::parse("2/3", "127.0.0.1:8001").unwrap();
    ledger.add(&outcome(64), decision, 32);
    assert_eq!(ledger.differences, Vec::<String>::new());
    assert_eq!((ledger.all.part, ledger.all.zero), (1, 0));
    ledger.add(&outcome(32), decision, 32);
    assert_eq!(ledger.differences, ["1 (Repeat, chat, 97 tokens): hit tokens: ours 64, vLLM's 32"]);
    ledger.add(&outcome(64), Decision::parse("2/2", "127.0.0.1:8002").unwrap(), 32);
    assert_eq!(ledger.differences.len(), 2);
    assert_eq!(ledger.all.differences, 2);
}

#[test]
fn a_request_that_was_not_steered_is_an_error() {
    let steered = r#"{"request_id":"a","warmpath_reason":"steered","warmpath_match":"0/0","warmpath_endpoint":"127.0.0.1:1"}"#;
    assert_eq!(decisions(&format!("{steered}\n{{\"requ")).unwrap()["a"].matched, 0);
    let passed =
        r#"{"request_id":"b","warmpath_reason":"path","warmpath_match":null,"warmpath_endpoint":null}"#;
    assert!(decisions(&format!("{steered}\n{passed}\n")).unwrap_err().to_string().contains(passed));
}
