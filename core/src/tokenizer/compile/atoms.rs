//! Atoms: characters that none of a file's expressions tells apart have one number.

use std::collections::{BTreeSet, HashMap};

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Repetition};

use super::{CompileError, unsupported};

/// Atoms of one file; an automaton's rows have as many entries.
const ATOMS_MAX: usize = 250;
const CODES: usize = 0x11_0000;
/// Tells atoms inside of a set from those outside: over every atom's number.
const INSIDE: u16 = 0x100;

type Ranges = Vec<(u32, u32)>;

/// The atom of every character, and which atoms a set of characters is made of.
pub(super) struct Atoms {
    /// By code point.
    pub(super) table: Vec<u8>,
    sets: HashMap<Ranges, Vec<u8>>,
    /// Atoms there are, from 0 on.
    pub(super) count: usize,
}

impl Atoms {
    /// Those of all sets of characters in `expressions`.
    pub(super) fn of<'a>(expressions: impl IntoIterator<Item = &'a Hir>) -> Result<Self, CompileError> {
        let mut sets = HashMap::new();
        for expression in expressions {
            collect(expression, &mut sets)?;
        }
        let mut table = vec![0_u16; CODES];
        let mut count = 1;
        for set in sets.keys() {
            // Atoms that have characters inside and outside of the set become two.
            for (start, end) in set {
                let entries = table.get_mut(*start as usize..=*end as usize).unwrap_or_default();
                entries.iter_mut().for_each(|atom| *atom |= INSIDE);
            }
            count = renumber(&mut table);
            if count > ATOMS_MAX {
                return unsupported("pre_tokenizer: expressions of too many different sets of characters");
            }
        }
        let table: Vec<u8> = table.into_iter().map(|atom| atom as u8).collect();
        for (set, atoms) in &mut sets {
            let entries =
                |range: &(u32, u32)| table.get(range.0 as usize..=range.1 as usize).unwrap_or_default();
            atoms.extend(set.iter().flat_map(entries).collect::<BTreeSet<_>>());
        }
        Ok(Self { table, sets, count })
    }

    /// The expression over atoms, each a byte.
    pub(super) fn over(&self, expression: &Hir) -> Result<Hir, CompileError> {
        let all = |parts: &[Hir]| parts.iter().map(|part| self.over(part)).collect::<Result<Vec<_>, _>>();
        Ok(match expression.kind() {
            HirKind::Empty => Hir::empty(),
            HirKind::Class(Class::Unicode(class)) => {
                let ranges = class.ranges().iter().map(|range| (range.start().into(), range.end().into()));
                self.set(&ranges.collect())
            }
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0);
                let text = text
                    .map_err(|_| CompileError::Unsupported("pre_tokenizer: an expression of bytes".into()))?;
                Hir::concat(text.chars().map(|character| self.set(&one(character))).collect())
            }
            HirKind::Repetition(repetition) => Hir::repetition(Repetition {
                sub: Box::new(self.over(&repetition.sub)?),
                ..repetition.clone()
            }),
            HirKind::Capture(capture) => self.over(&capture.sub)?,
            HirKind::Concat(parts) => Hir::concat(all(parts)?),
            HirKind::Alternation(parts) => Hir::alternation(all(parts)?),
            HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => {
                return unsupported(format!("pre_tokenizer: expression {expression}"));
            }
        })
    }

    fn set(&self, ranges: &Ranges) -> Hir {
        let atoms = self.sets.get(ranges).into_iter().flatten();
        Hir::class(Class::Bytes(ClassBytes::new(atoms.map(|atom| ClassBytesRange::new(*atom, *atom)))))
    }
}

fn one(character: char) -> Ranges {
    vec![(character.into(), character.into())]
}

/// The sets of characters in an expression, each with no atoms yet.
fn collect(expression: &Hir, sets: &mut HashMap<Ranges, Vec<u8>>) -> Result<(), CompileError> {
    match expression.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges().iter().map(|range| (range.start().into(), range.end().into()));
            sets.entry(ranges.collect()).or_default();
            Ok(())
        }
        HirKind::Literal(literal) => {
            let text = String::from_utf8_lossy(&literal.0);
            text.chars().for_each(|character| {
                sets.entry(one(character)).or_default();
            });
            Ok(())
        }
        HirKind::Repetition(repetition) => collect(&repetition.sub, sets),
        HirKind::Capture(capture) => collect(&capture.sub, sets),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().try_for_each(|part| collect(part, sets))
        }
        HirKind::Empty | HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => Ok(()),
    }
}

/// Numbers atoms anew, in the order of their first characters; how many there are, at most twice [`ATOMS_MAX`].
fn renumber(table: &mut [u16]) -> usize {
    let mut numbers = [None; 2 * INSIDE as usize];
    let mut count = 0;
    for atom in table {
        if let Some(number) = numbers.get_mut(usize::from(*atom)) {
            *atom = *number.get_or_insert_with(|| {
                count += 1;
                count - 1
            });
        }
    }
    usize::from(count)
}
