//! How far what a stream has told can be trusted.

use std::time::Duration;

use serde::Serialize;

/// State of one stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustState {
    /// Nobody can tell what the publisher holds now; nothing is credited.
    Lost,
    /// A hole is being filled. Credited is what was proven after it.
    Recovering,
    /// Up and in order, but something older is in doubt or was never seen. Credited is what was proven since.
    Partial,
    /// Up and in order since the process began, or since it cleared its cache.
    Live,
}

impl TrustState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Recovering, Self::Partial, Self::Live];

    /// Whether picks may prove what its events do not: some blocks' ancestors may be unknown.
    pub(super) fn needs_picks(self) -> bool {
        matches!(self, Self::Recovering | Self::Partial)
    }

    /// Its name in metrics, logs and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Recovering => "recovering",
            Self::Partial => "partial",
            Self::Live => "live",
        }
    }
}

/// Why a stream is not live, or was not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There was no connection yet.
    NotConnected,
    /// The connection ended.
    Disconnect,
    /// The publisher answers nothing any more, though the connection stands.
    Silent,
    /// The first replay of a stream.
    Start,
    /// What the publisher told first came too early for us, and its buffer does not reach back to it.
    LateStart,
    /// Batches are missing.
    Gap,
    /// Another process publishes now.
    Restart,
    /// A message could not be read.
    Unreadable,
    /// More copies were reported than the engine has memory for.
    OverCapacity,
    /// Nothing is missing.
    InOrder,
}

impl Reason {
    /// Its name in metrics, logs and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Disconnect => "disconnect",
            Self::Silent => "silent",
            Self::Start => "start",
            Self::LateStart => "late_start",
            Self::Gap => "gap",
            Self::Restart => "restart",
            Self::Unreadable => "unreadable",
            Self::OverCapacity => "over_capacity",
            Self::InOrder => "in_order",
        }
    }
}

/// State of one stream, why, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trust {
    /// The state.
    pub state: TrustState,
    /// Why.
    pub reason: Reason,
    /// Since when, on the clock of the index.
    pub since: Duration,
}

impl Default for Trust {
    fn default() -> Self {
        Self { state: TrustState::Lost, reason: Reason::NotConnected, since: Duration::ZERO }
    }
}
