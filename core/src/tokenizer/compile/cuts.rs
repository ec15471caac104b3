//! Where texts of a file may be cut.

use super::super::automata::{Automaton, DEAD, MATCH, NO_MATCH, START};
use super::super::cut::Cuts;
use super::super::meta::Step;
use super::Cut;
use super::added::Added;
use super::automata::Automata;

/// Where texts may be cut: see [`super::Rules::cut_at_space`]. Not where a step of the normalizer looks at more than one
/// character in a way of its own, or where an added token that is looked for in normalized text could span the cut.
pub(super) fn cuts(cut: &Cut, steps: &[Step], added: &Added) -> Cuts {
    let simple = steps.iter().all(|step| matches!(step, Step::Form(_) | Step::Lowercase));
    let plain = added.normalized.iter().all(|token| !(token.lstrip || token.rstrip || token.single_word));
    let within = |byte: char| {
        let mut tokens = added.normalized.iter().map(|token| token.content.trim_matches(byte));
        tokens.any(|content| content.contains(byte))
    };
    let has = |byte: char| added.normalized.iter().any(|token| token.content.contains(byte));
    let may = simple && plain;
    let [at_space, at_newline] = match &cut.automata {
        Some(automata) => safe(automata),
        None => [cut.rules.cut_at_space(), cut.rules.cut_at_newline()],
    };
    // A token that starts with a space starts at the cut; one that ends with a space ends after one, where none is.
    Cuts { at_space: may && at_space && !within(' '), at_newline: may && at_newline && !has('\n') }
}

/// Whether automata cut in front of spaces and behind line ends, at the places that [`Cuts`] names.
fn safe(automata: &Automata) -> [bool; 2] {
    let atoms = |is_one: &dyn Fn(char) -> bool| {
        let mut known = [false; 256];
        for (code, atom) in (0..).zip(&automata.table) {
            if char::from_u32(code).is_some_and(is_one)
                && let Some(entry) = known.get_mut(usize::from(*atom))
            {
                *entry = true;
            }
        }
        (0..256).zip(known).filter(|(_, known)| *known).map(|(atom, _)| atom).collect::<Vec<usize>>()
    };
    let is_plain = |c: char| !c.is_whitespace() && !c.is_ascii_control();
    let at_space = [atoms(&|c| is_plain(c) && c != '\u{2581}'), atoms(&|c| c == ' ')];
    let at_newline = [atoms(&|c| c == '\n'), atoms(&|c| is_plain(c) && c != '/')];
    [at_space, at_newline].map(|[before, after]| {
        // Stages that only leave the place alone pass it on to the next one.
        let mut stages = automata.stages.iter().take_while(|stage| !stage.bytes);
        let decided = stages.find_map(|stage| match stage.leaves_alone(&before, &after) {
            false => Some(false),
            true => stage.always_matches(&before).then_some(true),
        });
        decided == Some(true)
    })
}

impl Automaton {
    fn says(&self, state: u16) -> u8 {
        self.matches.get(usize::from(state)).copied().unwrap_or(NO_MATCH)
    }

    /// Whether no match goes on from an atom of `before` to one of `after`, and each ends as it would at the end of the text.
    fn leaves_alone(&self, before: &[usize], after: &[usize]) -> bool {
        let end = self.end();
        let states = 0..u16::try_from(self.matches.len()).unwrap_or(u16::MAX);
        let mut places = states.flat_map(|state| before.iter().map(move |atom| self.followed(state, *atom)));
        places.all(|place| {
            let at_end = self.says(self.followed(place, end));
            after.iter().all(|atom| {
                let beyond = self.followed(place, *atom);
                let over = (0..=end).all(|column| self.followed(beyond, column) == DEAD);
                over && self.says(beyond) == at_end
            })
        })
    }

    /// Whether each of these atoms is a match by itself, whatever follows, so that none lies between matches.
    fn always_matches(&self, atoms: &[usize]) -> bool {
        atoms.iter().all(|atom| {
            let state = self.followed(START, *atom);
            (0..=self.end()).all(|column| self.says(self.followed(state, column)) == MATCH)
        })
    }
}
