//! The gRPC service: a pick orders the endpoints of a model for one request, a report says what became of it.
//!
//! Both are done from memory and wait for nothing but one short lock. For a prompt the keys are made first: [`prompt`] does
//! that on other threads. [`order`] has the rules; [`socket`] the Unix socket that Envoy connects to, [`serve`] the thread
//! that answers, [`ask`] the streams on which it is asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use warmpath_core::block::BlockKey;
use warmpath_core::definition::Mode;
use warmpath_proto::v1::indexer_server::Indexer;
use warmpath_proto::v1::{
    AskRequest, PickPromptRequest, PickRequest, PickResponse, ReportRequest, ReportResponse, ScoredEndpoint,
    Stage,
};

use crate::events::event::Medium;
use crate::index::SharedIndex;
use crate::index::report::medium_name;
use crate::load::{Known, Load};
use crate::metrics::{LeftOutLabels, Metrics, Outcome, PickLabels, ReportLabels};
use crate::state::StateHandle;

pub mod ask;
pub mod order;
pub mod prompt;
pub mod score_log;
pub mod serve;
pub mod socket;
pub mod turns;
pub mod weights;

use ask::Asks;
use order::{Candidate, eligible, order, rank, rank_limit};
use prompt::Prompts;
use score_log::{PickScores, ScoreLog};
use turns::Turns;
use weights::{MediumWeights, Weights};

/// Endpoints in one answer. Envoy takes the first that it knows and goes down the list on retries: nobody retries
/// more often, and a request header of 16 addresses stays under 400 bytes.
pub const LISTED_MAX: usize = 16;

/// Bytes of a message besides its keys: names, candidates, framing.
const MESSAGE_REST_BYTES: usize = 256 * 1024;

/// The largest message that is decoded. Twice the keys that are matched, so that a request with too many of them is
/// answered by its first ones and counted, not refused; or one body of `body_bytes_max`.
pub fn message_bytes_max(keys_max: usize, body_bytes_max: usize) -> usize {
    keys_max.saturating_mul(16).max(body_bytes_max).saturating_add(MESSAGE_REST_BYTES)
}

/// The service, cloned into every server.
#[derive(Clone)]
pub struct Picker {
    index: Arc<SharedIndex>,
    book: Arc<Mutex<Book>>,
    state: StateHandle,
    metrics: Arc<Metrics>,
    scores: ScoreLog,
    keys_max: usize,
    prompts: Prompts,
    weights: Weights,
    shutdown: CancellationToken,
}

/// What picks share: counts and whose turn it is. One lock, so that two picks never see the same counts.
#[derive(Debug)]
struct Book {
    load: Load,
    turns: Turns,
}

/// What a pick came to, before it is written down.
struct Picked {
    outcome: Outcome,
    listed: Vec<Candidate>,
    pick_id: u64,
}

impl Picked {
    fn nothing(outcome: Outcome) -> Self {
        Self { outcome, listed: Vec::new(), pick_id: 0 }
    }
}

impl Picker {
    /// A service over `index` that matches at most `keys_max` keys of a request.
    pub fn new(
        index: Arc<SharedIndex>,
        state: StateHandle,
        metrics: Arc<Metrics>,
        keys_max: usize,
        prompts: Prompts,
    ) -> Self {
        // Ids start at the clock, in microseconds: a report that outlives a restart names no pick of this run.
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
        let load = Load::new(since_epoch.as_micros() as u64);
        let book = Arc::new(Mutex::new(Book { load, turns: Turns::default() }));
        let scores = ScoreLog::start(metrics.log_lines_dropped.clone());
        let (weights, shutdown) = (Weights::default(), CancellationToken::new());
        Self { index, book, state, metrics, scores, keys_max, prompts, weights, shutdown }
    }

    /// The same, with streams that end at `shutdown`.
    pub fn until(self, shutdown: CancellationToken) -> Self {
        Self { shutdown, ..self }
    }

