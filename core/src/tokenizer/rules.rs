//! How a file cuts text into words: the pre-tokenizer, recognised by the compiler, carried by the asset.

/// The main expression: what cuts text that no stage before it has isolated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Main {
    /// No cut: all of it is one word.
    Whole,
    /// SentencePiece without a pre-tokenizer: a run of spaces and what follows it up to the next space is one word.
    /// Exact when no merge makes a token that has a space behind something else, which the compiler has checked.
    Spaces,
    /// `Metaspace` with `split`: every space starts a word.
    EverySpace,
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|…)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+` and its
    /// relatives: Llama 3, Qwen, GLM.
    Cl100k,
    /// The same with words cut where lower case meets upper case: o200k, tekken.
    O200k,
    /// DeepSeek V3's third stage: punctuation with the ASCII letters behind it, marks as letters.
    DeepSeek,
}

impl Main {
    /// By its number in an asset.
    pub(super) const ALL: [Self; 7] =
        [Self::Whole, Self::Spaces, Self::EverySpace, Self::Gpt2, Self::Cl100k, Self::O200k, Self::DeepSeek];
}

/// Alternatives and classes in which relatives of one main expression differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rules {
    /// The main expression.
    pub(super) main: Main,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)` as an alternative (Cl100k) or as a suffix of words (O200k).
    pub(super) contractions: bool,
    /// Marks count as letters (Cl100k).
    pub(super) marks: bool,
    /// Marks count as signs, `[^\s\p{L}\p{N}]` (Cl100k).
    pub(super) sign_marks: bool,
    /// Longest run of numbers that is one word (Cl100k, O200k).
    pub(super) numbers_max: u32,
    /// `/` goes with the line ends behind punctuation (O200k).
    pub(super) slash: bool,
    /// Longest run that each stage before the main expression isolates, by the place of its flag in
    /// [`super::classes::ISOLATED`]. 0: no such stage.
    pub(super) isolated_max: [u32; 3],
}

impl Rules {
    /// Whether text may be cut before an ASCII space that follows something else than white space: no word of any of
    /// these expressions has such a place inside, none looks behind where it starts, and what ends there only asks
    /// whether the run goes on. (What automata do, the compiler finds out.)
    pub(super) fn cut_at_space(&self) -> bool {
        self.main != Main::Whole
    }

    /// Whether text may be cut between `\n` and what is neither white space nor `/`: every word with a line end in it
    /// ends at its last one. Not so where `\s+(?!\S)` leaves the last line end to the next word.
    pub(super) fn cut_at_newline(&self) -> bool {
        matches!(self.main, Main::Cl100k | Main::O200k | Main::DeepSeek)
    }
}
