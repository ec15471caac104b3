//! Which blocks of a `BlockStored` get a key: only those that a text prompt of the same model can ask for.

use warmpath_core::block::{BlockKey, KeySpace};
use warmpath_core::definition::SaltRule;

use super::KeyRules;
use crate::events::event::{ExtraKeys, Stored};

/// Why blocks were not taken into the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Skip {
    /// No tokens or a block size of 0: an offloading connector's note, of a hash that is not known.
    Placeholder,
    /// The group of layers has sliding windows, Mamba states or the like, or did not say what it is and was sparse.
    GroupNotIndexed,
    /// A group that should have all tokens of its blocks has not.
    TokenCount,
    /// The engine's block size is no multiple of the keys', or smaller than that of its other stores.
    BlockSize,
    /// The parent did not turn up in time, or there was no room to wait for it: it is older than what we saw of the
    /// stream, or was skipped itself.
    ParentUnknown,
    /// Images, prompt embeddings or other keys that a text prompt does not have.
    ExtraKeys,
    /// A LoRA adapter by number alone (vLLM up to 0.13): the number is the process's own.
    LoraUnnamed,
    /// A cache salt, though the model is configured as one whose engine ignores it.
    SaltUnexpected,
    /// The index holds as many blocks as it may.
    IndexFull,
    /// Copies that the engine's memory has no room for: reported again without being stored again.
    OverCapacity,
}

impl Skip {
    /// Value of the metric's label `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Placeholder => "placeholder",
            Self::GroupNotIndexed => "group_not_indexed",
            Self::TokenCount => "token_count",
            Self::BlockSize => "block_size",
            Self::ParentUnknown => "parent_unknown",
            Self::ExtraKeys => "extra_keys",
            Self::LoraUnnamed => "lora_unnamed",
            Self::SaltUnexpected => "salt_unexpected",
            Self::IndexFull => "index_full",
            Self::OverCapacity => "over_capacity",
        }
    }
}

/// How many leading blocks of `stored` can be keyed, and why the rest cannot.
///
/// A block that cannot be keyed takes all that follow with it: their keys are chained over its own.
pub(super) fn keyable(stored: &Stored) -> (usize, Option<Skip>) {
    if stored.lora.is_none() && stored.lora_id.is_some() {
        return (0, Some(Skip::LoraUnnamed));
    }
    let foreign = stored.extra.iter().enumerate().position(|(index, extra)| match texts(stored, extra) {
        // Only a prompt's first block shows the salt; elsewhere a string is the id of an image.
        Some(texts) => texts.len() > usize::from(index == 0 && stored.parent.is_none()),
        None => true,
    });
    match foreign {
        Some(index) => (index, Some(Skip::ExtraKeys)),
        None => (stored.hashes.len(), None),
    }
}

/// Parent key of a prompt's first block.
///
/// Publishers before vLLM 0.17 send no extra keys: there a salted prompt looks like an unsalted one, and pods of
/// such a version are credited with blocks that only the salt's owner can reuse.
pub(super) fn root(stored: &Stored, model: &str, rules: &KeyRules) -> Result<BlockKey, Skip> {
    let shown = stored.extra.first().and_then(|extra| texts(stored, extra)).and_then(|texts| texts.first());
    let salt = stored.salt.as_deref().or(shown.map(AsRef::as_ref));
    if salt.is_some() && rules.salt == SaltRule::Ignored {
        return Err(Skip::SaltUnexpected);
    }
    Ok(KeySpace { seed: rules.seed, model, lora: stored.lora.as_deref(), salt }.root())
}

/// The strings of a block's extra keys without the LoRA adapter's name, which comes first; `None`: not only strings.
fn texts<'a>(stored: &Stored, extra: &'a ExtraKeys) -> Option<&'a [Box<str>]> {
    match extra {
        ExtraKeys::None => Some(&[]),
        ExtraKeys::Unkeyable => None,
        ExtraKeys::Texts(texts) => Some(match texts.split_first() {
            Some((first, rest)) if stored.lora.as_ref() == Some(first) => rest,
            _ => texts,
        }),
    }
}
