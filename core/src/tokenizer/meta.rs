//! The small part of an asset: everything about a tokenizer that is not a large table.

use super::added::AddedToken;
use super::automata::{Automaton, STAGES_MAX};
use super::cut::Cuts;
use super::rules::{Main, Rules};

/// No id.
pub(super) const NO_ID: u32 = u32::MAX;

/// What the model's first symbols are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Symbols {
    /// `false`: a byte is a symbol, of the id in `bytes`. `true`: a character is one, of the id in the asset's table.
    pub(super) characters: bool,
    /// Ids of bytes: of byte-level symbols, or those that a character without an id falls back to (all of them, or none).
    pub(super) bytes: Vec<u32>,
    /// Id of symbols that have none, or [`NO_ID`]: then they are left out.
    pub(super) unknown: u32,
    /// Neighbouring unknown symbols are one.
    pub(super) fuse_unknown: bool,
}

/// A Unicode normalization form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

/// A step of the normalizer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Form(Form),
    Lowercase,
    /// Replaces every first text by the second.
    Replace(String, String),
    /// Puts the text in front, unless there is nothing.
    Prepend(String),
}

/// When a space is put in front of a text that has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    Never,
    /// In front of every text between added tokens.
    Always,
    /// In front of the text that the prompt starts with.
    First,
    /// In front of every text between the added tokens of the prompt as it is, one that starts with a space as well.
    Prepended,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    /// Ids in the vocabulary with added tokens.
    pub(super) vocab_size: u32,
    pub(super) symbols: Symbols,
    pub(super) steps: Vec<Step>,
    /// SentencePiece: U+2581 is the space, and both are kept as a space here.
    pub(super) metaspace: bool,
    pub(super) prefix: Prefix,
    pub(super) rules: Rules,
    pub(super) cuts: Cuts,
    /// Added tokens that are looked for in the prompt as it is.
    pub(super) added: Vec<AddedToken>,
    /// Added tokens that are looked for in normalized text.
    pub(super) added_normalized: Vec<AddedToken>,
    /// Ids that special tokens put in front of a prompt, and behind it.
    pub(super) specials: [Vec<u32>; 2],
    /// Automata that cut text instead of `rules`; none where a scanner does.
    pub(super) stages: Vec<Automaton>,
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u32);
        self.0.extend(text);
    }

    fn numbers(&mut self, numbers: &[u32]) {
        self.number(numbers.len() as u32);
        numbers.iter().for_each(|number| self.number(*number));
    }
}

/// Reads what [`Writer`] wrote; every read checks, and lengths are bounded by what is left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    fn numbers(&mut self) -> Option<Vec<u32>> {
        self.list(Self::number)
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        // Every entry takes a byte at least.
        if count as usize > self.0.len() {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }
}

impl Meta {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(self.vocab_size);
        out.flag(self.symbols.characters);
        out.numbers(&self.symbols.bytes);
        out.number(self.symbols.unknown);
        out.flag(self.symbols.fuse_unknown);
        out.number(self.steps.len() as u32);
        self.steps.iter().for_each(|step| write_step(&mut out, step));
        out.flag(self.metaspace);
        out.0.push(self.prefix as u8);
        out.0.push(self.rules.main as u8);
        let Rules { contractions, marks, sign_marks, slash, .. } = self.rules;
        [contractions, marks, sign_marks, slash].into_iter().for_each(|flag| out.flag(flag));
        out.number(self.rules.numbers_max);
        self.rules.isolated_max.iter().for_each(|max| out.number(*max));
        [self.cuts.at_space, self.cuts.at_newline].into_iter().for_each(|cut| out.flag(cut));
        for tokens in [&self.added, &self.added_normalized] {
            out.number(tokens.len() as u32);
            for token in tokens {
                out.text(token.content.as_bytes());
                out.number(token.id);
                [token.lstrip, token.rstrip, token.single_word].into_iter().for_each(|flag| out.flag(flag));
            }
        }
        self.specials.iter().for_each(|ids| out.numbers(ids));
        out.number(self.stages.len() as u32);
        self.stages.iter().for_each(|stage| write_stage(&mut out, stage));
        out.0
    }

    /// `None` for anything that [`Self::write`] does not write.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut read = Reader(bytes);
        let meta = Self {
            vocab_size: read.number()?,
            symbols: Symbols {
                characters: read.flag()?,
                bytes: read.numbers()?,
                unknown: read.number()?,
                fuse_unknown: read.flag()?,
            },
            steps: read.list(read_step)?,
            metaspace: read.flag()?,
            prefix: *[Prefix::Never, Prefix::Always, Prefix::First, Prefix::Prepended]
                .get(usize::from(read.byte()?))?,
            rules: Rules {
                main: *Main::ALL.get(usize::from(read.byte()?))?,
                contractions: read.flag()?,
                marks: read.flag()?,
                sign_marks: read.flag()?,
                slash: read.flag()?,
                numbers_max: read.number()?,
                isolated_max: [read.number()?, read.number()?, read.number()?],
            },
            cuts: Cuts { at_space: read.flag()?, at_newline: read.flag()? },
            added: read.list(read_added)?,
            added_normalized: read.list(read_added)?,
            specials: [read.numbers()?, read.numbers()?],
            stages: read.list(read_stage)?,
        };
        let fits = meta.stages.len() <= STAGES_MAX && matches!(meta.symbols.bytes.len(), 0 | 256);
        (read.0.is_empty() && fits).then_some(meta)
    }
}

const FORMS: [Form; 4] = [Form::Nfc, Form::Nfd, Form::Nfkc, Form::Nfkd];

fn write_step(out: &mut Writer, step: &Step) {
    match step {
        Step::Form(form) => out.0.push(*form as u8),
        Step::Lowercase => out.0.push(4),
        Step::Replace(from, to) => {
            out.0.push(5);
            out.text(from.as_bytes());
            out.text(to.as_bytes());
        }
        Step::Prepend(text) => {
            out.0.push(6);
            out.text(text.as_bytes());
        }
    }
}

fn read_step(read: &mut Reader<'_>) -> Option<Step> {
    Some(match read.byte()? {
        4 => Step::Lowercase,
        5 => Step::Replace(read.text().filter(|from| !from.is_empty())?, read.text()?),
        6 => Step::Prepend(read.text()?),
        form => Step::Form(*FORMS.get(usize::from(form))?),
    })
}

fn write_stage(out: &mut Writer, stage: &Automaton) {
    out.flag(stage.bytes);
    out.flag(stage.drops);
    out.text(&stage.matches);
    out.text(&stage.next.iter().flat_map(|state| state.to_le_bytes()).collect::<Vec<u8>>());
}

fn read_stage(read: &mut Reader<'_>) -> Option<Automaton> {
    let (bytes, drops, matches) = (read.flag()?, read.flag()?, read.bytes()?.to_vec());
    let next = read.bytes()?.as_chunks().0.iter().map(|state| u16::from_le_bytes(*state)).collect();
    Automaton::new(bytes, drops, next, matches)
}

fn read_added(read: &mut Reader<'_>) -> Option<AddedToken> {
    let content = read.text().filter(|content| !content.is_empty())?;
    Some(AddedToken {
        content,
        id: read.number()?,
        lstrip: read.flag()?,
        rstrip: read.flag()?,
        single_word: read.flag()?,
    })
}
