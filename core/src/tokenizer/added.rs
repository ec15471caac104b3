//! Added tokens: texts that become one id wherever they occur, before anything else looks at the prompt.

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AddedToken {
    /// The text that is looked for. Not empty.
    pub(super) content: String,
    pub(super) id: u32,
    /// White space in front of it belongs to it.
    pub(super) lstrip: bool,
    /// White space behind it belongs to it.
    pub(super) rstrip: bool,
    /// It counts only between characters that are no `\w`.
    pub(super) single_word: bool,
}

/// A piece of a text: an added token, or what lies between two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'t> {
    /// An added token.
    Token {
        id: u32,
        /// Where its content starts.
        at: usize,
    },
    Text {
        text: &'t str,
        /// Where it starts.
        at: usize,
        /// Where the content of the next token starts, or the text ends.
        next: usize,
    },
}

/// Finds added tokens: the leftmost, of those the longest, as the automaton of the crate `tokenizers` does.
///
/// Cost: one `memchr` over the text when the tokens start with at most three different bytes, else one look per byte;
/// where a token may start, a binary search per byte that goes on matching.
pub(super) struct Matcher {
    /// By content.
    tokens: Vec<AddedToken>,
    /// Whether a token starts with this byte.
    starts: [bool; 256],
    /// Whether a token has this byte as its second one, or any after a token of one byte.
    seconds: [bool; 256],
    /// The different first bytes, if they are at most three; the last one is repeated.
    needles: Option<[u8; 3]>,
    longest: usize,
}

impl Matcher {
    pub(super) fn new(mut tokens: Vec<AddedToken>) -> Self {
        tokens.sort_by(|left, right| left.content.cmp(&right.content));
        let mut starts = [false; 256];
        let firsts = tokens.iter().filter_map(|token| token.content.as_bytes().first());
        firsts.for_each(|byte| {
            if let Some(start) = starts.get_mut(usize::from(*byte)) {
                *start = true;
            }
        });
        let mut seconds = [tokens.iter().any(|token| token.content.len() == 1); 256];
        for byte in tokens.iter().filter_map(|token| token.content.as_bytes().get(1)) {
            if let Some(second) = seconds.get_mut(usize::from(*byte)) {
                *second = true;
            }
        }
        let mut distinct = (0..=255_u8).filter(|byte| starts.get(usize::from(*byte)) == Some(&true));
        let needles = distinct.next().and_then(|first| {
            let second = distinct.next().unwrap_or(first);
            let third = distinct.next().unwrap_or(second);
            distinct.next().is_none().then_some([first, second, third])
        });
        let longest = tokens.iter().map(|token| token.content.len()).max().unwrap_or(0);
        Self { tokens, starts, seconds, needles, longest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Bytes of the longest token.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The next match from `from`: where it starts, and the token.
    fn find(&self, text: &[u8], mut from: usize) -> Option<(usize, &AddedToken)> {
        loop {
            let rest = text.get(from..)?;
            let skipped = match self.needles {
                Some([first, second, third]) if second == third && first == second => {
                    memchr::memchr(first, rest)
                }
                Some([first, second, third]) => memchr::memchr3(first, second, third, rest),
                None => rest.iter().position(|byte| self.starts.get(usize::from(*byte)) == Some(&true)),
            }?;
            from += skipped;
            let second = rest.get(skipped + 1).copied().unwrap_or(0);
            if (self.seconds.get(usize::from(second)) == Some(&true) || rest.len() == skipped + 1)
                && let Some(token) = self.longest_at(rest.get(skipped..)?)
            {
                return Some((from, token));
            }
            from += 1;
        }
    }

    /// The longest token that `text` starts with.
    fn longest_at(&self, text: &[u8]) -> Option<&AddedToken> {
        let mut candidates = self.tokens.as_slice();
        let mut longest = None;
        for (depth, byte) in text.iter().enumerate() {
            let at = |token: &AddedToken| token.content.as_bytes().get(depth).copied();
            let start = candidates.partition_point(|token| at(token) < Some(*byte));
            let end = candidates.partition_point(|token| at(token) <= Some(*byte));
            candidates = candidates.get(start..end).unwrap_or_default();
            match candidates.first() {
                None => break,
                // What ends here comes first.
                Some(token) if token.content.len() == depth + 1 => longest = Some(token),
                Some(_) => {}
            }
        }
        longest
    }

    /// Gives `text` to `each`, piece by piece, until that answers `false`; answers whether it never did.
    ///
    /// The rules for white space and words are those of `AddedVocabulary::find_matches`, down to a token with `rstrip` that
    /// takes white space which the next match starts with.
    pub(super) fn split<'t>(&self, text: &'t str, mut each: impl FnMut(Piece<'t>) -> bool) -> bool {
        let (mut done, mut from) = (0, 0);
        while let Some((at, token)) = self.find(text.as_bytes(), from) {
            let (mut start, mut stop) = (at, at + token.content.len());
            from = stop;
            let (Some(before), Some(behind)) = (text.get(..start), text.get(stop..)) else { continue };
            if token.single_word
                && (before.chars().next_back().is_some_and(is_word)
                    || behind.chars().next().is_some_and(is_word))
            {
                continue;
            }
            if token.lstrip {
                start = before.trim_end().len().max(done);
            }
            if token.rstrip {
                stop += behind.len() - behind.trim_start().len();
            }
            if let Some(between) = text.get(done..start).filter(|between| !between.is_empty())
                && !each(Piece::Text { text: between, at: done, next: at })
            {
                return false;
            }
            if !each(Piece::Token { id: token.id, at }) {
                return false;
            }
            done = stop;
        }
        match text.get(done..) {
            Some(rest) if !rest.is_empty() => each(Piece::Text { text: rest, at: done, next: text.len() }),
            _ => true,
        }
    }
}

/// `\w` of the crate `regex`.
fn is_word(character: char) -> bool {
    regex_syntax::is_word_character(character)
}
