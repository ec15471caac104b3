//! What a request's way through the filter ends in: one value, spelled the same in metrics and access logs.

use warmpath_core::pass::PassReason;

/// Why a request went on unsteered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The prompt could not be keyed.
    Prompt(PassReason),
    /// The plugin configuration is bad.
    ConfigError,
    /// Not a POST.
    Method,
    /// Not a path that is steered.
    Path,
    /// `mode: off`, here or in the sidecar.
    ModeOff,
    /// The body is compressed.
    ContentEncoding,
    /// The sidecar's catalog or the model's assets are not loaded.
    NotReady,
    /// No exact tokenizer is known for the model; the sidecar's log says why.
    ModelRefused,
    /// The body is over `body_bytes_max`.
    BodyTooLarge,
    /// Observed bodies already take [`crate::stream::COPIED_BYTES_MAX`] of the VM's memory.
    CopyLimit,
    /// The sidecar has not answered lately; it was not asked.
    BreakerOpen,
    /// The sidecar did not answer within `callout_timeout`.
    CalloutTimeout,
    /// The sidecar could not be reached or answered an error.
    CalloutError,
    /// As many wait for the sidecar already as may, [`crate::line::ASKS_MAX`] or [`crate::line::ASKED_BYTES_MAX`].
    LineFull,
    /// The sidecar has no endpoint to recommend.
    NoEndpoints,
    /// Envoy refused a host call.
    HostError,
    /// Envoy or another filter answered while the request was held.
    RepliedEarly,
    /// The client went away while the request was held or its pick awaited.
    ClientGone,
}

impl Reason {
    /// The filter's own reasons; with [`PassReason::ALL`] these are all.
    const OWN: [Self; 17] = [
        Self::ConfigError,
        Self::Method,
        Self::Path,
        Self::ModeOff,
        Self::ContentEncoding,
        Self::NotReady,
        Self::ModelRefused,
        Self::BodyTooLarge,
        Self::CopyLimit,
        Self::BreakerOpen,
        Self::CalloutTimeout,
        Self::CalloutError,
        Self::LineFull,
        Self::NoEndpoints,
        Self::HostError,
        Self::RepliedEarly,
        Self::ClientGone,
    ];

    /// Every reason, for declaring one counter each.
    pub fn all() -> impl Iterator<Item = Self> {
        PassReason::ALL.into_iter().map(Self::Prompt).chain(Self::OWN)
    }

    /// The reason that the sidecar gave for a prompt that it could not key.
    pub fn from_sidecar(label: &str) -> Self {
        let known = PassReason::ALL.into_iter().find(|reason| reason.label() == label);
        known.map_or(Self::CalloutError, Self::Prompt)
    }

    /// The reason as metrics and access logs spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prompt(reason) => reason.label(),
            Self::ConfigError => "config_error",
            Self::Method => "method",
            Self::Path => "path",
            Self::ModeOff => "mode_off",
            Self::ContentEncoding => "content_encoding",
            Self::NotReady => "not_ready",
            Self::ModelRefused => "model_refused",
            Self::BodyTooLarge => "body_too_large",
            Self::CopyLimit => "copy_limit",
            Self::BreakerOpen => "breaker_open",
            Self::CalloutTimeout => "callout_timeout",
            Self::CalloutError => "callout_error",
            Self::LineFull => "line_full",
            Self::NoEndpoints => "no_endpoints",
            Self::HostError => "host_error",
            Self::RepliedEarly => "replied_early",
            Self::ClientGone => "client_gone",
        }
    }
}

/// How a request went on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// To the picked endpoint.
    Steered,
    /// Unsteered, with a pick for the log (`mode: observe`).
    Observed,
    /// Unsteered.
    Passed(Reason),
}

impl Outcome {
    /// The value of filter state `wasm.warmpath_reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Observed => "observed",
            Self::Passed(reason) => reason.label(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = Reason::all().map(Reason::label).collect();
        let count = labels.len();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), count);
        assert_eq!(count, PassReason::ALL.len() + 17);
    }
}
