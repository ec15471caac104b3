//! One call of `encode`: text between added tokens to ids, through the caches.

use std::borrow::Cow;

use super::added::{ADDED_STEPS_PER_WORK, Matcher, Piece};
use super::automata::{Atoms, Next, Stages};
use super::classes::Classes;
use super::folds::Folds;
use super::merge::Merger;
use super::meta::{Meta, Prefix};
use super::normalize::normalize;
use super::pairs::Pairs;
use super::runtime::CacheSizes;
use super::scan::Scanner;
use super::symbols::push_symbols;
use super::text::{KEY_BYTES_MAX, Key};
use super::texts::Texts;
use super::vocabulary::Vocabulary;
use super::words::Words;

/// Shorter texts are not kept as segments: their words are in the cache of words.
const SEGMENT_BYTES_MIN: usize = 64;

/// Longest word that is kept. Longer ones are rare, and seldom seen twice.
const LONG_WORD_BYTES_MAX: usize = 255;

/// Steps of automata that take as long as one unit of merge work ([`super::Limits::merge_work_max`]).
const STAGE_STEPS_PER_WORK: u64 = 4;

/// Merge work of a look-up in the vocabulary.
const LOOK_UP_WORK: u64 = 8;

/// The tables of an asset.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) meta: &'a Meta,
    pub(super) classes: Classes<'a>,
    pub(super) vocabulary: Vocabulary<'a>,
    pub(super) pairs: Pairs<'a>,
    /// Character and id, 4 bytes each, by character.
    pub(super) characters: &'a [[u8; 8]],
    pub(super) folds: Folds<'a>,
    pub(super) atoms: Atoms<'a>,
    pub(super) added_normalized: &'a Matcher,
}

/// What one thread keeps between calls.
pub(super) struct Caches {
    words: Words,
    long_words: Texts,
    segments: Option<Texts>,
    merger: Merger,
}

impl Caches {
    /// Empty, but for words that are tokens: those of the lowest ids, which training made first as they are the most
    /// frequent. So few words of the first prompt are new, and the memory is there before it comes. Cost: 16,384 words
    /// take some 0.5 ms.
    pub(super) fn new(sizes: CacheSizes, vocabulary: &Vocabulary<'_>) -> Self {
        let mut words = Words::new(sizes.word_bits, sizes.seed);
        words.fill(vocabulary.short_texts());
        let texts = |bytes: usize, slots: usize| Texts::new(bytes, slots, sizes.seed);
        Self {
            words,
            long_words: texts(sizes.long_words_bytes.max(1 << 12), sizes.long_words_bytes >> 6),
            segments: (sizes.segments_bytes > 0)
                .then(|| texts(sizes.segments_bytes, sizes.segments_bytes >> 8)),
            merger: Merger::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.bytes() + self.long_words.bytes() + self.segments.as_ref().map_or(0, Texts::bytes)
    }
}

/// One call.
pub(super) struct Encoder<'a> {
    tables: Tables<'a>,
    caches: &'a mut Caches,
    pub(super) ids: Vec<u32>,
    /// Merge work that is left, and what there was.
    budget: u64,
    work_max: u64,
    /// Work that the budget does not know.
    other_work: u64,
    words: u64,
    misses: u64,
    segment_hit_bytes: u64,
    segment_miss_bytes: u64,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(tables: Tables<'a>, caches: &'a mut Caches, ids: Vec<u32>, work_max: u64) -> Self {
        Self {
            tables,
            caches,
            ids,
            budget: work_max,
            work_max,
            other_work: 0,
            words: 0,
            misses: 0,
            segment_hit_bytes: 0,
            segment_miss_bytes: 0,
        }
    }

    /// The ids, and counts in the order of [`super::runtime::Stats`].
    pub(super) fn finish(self) -> (Vec<u32>, [u64; 5]) {
        let counts = [
            self.words - self.misses,
            self.misses,
            self.segment_hit_bytes,
            self.segment_miss_bytes,
            self.work_max - self.budget + self.other_work,
        ];
        (self.ids, counts)
    }

    /// Counts work that was done for the text elsewhere.
    pub(super) fn count_work(&mut self, work: u64) {
        self.other_work += work;
    }

