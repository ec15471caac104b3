//! Which release writes what: the layouts of KV events on the wire.
//!
//! Read from the release wheels of vLLM 0.10.0 to 0.33.0 and SGLang 0.5.23.

use std::str::FromStr;

use crate::engine::ExtraForm;

/// A release's way of writing events, answering replays and hashing extra keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// As given: `vllm-0.33`.
    pub name: String,
    /// What stands between a payload's brackets.
    pub family: Family,
    /// Events are maps with a `type`; before, positional arrays.
    pub maps: bool,
    /// Which optional fields exist.
    pub fields: Fields,
    /// Replies to a replay carry the topic frame.
    pub replay_topic: bool,
    /// How adapter and salt enter the block hash.
    pub extra_form: ExtraForm,
    /// The first parent is derived from a fixed seed; before, it was random per process.
    pub fixed_none_hash: bool,
    /// Hashes can be sent as bytes.
    pub byte_hashes: bool,
}

/// Engines that differ in more than fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// vLLM.
    Vllm,
    /// SGLang: one stored event per block, signed hashes from the digest's first bytes, `cache_salt` by name.
    Sglang,
    /// SGLang before it wrote maps: no `lora_name`; the last field is a map that may hold `cache_salt`.
    SglangArray,
}

/// Optional fields of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// `medium` of stored and removed.
    pub medium: bool,
    /// `lora_name` of stored.
    pub lora_name: bool,
    /// `extra_keys` of stored.
    pub extra_keys: bool,
    /// `group_idx` of stored and removed.
    pub group: bool,
    /// `kv_cache_spec_kind` and `kv_cache_spec_sliding_window` of stored.
    pub spec_kind: bool,
    /// `session_id` of stored.
    pub session: bool,
    /// `lookahead_token_ids` of stored. It is never sent here, but as the 16th field it makes the map's header three
    /// bytes long, however few fields follow: msgspec reserves room for all of them.
    pub lookahead: bool,
}

/// A vLLM release 0.`.0`.`.1`.
type Release = (u32, u32);

/// The oldest release whose layout is known.
const OLDEST: Release = (10, 0);
const MEDIUM: Release = (10, 2);
const BYTE_HASHES: Release = (10, 2);
const LORA_NAME: Release = (14, 0);
const EXTRA_KEYS: Release = (17, 0);
const GROUP: Release = (20, 0);
const SPEC_KIND: Release = (22, 0);
const MAPS: Release = (24, 0);
const REPLAY_TOPIC: Release = (26, 0);
const FIXED_NONE_HASH: Release = (29, 0);
const SESSION: Release = (30, 0);
const LOOKAHEAD: Release = (33, 0);
const NAMES_IN_HASH: Release = (11, 1);
const TAGS_IN_HASH: Release = (31, 0);

impl Layout {
    /// The layout of vLLM 0.`minor`.`patch`.
    pub fn vllm(name: &str, minor: u32, patch: u32) -> Self {
        let release = (minor, patch);
        Self {
            name: name.to_owned(),
            family: Family::Vllm,
            maps: release >= MAPS,
            fields: Fields {
                medium: release >= MEDIUM,
                lora_name: release >= LORA_NAME,
                extra_keys: release >= EXTRA_KEYS,
                group: release >= GROUP,
                spec_kind: release >= SPEC_KIND,
                session: release >= SESSION,
                lookahead: release >= LOOKAHEAD,
            },
            replay_topic: release >= REPLAY_TOPIC,
            extra_form: match release {
                release if release >= TAGS_IN_HASH => ExtraForm::Tagged,
                release if release >= NAMES_IN_HASH => ExtraForm::Bare,
                _ => ExtraForm::LoraId,
            },
            fixed_none_hash: release >= FIXED_NONE_HASH,
            byte_hashes: release >= BYTE_HASHES,
        }
    }

    /// SGLang's layout: 0.5.23, or with `maps` false an earlier one.
    pub fn sglang(name: &str, maps: bool) -> Self {
        Self {
            name: name.to_owned(),
            family: if maps { Family::Sglang } else { Family::SglangArray },
            maps,
            fields: Fields {
                medium: true,
                lora_name: maps,
                extra_keys: false,
                group: false,
                spec_kind: false,
                session: maps,
                lookahead: false,
            },
            replay_topic: true,
            extra_form: ExtraForm::Bare,
            fixed_none_hash: true,
            byte_hashes: false,
        }
    }
}

/// A `--wire` that names no layout.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no event layout: give vllm-0.10.0 or later (vllm-0.33), sglang, or sglang-array")]
pub struct UnknownLayout(String);

impl FromStr for Layout {
    type Err = UnknownLayout;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownLayout(name.to_owned());
        match name {
            "sglang" | "sglang-0.5.23" => return Ok(Self::sglang(name, true)),
            "sglang-array" => return Ok(Self::sglang(name, false)),
            _ => {}
        }
        let release = name.strip_prefix("vllm-0.").ok_or_else(unknown)?;
        let (minor, patch) = release.split_once('.').unwrap_or((release, "0"));
        let minor = minor.parse().map_err(|_| unknown())?;
        let patch = patch.parse().map_err(|_| unknown())?;
        if (minor, patch) < OLDEST {
            return Err(unknown());
        }
        Ok(Self::vllm(name, minor, patch))
    }
}
