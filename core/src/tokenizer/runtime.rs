//! The runtime: a compiled tokenizer at work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::added::{ADDED_STEPS_PER_WORK, Matcher, Piece};
use super::asset::{Asset, AssetError, Section};
use super::automata::Atoms;
use super::classes::{self, BLOCK_CHARS, Classes};
use super::encoder::{Caches, Encoder, Tables};
use super::folds::Folds;
use super::meta::Meta;
use super::pairs::{Merged, Pairs};
use super::vocabulary::Vocabulary;
use super::{Encoded, Limits, Tokenizer};

/// Sizes of a runtime's caches, and the seed of their indices.
///
/// Each of several threads that encode at once has caches of its own; in a VM there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheSizes {
    /// Short words: `2^word_bits` places of two words, 64 bytes each.
    pub word_bits: u32,
    /// Words over 15 bytes, in bytes of text and ids.
    pub long_words_bytes: usize,
    /// Segments of prompts, in bytes of text and ids; about 2 bytes for one of text. 0 switches the reuse of prompts off.
    pub segments_bytes: usize,
    /// Where in its cache a text is found. One that callers do not know keeps them from making texts collide on
    /// purpose; that costs time only, as texts are compared in full.
    pub seed: u64,
}

impl Default for CacheSizes {
    /// 2.4 MiB in all: 32,768 words, a vocabulary of common words in several languages; segments of some ten chats.
    fn default() -> Self {
        Self { word_bits: 14, long_words_bytes: 256 << 10, segments_bytes: 1 << 20, seed: 0x5eed_0f3a }
    }
}

/// What the caches have done since the runtime was loaded, and what they take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Words found in a cache.
    pub word_hits: u64,
    /// Words that were looked up in the vocabulary or merged.
    pub word_misses: u64,
    /// Bytes of text in segments found in the cache: they cost hashing and comparing.
    pub segment_hit_bytes: u64,
    /// Bytes of text in segments that were encoded.
    pub segment_miss_bytes: u64,
    /// Units of merge work done ([`Limits::merge_work_max`]).
    pub merge_work: u64,
    /// Bytes of all caches.
    pub cache_bytes: u64,
}

/// Counters behind [`Stats`].
#[derive(Default)]
struct Counters([AtomicU64; 5]);

/// A tokenizer that [`super::compile`] has made an asset of: the ids of the crate `tokenizers` 0.23, without its cost.
///
/// Loading checks the asset and copies nothing but added tokens and frequent words; tables are used in place. Cost per byte of text: one
/// pass for added tokens, one to hash and compare segments of about 1 KiB; for those that are new one to three passes to
/// find words, one look-up per word, and for new words a look-up in the vocabulary or merges.
pub struct Runtime {
    asset: Asset,
    meta: Meta,
    /// Classes of ASCII.
    ascii: [u8; 128],
    /// Atoms of ASCII, of a file that has automata.
    atoms_of_ascii: [u8; 128],
    /// Whether [`Classes::plain_letters`].
    plain_letters: bool,
    /// What [`Merged::new`] has found out.
    first_merged: Option<u32>,
    added: Matcher,
    added_normalized: Matcher,
    sizes: CacheSizes,
    /// Caches that no thread is using.
    idle: Mutex<Vec<Caches>>,
    counters: Counters,
    cache_bytes: AtomicU64,
}

impl Runtime {
    /// Takes an asset that [`super::compile`] has made, with caches of the default sizes.
    ///
    /// # Errors
    /// When the bytes are damaged, of another version, or no asset at all.
    pub fn load(asset: Vec<u8>) -> Result<Self, AssetError> {
        Self::load_with(asset, CacheSizes::default())
    }