    /// Encodes a text between added tokens, segment by segment. `false`: a limit was met, and the ids are those of a
    /// prefix.
    pub(super) fn text(&mut self, text: &str, is_first: bool, tokens_max: usize) -> bool {
        let has_prefix = self.tables.meta.prefix != Prefix::Never;
        let mut from = 0;
        while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
            let end = self.tables.meta.cuts.segment_end(rest);
            let segment = rest.get(..end).unwrap_or(rest);
            let starts = from == 0;
            // The same text has other ids where a prefix is put in front of it.
            let kind = u32::from(has_prefix && starts) + u32::from(has_prefix && starts && is_first);
            if !self.segment(segment, kind, starts, is_first) || self.ids.len() > tokens_max {
                return false;
            }
            from += segment.len();
        }
        true
    }

    fn segment(&mut self, segment: &str, kind: u32, starts: bool, is_first: bool) -> bool {
        let is_kept = segment.len() >= SEGMENT_BYTES_MIN;
        let mut hash = 0;
        if is_kept && let Some(segments) = &mut self.caches.segments {
            hash = segments.hash(segment.as_bytes(), kind);
            if segments.append(segment.as_bytes(), kind, hash, &mut self.ids).is_some() {
                self.segment_hit_bytes += segment.len() as u64;
                return true;
            }
        }
        let from = self.ids.len();
        if !self.normalized(segment, starts, is_first) {
            return false;
        }
        self.segment_miss_bytes += segment.len() as u64;
        if is_kept && let (Some(segments), Some(ids)) = (&mut self.caches.segments, self.ids.get(from..)) {
            segments.insert(segment.as_bytes(), kind, hash, ids);
        }
        true
    }

    fn normalized(&mut self, segment: &str, starts: bool, is_first: bool) -> bool {
        let Tables { meta, classes, added_normalized, .. } = self.tables;
        let mut text = normalize(segment, &meta.steps, &classes);
        if meta.metaspace && text.contains('\u{2581}') {
            text = Cow::Owned(text.replace('\u{2581}', " "));
        }
        if meta.prefix == Prefix::Prepended && starts && !text.is_empty() {
            text = Cow::Owned(format!(" {text}"));
        }
        if added_normalized.is_empty() {
            return self.piece(&text, starts, is_first && starts);
        }
        let granted = self.budget.saturating_mul(ADDED_STEPS_PER_WORK);
        let mut left = granted;
        let every = added_normalized.split(&text, &mut left, |piece| match piece {
            Piece::Token { id, .. } => {
                self.ids.push(id);
                true
            }
            Piece::Text { text, at, .. } => self.piece(text, starts || at > 0, is_first && starts && at == 0),
            Piece::Rest { .. } => false,
        });
        self.budget = self.budget.saturating_sub((granted - left) / ADDED_STEPS_PER_WORK);
        every
    }

    /// What is left between added tokens of both kinds.
    fn piece(&mut self, text: &str, starts: bool, is_first: bool) -> bool {
        let wanted = match self.tables.meta.prefix {
            Prefix::Always => starts,
            Prefix::First => is_first,
            Prefix::Never | Prefix::Prepended => false,
        };
        if wanted && !text.is_empty() && !text.starts_with(' ') {
            return self.words(format!(" {text}").as_bytes());
        }
        self.words(text.as_bytes())
    }

    fn words(&mut self, bytes: &[u8]) -> bool {
        if !self.tables.meta.stages.is_empty() {
            return self.words_of_stages(bytes);
        }
        if self.tables.meta.rules.isolated_max == [0; 3] {
            self.words_of_rules::<false>(bytes)
        } else {
            self.words_of_rules::<true>(bytes)
        }
    }

    fn words_of_rules<const ISOLATES: bool>(&mut self, bytes: &[u8]) -> bool {
        let scanner = Scanner::<ISOLATES>::new(bytes, self.tables.classes, self.tables.meta.rules);
        let mut at = 0;
        while at < bytes.len() {
            let next = scanner.next(at);
            let end = if next > at { next.min(bytes.len()) } else { bytes.len() };
            if !self.word(bytes, at, end) {
                return false;
            }
            at = end;
        }
        true
    }

    /// The same where no scanner is written for the file.
    fn words_of_stages(&mut self, bytes: &[u8]) -> bool {
        let Tables { meta, atoms, .. } = self.tables;
        let granted = self.budget.saturating_mul(STAGE_STEPS_PER_WORK);
        let mut stages = Stages::new(&meta.stages, atoms, bytes, granted);
        let mut at = 0;
        while at < bytes.len() {
            let from = at;
            let next = stages.next(at);
            let (Next::Word(end) | Next::Dropped(end)) = next else {
                self.budget = 0;
                return false;
            };
            at = if end > at { end.min(bytes.len()) } else { bytes.len() };
            if matches!(next, Next::Word(_)) && !self.word(bytes, from, at) {
                return false;
            }
        }
        self.budget = self.budget.saturating_sub((granted - stages.steps) / STAGE_STEPS_PER_WORK);
        true
    }

    #[inline(always)]
    fn word(&mut self, bytes: &[u8], at: usize, end: usize) -> bool {
        self.words += 1;
        if end - at <= KEY_BYTES_MAX {
            let key = Key::at(bytes, at, end - at);
            self.caches.words.append(key, &mut self.ids)
                || self.new_word(key, bytes.get(at..end).unwrap_or_default())
        } else {
            self.long_word(bytes.get(at..end).unwrap_or_default())
        }
    }

    #[inline(never)]
    fn new_word(&mut self, key: Key, word: &[u8]) -> bool {
        let from = self.ids.len();
        let id = self.tables.vocabulary.id_of_key(key);
        if !self.encode(word, id) {
            return false;
        }
        self.caches.words.insert(key, self.ids.get(from..).unwrap_or_default());
        true
    }

    #[inline(never)]
    fn long_word(&mut self, word: &[u8]) -> bool {
        if word.len() > LONG_WORD_BYTES_MAX {
            return self.encode(word, self.tables.vocabulary.id(word));
        }
        let hash = self.caches.long_words.hash(word, 0);
        if self.caches.long_words.append(word, 0, hash, &mut self.ids).is_some() {
            return true;
        }
        let from = self.ids.len();
        if !self.encode(word, self.tables.vocabulary.id(word)) {
            return false;
        }
        self.caches.long_words.insert(word, 0, hash, self.ids.get(from..).unwrap_or_default());
        true
    }

    /// A word that no cache knows: the token that it is, or symbols to merge.
    #[inline(always)]
    fn encode(&mut self, word: &[u8], token: Option<u32>) -> bool {
        self.misses += 1;
        let Some(left) = self.budget.checked_sub(LOOK_UP_WORK) else { return false };
        self.budget = left;
        if let Some(id) = token {
            self.ids.push(id);
            return true;
        }
        let merger = &mut self.caches.merger;
        merger.symbols.clear();
        push_symbols(&self.tables, word, &mut merger.symbols);
        if !merger.merge(&self.tables.pairs, word, &mut self.budget) {
            return false;
        }
        self.ids.extend_from_slice(&merger.symbols);
        true
    }
}
