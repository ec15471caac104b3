//! Arguments of a call, and how they are matched to parameters.

use super::fail::{Outcome, raise};
use super::value::{Text, Value};

#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) positional: Vec<Value<'a>>,
    pub(super) keywords: Vec<(Text<'a>, Value<'a>)>,
}

impl<'a> Given<'a> {
    pub(super) fn with_caller(mut self, caller: Option<Value<'a>>) -> Self {
        if let Some(caller) = caller {
            self.keywords.push((Text::Borrowed("caller"), caller));
        }
        self
    }

    /// Takes a keyword argument out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.keywords.iter().position(|(known, _)| known.as_str() == name)?;
        Some(self.keywords.remove(at).1)
    }

    pub(super) fn positional_only(self, function: &str) -> Outcome<Vec<Value<'a>>> {
        if !self.keywords.is_empty() {
            return Err(raise(format!("{function}() takes no keyword arguments")));
        }
        Ok(self.positional)
    }

    /// Matches arguments to parameters, of which the first `required` must be given. A parameter without a name takes
    /// no keyword.
    pub(super) fn bind<const N: usize>(
        self,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Outcome<[Option<Value<'a>>; N]> {
        if self.positional.len() > N {
            let given = self.positional.len();
            return Err(raise(format!("{function}() takes at most {N} arguments ({given} given)")));
        }
        let mut bound = [const { None }; N];
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.keywords {
            let name = name.as_str();
            let at = names.iter().position(|known| !known.is_empty() && *known == name);
            match at.and_then(|at| bound.get_mut(at)) {
                Some(place) if place.is_none() => *place = Some(value),
                Some(_) => {
                    return Err(raise(format!("{function}() got multiple values for argument '{name}'")));
                }
                None => {
                    return Err(raise(format!("{function}() got an unexpected keyword argument '{name}'")));
                }
            }
        }
        if bound.iter().take(required).any(Option::is_none) {
            return Err(raise(format!("{function}() misses a required argument")));
        }
        Ok(bound)
    }
}
