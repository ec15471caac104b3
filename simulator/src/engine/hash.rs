//! vLLM's block hashes: a digest over (parent digest, token ids, extra keys), serialised by pickle or by CBOR.
//!
//! These are the *engine's* hashes, as they appear in KV events. They are not Warmpath's block keys, and nothing here
//! is shared with them: the sidecar has to cope with hashes that it did not make.
//! Source: `vllm/v1/core/kv_cache_utils.py` (`hash_block_tokens`, `init_none_hash`) and `vllm/utils/hashing.py`.

use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::serialise::{cbor_block, cbor_text, pickle_block, pickle_text};

/// The seed of the first parent from vLLM 0.29 on, where `PYTHONHASHSEED` is not set.
pub const NONE_HASH_SEED: &str = "vllm-none-hash";

/// A block's digest: 32 bytes (`sha256*`) or 16 (`xxhash*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Digest {
    bytes: [u8; 32],
    len: u8,
}

impl Digest {
    /// A digest of 32 bytes.
    pub fn from_32(bytes: [u8; 32]) -> Self {
        Self { bytes, len: 32 }
    }

    fn from_16(short: [u8; 16]) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&short);
        Self { bytes, len: 16 }
    }

    /// All bytes of the digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The last eight bytes, big-endian: what vLLM sends as an integer hash.
    pub fn low64(&self) -> u64 {
        let end = usize::from(self.len);
        u64::from_be_bytes(self.bytes[end - 8..end].try_into().expect("eight bytes"))
    }

    /// The first eight bytes, big-endian: what SGLang sends, as a signed integer.
    pub fn high64(&self) -> u64 {
        u64::from_be_bytes(self.bytes[..8].try_into().expect("eight bytes"))
    }
}

/// A digest is evenly spread already: eight bytes of it are enough for a hash table.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low64());
    }
}

/// `--prefix-caching-hash-algo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum HashAlgorithm {
    /// SHA-256 over a pickle (vLLM's default).
    #[default]
    Sha256,
    /// SHA-256 over canonical CBOR.
    Sha256Cbor,
    /// XXH3-128 over a pickle. Some ten times faster than SHA-256: the choice for long runs in virtual time.
    Xxhash,
    /// XXH3-128 over canonical CBOR.
    XxhashCbor,
}

impl HashAlgorithm {
    /// The name in `vllm:cache_config_info`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha256Cbor => "sha256_cbor",
            Self::Xxhash => "xxhash",
            Self::XxhashCbor => "xxhash_cbor",
        }
    }

    fn is_cbor(self) -> bool {
        matches!(self, Self::Sha256Cbor | Self::XxhashCbor)
    }

    fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Self::Sha256 | Self::Sha256Cbor => Digest::from_32(Sha256::digest(bytes).into()),
            Self::Xxhash | Self::XxhashCbor => Digest::from_16(xxh3_128(bytes).to_be_bytes()),
        }
    }

    /// The parent of first blocks, from a seed (`PYTHONHASHSEED` or [`NONE_HASH_SEED`]).
    pub fn none_hash(self, seed: &str) -> Digest {
        let mut bytes = Vec::new();
        if self.is_cbor() {
            cbor_text(&mut bytes, seed)
        } else {
            pickle_text(&mut bytes, seed)
        }
        self.digest(&bytes)
    }
}

/// A LoRA adapter, as the engine knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lora {
    /// Number in load order, from 1.
    pub id: u32,
    /// Name in requests and events.
    pub name: String,
    /// Path it was loaded from; part of the hash from vLLM 0.31 on, never in events.
    pub path: String,
}

/// How adapter and salt enter the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtraForm {
    /// Up to 0.11.0: the adapter's id, the bare salt.
    LoraId,
    /// 0.11.1 to 0.30: the adapter's name, the bare salt.
    Bare,
    /// From 0.31: `("lora", name, path)`, `("cache_salt", salt)`.
    Tagged,
}

/// One member of the extra-keys tuple.
pub(super) enum ExtraKey<'a> {
    Int(u32),
    Text(&'a str),
    Tuple(Vec<&'a str>),
}

/// Hashes one engine's blocks. Cost of a block: one pass over about 3 bytes per token.
#[derive(Clone, Debug)]
pub struct BlockHasher {
    algorithm: HashAlgorithm,
    form: ExtraForm,
    none: Digest,
    buffer: Vec<u8>,
}

impl BlockHasher {
    /// `none`: the parent of first blocks.
    pub fn new(algorithm: HashAlgorithm, form: ExtraForm, none: Digest) -> Self {
        Self { algorithm, form, none, buffer: Vec::new() }
    }

    /// The digest of one full block. `salt` counts for the first block only (the chain carries it on).
    pub fn block(
        &mut self,
        parent: Option<&Digest>,
        tokens: impl ExactSizeIterator<Item = u32>,
        lora: Option<&Lora>,
        salt: Option<&str>,
    ) -> Digest {
        let salt = if parent.is_none() { salt } else { None };
        let extra = self.extra(lora, salt);
        self.buffer.clear();
        let parent = parent.unwrap_or(&self.none).as_bytes();
        if self.algorithm.is_cbor() {
            cbor_block(&mut self.buffer, parent, tokens, &extra);
        } else {
            pickle_block(&mut self.buffer, parent, tokens, &extra);
        }
        self.algorithm.digest(&self.buffer)
    }

    fn extra<'a>(&self, lora: Option<&'a Lora>, salt: Option<&'a str>) -> Vec<ExtraKey<'a>> {
        let lora = lora.map(|lora| match self.form {
            ExtraForm::LoraId => ExtraKey::Int(lora.id),
            ExtraForm::Bare => ExtraKey::Text(&lora.name),
            ExtraForm::Tagged => ExtraKey::Tuple(vec!["lora", &lora.name, &lora.path]),
        });
        let salt = salt.map(|salt| match self.form {
            ExtraForm::LoraId | ExtraForm::Bare => ExtraKey::Text(salt),
            ExtraForm::Tagged => ExtraKey::Tuple(vec!["cache_salt", salt]),
        });
        lora.into_iter().chain(salt).collect()
    }
}
