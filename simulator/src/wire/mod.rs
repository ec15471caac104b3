//! Event batches as bytes: msgpack in the layout of a chosen release.

mod encode;
mod layout;

pub use encode::encode_batch;
pub use layout::{Family, Fields, Layout, UnknownLayout};

use crate::engine::{Digest, Event, Stored};

/// How hashes are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum HashForm {
    /// 64 bits of the digest as an integer (the default of vLLM and the only form of SGLang).
    #[default]
    Int,
    /// The whole digest (`VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0`, from vLLM 0.10.2 on).
    Bytes,
}

/// A hash as an event holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WireHash {
    /// vLLM's integers.
    Unsigned(u64),
    /// SGLang's integers.
    Signed(i64),
    /// A whole digest.
    Bytes(Vec<u8>),
}

/// An event with the values that go on the wire. Fields that a layout lacks are not written.
#[derive(Clone, PartialEq, Debug)]
pub enum WireEvent {
    /// `BlockStored`
    Stored(WireStored),
    /// `BlockRemoved`
    Removed {
        /// `block_hashes`
        hashes: Vec<WireHash>,
    },
    /// `AllBlocksCleared`
    Cleared,
}

/// The values of `BlockStored`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WireStored {
    /// `block_hashes`
    pub hashes: Vec<WireHash>,
    /// `parent_block_hash`
    pub parent: Option<WireHash>,
    /// `token_ids`
    pub tokens: Vec<u32>,
    /// `block_size`, in tokens.
    pub block_size: usize,
    /// `lora_id`
    pub lora_id: Option<u32>,
    /// `lora_name`
    pub lora_name: Option<String>,
    /// `extra_keys`: one entry per block, empty for none; adapter name first, then the salt on the first block.
    pub extra_keys: Vec<Vec<String>>,
    /// `cache_salt` (SGLang).
    pub cache_salt: Option<String>,
    /// `session_id`
    pub session_id: Option<String>,
}

/// Translates an engine's events into those that a layout's engine would send.
#[derive(Clone, Debug)]
pub struct Translator {
    /// The release to look like.
    pub layout: Layout,
    /// How hashes are sent.
    pub hash_form: HashForm,
    /// Tokens per block.
    pub block_size: usize,
}

impl Translator {
    /// The payload of one batch; `time` in seconds since 1970.
    pub fn payload(&self, time: f64, events: &[Event], rank: Option<u32>) -> Vec<u8> {
        let mut translated = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Stored(stored) if self.layout.family == Family::Vllm => {
                    translated.push(WireEvent::Stored(self.stored(stored)));
                }
                Event::Stored(stored) => translated.extend(self.stored_by_block(stored)),
                Event::Removed(digest) => {
                    translated.push(WireEvent::Removed { hashes: vec![self.hash(digest)] });
                }
                Event::Cleared => translated.push(WireEvent::Cleared),
            }
        }
        encode_batch(&self.layout, time, &translated, rank)
    }

    fn hash(&self, digest: &Digest) -> WireHash {
        match (self.layout.family, self.hash_form) {
            (Family::Sglang | Family::SglangArray, _) => WireHash::Signed(digest.high64() as i64),
            (Family::Vllm, HashForm::Int) => WireHash::Unsigned(digest.low64()),
            (Family::Vllm, HashForm::Bytes) => WireHash::Bytes(digest.as_bytes().to_vec()),
        }
    }

    fn stored(&self, stored: &Stored) -> WireStored {
        let scope = &stored.scope;
        let first = stored.parent.is_none();
        let extra_keys = (0..stored.digests.len()).map(|block| {
            let name = scope.lora.iter().map(|lora| lora.name.clone());
            name.chain(scope.cache_salt.clone().filter(|_| first && block == 0)).collect()
        });
        WireStored {
            hashes: stored.digests.iter().map(|digest| self.hash(digest)).collect(),
            parent: stored.parent.as_ref().map(|digest| self.hash(digest)),
            tokens: stored.tokens.clone(),
            block_size: self.block_size,
            lora_id: scope.lora.as_ref().map(|lora| lora.id).filter(|_| self.layout.family == Family::Vllm),
            lora_name: scope.lora.as_ref().map(|lora| lora.name.clone()),
            extra_keys: extra_keys.collect(),
            cache_salt: scope.cache_salt.clone(),
            session_id: scope.session_id.clone(),
        }
    }

    /// SGLang's way: one event per block, each the parent of the next.
    fn stored_by_block<'a>(&'a self, stored: &'a Stored) -> impl Iterator<Item = WireEvent> + 'a {
        let tokens = stored.tokens.chunks(self.block_size);
        stored.digests.iter().zip(tokens).enumerate().map(|(block, (digest, tokens))| {
            let parent = block.checked_sub(1).map_or(stored.parent, |parent| Some(stored.digests[parent]));
            WireEvent::Stored(self.stored(&Stored {
                digests: vec![*digest],
                parent,
                tokens: tokens.to_vec(),
                scope: stored.scope.clone(),
            }))
        })
    }
}
