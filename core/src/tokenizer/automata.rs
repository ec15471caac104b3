//! Pre-tokenizers that no scanner is written for: stages of expressions, each a table that is walked character by character.
//!
//! The compiler has put all characters that no expression of the file tells apart under one number, their atom, and has
//! made a deterministic automaton over atoms of each expression, with the preferences of a backtracking engine (leftmost,
//! first alternative). Cost: two loads to find an atom, one for each step of each stage. A step behind a match is taken
//! again for the next one, so expressions exist that take a square of the text; steps are counted and end with a budget.

use super::classes::{Classes, decode};

/// Stages of one pre-tokenizer. Real ones have at most five.
pub(super) const STAGES_MAX: usize = 8;
/// The state in which nothing can match any more.
pub(super) const DEAD: u16 = 0;
/// The state that a match starts in.
pub(super) const START: u16 = 1;
/// What a state says of a match: there is none.
pub(super) const NO_MATCH: u8 = 0;
/// There is one, and it ended where the last atom began.
pub(super) const MATCH: u8 = 1;
/// There is one, and it ended an atom before that: the expression looked at one more.
pub(super) const SHORTER_MATCH: u8 = 2;

/// One stage: its matches are words of their own, and so is what lies between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Automaton {
    /// Bytes are its characters: a stage behind `ByteLevel`.
    pub(super) bytes: bool,
    /// What lies between matches is dropped.
    pub(super) drops: bool,
    /// Next states: a row for each state, with an entry for each atom and one for the end.
    pub(super) next: Vec<u16>,
    /// By state, [`NO_MATCH`], [`MATCH`] or [`SHORTER_MATCH`].
    pub(super) matches: Vec<u8>,
    /// Entries in a row.
    width: usize,
}

impl Automaton {
    /// `None` if the rows are not of one length.
    pub(super) fn new(bytes: bool, drops: bool, next: Vec<u16>, matches: Vec<u8>) -> Option<Self> {
        let width = next.len().checked_div(matches.len())?;
        (width > 0 && next.len() == width * matches.len()).then_some(Self {
            bytes,
            drops,
            next,
            matches,
            width,
        })
    }

    /// What follows a state on an atom, or on the end, which is the last column.
    #[inline]
    pub(super) fn followed(&self, state: u16, column: usize) -> u16 {
        self.next.get(usize::from(state) * self.width + column).copied().unwrap_or(DEAD)
    }

    /// The column of the end.
    pub(super) fn end(&self) -> usize {
        self.width - 1
    }
}

/// Atoms of characters and bytes.
#[derive(Clone, Copy)]
pub(super) struct Atoms<'a> {
    /// By character, in the tables that classes are in as well.
    pub(super) characters: Classes<'a>,
    /// By byte.
    pub(super) bytes: &'a [u8],
}

impl Atoms<'_> {
    /// Atom and length of what is at `at`.
    #[inline]
    fn at(&self, text: &[u8], at: usize, bytes: bool) -> (u8, usize) {
        match text.get(at) {
            Some(byte) if bytes => (self.bytes.get(usize::from(*byte)).copied().unwrap_or(0), 1),
            Some(byte) if *byte < 0x80 => (self.characters.ascii(*byte), 1),
            _ => {
                let (code, length) = decode(text, at);
                (self.characters.of(code), length)
            }
        }
    }
}

/// A text on its way through the stages.
pub(super) struct Stages<'a> {
    automata: &'a [Automaton],
    atoms: Atoms<'a>,
    text: &'a [u8],
    /// Where the piece of each stage ends that the next stage is in.
    ends: [usize; STAGES_MAX],
    /// Steps that may still be taken.
    pub(super) steps: u64,
}

/// What [`Stages::next`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// A word that ends there.
    Word(usize),
    /// Text up to there that is dropped.
    Dropped(usize),
    /// All steps have been taken.
    OutOfSteps,
}

impl<'a> Stages<'a> {
    /// `text` must be UTF-8: anything else is cut anyhow.
    pub(super) fn new(automata: &'a [Automaton], atoms: Atoms<'a>, text: &'a [u8], steps: u64) -> Self {
        Self { automata, atoms, text, ends: [0; STAGES_MAX], steps }
    }

    /// The word that starts at `at`, which is 0 or where the last one ended.
    pub(super) fn next(&mut self, at: usize) -> Next {
        let mut limit = self.text.len();
        for (stage, automaton) in self.automata.iter().enumerate().take(STAGES_MAX) {
            let known = self.ends.get(stage).copied().filter(|end| *end > at);
            if let Some(end) = known {
                limit = end;
                continue;
            }
            let (end, matched) = self.piece(automaton, at, limit);
            if self.steps == 0 {
                return Next::OutOfSteps;
            }
            if !matched && automaton.drops {
                return Next::Dropped(end);
            }
            if let Some(entry) = self.ends.get_mut(stage) {
                *entry = end;
            }
            limit = end;
        }
        Next::Word(limit)
    }

    /// A match at `at`, or what lies before the next one, and which of both.
    fn piece(&mut self, automaton: &Automaton, at: usize, limit: usize) -> (usize, bool) {
        if let Some(end) = self.matched(automaton, at, limit) {
            return (end, true);
        }
        let mut end = at + self.atoms.at(self.text, at, automaton.bytes).1;
        while end < limit && self.steps > 0 {
            let (atom, length) = self.atoms.at(self.text, end, automaton.bytes);
            self.steps -= 1;
            let starts = automaton.followed(START, usize::from(atom)) != DEAD;
            if starts && self.matched(automaton, end, limit).is_some() {
                break;
            }
            end += length;
        }
        (end.min(limit), false)
    }

    /// End of the match that starts at `at`, in a text that ends at `limit`.
    fn matched(&mut self, automaton: &Automaton, at: usize, limit: usize) -> Option<usize> {
        let (mut state, mut place, mut before, mut found) = (START, at, at, None);
        loop {
            let (atom, length) = match place < limit {
                true => self.atoms.at(self.text, place, automaton.bytes),
                false => (0, 0),
            };
            let column = if length == 0 { automaton.end() } else { usize::from(atom) };
            state = automaton.followed(state, column);
            self.steps = self.steps.saturating_sub(1);
            match automaton.matches.get(usize::from(state)).copied().unwrap_or(NO_MATCH) {
                MATCH => found = Some(place),
                SHORTER_MATCH => found = Some(before),
                _ => {}
            }
            if state == DEAD || length == 0 || self.steps == 0 {
                return found.filter(|end| *end > at);
            }
            before = place;
            place += length;
        }
    }
}
