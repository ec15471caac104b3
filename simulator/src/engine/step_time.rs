//! How long an engine step takes.

use std::time::Duration;

/// Constants of the step's duration:
/// `base + prefill_token * prefill tokens + decode_sequence * decoding sequences + kv_token * KV tokens read`.
///
/// The KV tokens read are the context lengths summed over scheduled sequences, where tokens that n running sequences
/// share count `1 + shared_share * (n - 1)` times.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepTime {
    /// Seconds per step: reading the weights once.
    pub base: f64,
    /// Seconds per prefill token.
    pub prefill_token: f64,
    /// Seconds per decoding sequence.
    pub decode_sequence: f64,
    /// Seconds per KV token read.
    pub kv_token: f64,
    /// What a further reader of a shared KV token costs, as a share of the first; 0 to 1.
    pub shared_share: f64,
}

impl StepTime {
    /// Qwen3-32B on two H100 (tensor parallel), fitted to the published ladder of the llm-d precise-prefix guide
    /// (16 rates, 8 pods): `prefill_token` is that guide's peak of 15,926 prefill tokens/s within 7 %; `base` and
    /// `kv_token` are what this model's weights and KV bytes take at about 85 % of the memory bandwidth.
    pub const QWEN3_32B_2XH100: Self = Self {
        base: 12.8e-3,
        prefill_token: 59e-6,
        decode_sequence: 21e-6,
        kv_token: 46e-9,
        shared_share: 0.6,
    };

    /// Every step takes no time.
    pub const ZERO: Self =
        Self { base: 0.0, prefill_token: 0.0, decode_sequence: 0.0, kv_token: 0.0, shared_share: 0.0 };

    /// The duration of a step with this work.
    pub fn duration(&self, work: &Work) -> Duration {
        let shared = self.shared_share;
        // Summed over tokens held by n sequences each, 1 + a(n-1) = (1-a) + a n.
        let kv = (1.0 - shared) * work.kv_tokens_distinct as f64 + shared * work.kv_tokens_summed as f64;
        let seconds = self.base
            + self.prefill_token * work.prefill_tokens as f64
            + self.decode_sequence * work.decoding as f64
            + self.kv_token * kv;
        Duration::from_secs_f64(seconds)
    }
}

/// Time that a request spends outside the engine before its first token (HTTP, tokenizing, detokenizing); from the
/// same fit.
pub const OUTSIDE_ENGINE: Duration = Duration::from_millis(85);

/// What one step computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Prompt tokens (and tokens recomputed after a preemption).
    pub prefill_tokens: usize,
    /// Sequences that decode one token.
    pub decoding: usize,
    /// Context lengths summed over scheduled sequences.
    pub kv_tokens_summed: usize,
    /// The same with shared tokens counted once.
    pub kv_tokens_distinct: usize,
}