    /// The same with other weights of what is held elsewhere than in GPU memory.
    pub fn weighing(self, weights: &MediumWeights) -> Self {
        Self { weights: Weights::new(weights), ..self }
    }

    /// Outstanding picks by endpoint, of endpoints that have any.
    pub fn outstanding(&self) -> Vec<(String, u32)> {
        let mut book = self.book();
        self.expire(&mut book);
        book.load.counts().map(|(endpoint, count)| (endpoint.to_string(), count)).collect()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        // A panic while it was held cannot leave more than a wrong count behind.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expire(&self, book: &mut Book) {
        let expired = book.load.expire(Instant::now());
        self.metrics.outstanding_expired.inc_by(expired as u64);
    }

    /// Picks, counts and logs.
    fn answer(&self, request: PickRequest) -> PickResponse {
        let start = Instant::now();
        let state = self.state.get();
        let known = state.library.model(&request.model).is_some();
        let picked = self.choose(&request, state.catalog.mode, known);
        let endpoints = scored(&picked.listed, request.block_keys.len());
        let labels = PickLabels { outcome: picked.outcome.name(), observed: request.observe };
        self.metrics.picked(&labels, start.elapsed());
        if state.log_scores {
            let endpoints = endpoints.clone();
            let PickRequest { request_id, model, observe, .. } = request;
            self.scores.write(PickScores { request_id, model, observe, endpoints });
        }
        PickResponse { endpoints, pick_id: picked.pick_id, ..PickResponse::default() }
    }

    fn choose(&self, request: &PickRequest, mode: Mode, known: bool) -> Picked {
        if mode == Mode::Off {
            return Picked::nothing(Outcome::Off);
        }
        if !known {
            return Picked::nothing(Outcome::UnknownModel);
        }
        let keys = self.keys(request);
        let matches = self.index.lookup(&request.model, &keys);
        let ranks = rank_limit(&matches);
        let subset: HashSet<&str> = request.candidates.iter().map(String::as_str).collect();
        let (found, left_out) = eligible(matches, request.block_tokens, &subset);
        for (reason, count) in [("block_size", left_out.block_size), ("stream_down", left_out.stream_down)] {
            if count > 0 {
                self.metrics.left_out.get_or_create(&LeftOutLabels { reason }).inc_by(count);
            }
        }
        if found.is_empty() {
            return Picked::nothing(Outcome::NoEndpoint);
        }
        let mut book = self.book();
        self.expire(&mut book);
        let mut listed: Vec<Candidate> = found
            .into_iter()
            .map(|found| Candidate {
                outstanding: book.load.outstanding(&found.address),
                match_blocks: found.blocks,
                lengths: found.lengths,
                rank: rank(&found, ranks),
                coming_blocks: found.coming,
                last_turn: book.turns.last(&found.address),
                address: found.address,
            })
            .collect();
        order(&mut listed, &self.weights);
        listed.truncate(LISTED_MAX);
        let first = &listed[0];
        // Traffic does not follow an observed pick: it says nothing of what that endpoint will store.
        if !request.observe {
            self.index.note_pick(&request.model, &first.address, &keys);
            self.index.speculate(&request.model, &first.address, &keys);
        }
        book.turns.take(first.address.clone());
        let outcome = if first.match_blocks > 0 { Outcome::Matched } else { Outcome::Unmatched };
        let pick_id = if request.observe { 0 } else { self.count(&mut book, first.address.clone()) };
        Picked { outcome, listed, pick_id }
    }

    fn keys(&self, request: &PickRequest) -> Vec<BlockKey> {
        if request.block_keys.len() > self.keys_max {
            self.metrics.keys_cut.inc();
        }
        request.block_keys.iter().take(self.keys_max).copied().map(BlockKey).collect()
    }

    fn count(&self, book: &mut Book, endpoint: Arc<str>) -> u64 {
        let (pick_id, forgot) = book.load.add(endpoint, Instant::now());
        if forgot {
            self.metrics.outstanding_forgotten.inc();
        }
        pick_id
    }
}