    /// The same with other sizes. `word_bits` is kept from 1 to 20.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(asset: Vec<u8>, sizes: CacheSizes) -> Result<Self, AssetError> {
        let asset = Asset::open(asset)?;
        let mut meta = Meta::read(asset.section(Section::Meta)).ok_or(AssetError::Damaged("description"))?;
        let entries = asset.entries::<BLOCK_CHARS>(Section::ClassEntries);
        let blocks = asset.entries::<2>(Section::ClassBlocks);
        let ascii = entries.first().copied().ok_or(AssetError::Damaged("classes"))?;
        let in_range = |block: &[u8; 2]| usize::from(u16::from_le_bytes(*block)) < entries.len();
        if blocks.len() != 0x11_0000 / BLOCK_CHARS || !blocks.iter().all(in_range) {
            return Err(AssetError::Damaged("classes"));
        }
        if !meta.symbols.characters && meta.symbols.bytes.is_empty() {
            return Err(AssetError::Damaged("symbols"));
        }
        let plain_letters = classes::are_plain_letters(&ascii);
        let atoms_of_ascii =
            asset.entries::<BLOCK_CHARS>(Section::AtomEntries).first().copied().unwrap_or([0; BLOCK_CHARS]);
        let first_merged = Merged::new(asset.entries(Section::PairMerged)).first();
        let added = Matcher::new(std::mem::take(&mut meta.added));
        let added_normalized = Matcher::new(std::mem::take(&mut meta.added_normalized));
        let sizes = CacheSizes { word_bits: sizes.word_bits.clamp(1, 20), ..sizes };
        let runtime = Self {
            asset,
            meta,
            ascii,
            atoms_of_ascii,
            plain_letters,
            first_merged,
            added,
            added_normalized,
            sizes,
            idle: Mutex::default(),
            counters: Counters::default(),
            cache_bytes: AtomicU64::new(0),
        };
        // Here and not when the first request waits for it.
        runtime.give_back(runtime.caches());
        Ok(runtime)
    }

    /// Bytes of the asset, which stay in memory.
    pub fn asset_bytes(&self) -> usize {
        self.asset.len()
    }

    fn tables(&self) -> Tables<'_> {
        Tables {
            meta: &self.meta,
            classes: Classes {
                ascii: &self.ascii,
                plain_letters: self.plain_letters,
                blocks: self.asset.entries(Section::ClassBlocks),
                entries: self.asset.entries(Section::ClassEntries),
            },
            vocabulary: Vocabulary {
                slots: self.asset.entries(Section::TokenSlots),
                records: self.asset.section(Section::TokenRecords),
            },
            pairs: Pairs {
                slots: self.asset.entries(Section::PairSlots),
                merged: Merged::known(self.asset.entries(Section::PairMerged), self.first_merged),
                bytes: self.asset.entries(Section::PairBytes),
            },
            characters: self.asset.entries(Section::Characters),
            folds: Folds {
                blocks: self.asset.entries(Section::FoldBlocks),
                entries: self.asset.entries(Section::FoldEntries),
            },
            atoms: Atoms {
                characters: Classes {
                    ascii: &self.atoms_of_ascii,
                    plain_letters: false,
                    blocks: self.asset.entries(Section::AtomBlocks),
                    entries: self.asset.entries(Section::AtomEntries),
                },
                bytes: self.asset.section(Section::AtomBytes),
            },
            added_normalized: &self.added_normalized,
        }
    }

    fn caches(&self) -> Caches {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| {
            let caches = Caches::new(self.sizes, &self.tables().vocabulary);
            self.cache_bytes.fetch_add(caches.bytes() as u64, Ordering::Relaxed);
            caches
        })
    }

    fn give_back(&self, caches: Caches) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(caches);
    }

    /// Encodes what lies between added tokens, and the added tokens themselves; answers whether it was all of it.
    fn pieces(&self, encoder: &mut Encoder<'_>, text: &str, limits: &Limits) -> bool {
        // What a token that starts within the limit can depend on: its own length, and one character behind it.
        let window = limits.bytes_max.saturating_add(self.added.longest() + 4);
        let window = text.get(..text.floor_char_boundary(window)).unwrap_or(text);
        // Beside what merging may take, half as much: both are bounded whatever the text.
        let granted = (limits.merge_work_max / 2).saturating_mul(ADDED_STEPS_PER_WORK);
        let mut left = granted;
        let every = self.added.split(window, &mut left, |piece| match piece {
            Piece::Token { at, .. } if at >= limits.bytes_max && window.len() < text.len() => false,
            Piece::Token { id, .. } => {
                encoder.ids.push(id);
                encoder.ids.len() <= limits.tokens_max
            }
            Piece::Text { text: piece, at, next } if next > limits.bytes_max => {
                let cut = self.meta.cuts.last(piece, limits.bytes_max.saturating_sub(at));
                encoder.text(piece.get(..cut).unwrap_or_default(), at == 0, limits.tokens_max);
                false
            }
            Piece::Text { text: piece, at, .. } => encoder.text(piece, at == 0, limits.tokens_max),
            Piece::Rest { text: piece, at, sure } => {
                let cut = self.meta.cuts.last(piece, sure.min(limits.bytes_max).saturating_sub(at));
                encoder.text(piece.get(..cut).unwrap_or_default(), at == 0, limits.tokens_max);
                false
            }
        });
        encoder.count_work((granted - left) / ADDED_STEPS_PER_WORK);
        every && window.len() == text.len()
    }
}

impl Tokenizer for Runtime {
    fn encode(&self, text: &str, add_special_tokens: bool, limits: &Limits) -> Result<Encoded, String> {
        let mut caches = self.caches();
        let [before, behind] = &self.meta.specials;
        let special = |ids: &'_ Vec<u32>| if add_special_tokens { ids.clone() } else { Vec::new() };
        let mut ids = special(before);
        // About what prose takes; code and Chinese take up to twice as much.
        ids.reserve(text.len().min(limits.bytes_max) / 3 + 16);
        let mut encoder = Encoder::new(self.tables(), &mut caches, ids, limits.merge_work_max);
        let complete = self.pieces(&mut encoder, text, limits);
        let (mut ids, counts) = encoder.finish();
        for (counter, count) in self.counters.0.iter().zip(counts) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        self.give_back(caches);
        if complete {
            ids.extend(special(behind));
        }
        let complete = complete && ids.len() <= limits.tokens_max;
        ids.truncate(limits.tokens_max);
        Ok(Encoded { ids, complete })
    }

    fn vocab_size(&self) -> usize {
        self.meta.vocab_size as usize
    }

    fn stats(&self) -> Stats {
        let [word_hits, word_misses, segment_hit_bytes, segment_miss_bytes, merge_work] =
            self.counters.0.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let cache_bytes = self.cache_bytes.load(Ordering::Relaxed);
        Stats { word_hits, word_misses, segment_hit_bytes, segment_miss_bytes, merge_work, cache_bytes }
    }
}