impl Picker {
    /// Picks for a prompt that is keyed here.
    async fn answer_prompt(&self, request: PickPromptRequest) -> Result<PickResponse, Status> {
        let PickPromptRequest { pick, path, body } = request;
        let mut pick = pick.ok_or_else(|| Status::invalid_argument("pick: missing"))?;
        let state = self.state.get();
        if state.catalog.mode == Mode::Off {
            return Ok(self.answer(pick));
        }
        let model = state.library.model(&pick.model).and_then(|entry| entry.native.clone());
        let model = model.ok_or_else(|| {
            Status::failed_precondition("pick.model: not tokenized here; the filter's catalog is another one")
        })?;
        match self.prompts.keys(model, path, body, &self.metrics).await? {
            Ok(prompt) => {
                pick.block_keys = prompt.keys.iter().map(|key| key.0).collect();
                pick.token_count = if prompt.complete { prompt.token_count as u64 } else { 0 };
                let prompt_keys = u32::try_from(prompt.keys.len()).unwrap_or(u32::MAX);
                Ok(PickResponse { prompt_keys, ..self.answer(pick) })
            }
            Err(reason) => {
                Ok(PickResponse { pass_reason: reason.label().to_owned(), ..PickResponse::default() })
            }
        }
    }

    /// Takes note of what became of picks.
    fn note_reports(&self, request: ReportRequest) {
        for report in request.reports {
            let (stage, ended) = match report.stage() {
                Stage::FirstByte => ("first_byte", false),
                Stage::End => ("end", true),
                Stage::Unspecified => ("unspecified", false),
            };
            let known = self.book().load.report(report.pick_id, &report.endpoint, ended);
            let pick = match known {
                Known::Followed => "followed",
                Known::Moved => "moved",
                Known::Unknown => "unknown",
            };
            self.metrics.reports.get_or_create(&ReportLabels { stage, pick }).inc();
            if known == Known::Unknown {
                continue;
            }
            match report.stage() {
                Stage::FirstByte if report.first_byte_us > 0 => {
                    self.metrics.first_byte_seconds.observe(seconds(report.first_byte_us));
                }
                Stage::End if report.duration_us > 0 => {
                    self.metrics.request_seconds.observe(seconds(report.duration_us));
                }
                _ => {}
            }
        }
    }
}

#[tonic::async_trait]
impl Indexer for Picker {
    type AskStream = Asks;

    async fn ask(&self, request: Request<Streaming<AskRequest>>) -> Result<Response<Asks>, Status> {
        Ok(Response::new(Asks::new(self.clone(), request.into_inner())))
    }

    async fn pick(&self, request: Request<PickRequest>) -> Result<Response<PickResponse>, Status> {
        Ok(Response::new(self.answer(request.into_inner())))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        self.note_reports(request.into_inner());
        Ok(Response::new(ReportResponse {}))
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

fn scored(listed: &[Candidate], keys: usize) -> Vec<ScoredEndpoint> {
    let score = |blocks: u32| if keys == 0 { 0.0 } else { (f64::from(blocks) / keys as f64) as f32 };
    listed
        .iter()
        .map(|candidate| ScoredEndpoint {
            address: candidate.address.to_string(),
            match_blocks: candidate.match_blocks,
            score: score(candidate.match_blocks),
            data_parallel_rank: candidate.rank,
            medium_blocks: medium_blocks(&candidate.lengths),
        })
        .collect()
}

/// Leading blocks by medium, without the GPU's and without those that hold none.
fn medium_blocks(lengths: &[u32; Medium::ALL.len()]) -> HashMap<String, u32> {
    let others = Medium::ALL.into_iter().zip(*lengths).skip(1).filter(|(_, blocks)| *blocks > 0);
    others.map(|(medium, blocks)| (medium_name(medium).to_owned(), blocks)).collect()
}
