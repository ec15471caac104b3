//! The models of the sidecar's catalog, as far as they are loaded in this VM. Fetching them is [`crate::fetch`]'s.

use warmpath_core::definition::{Catalog, Mode, ModelDefinition, Tokenize};
use warmpath_core::model::Model;
use warmpath_core::pass::PassReason;

use crate::outcome::Reason;

/// The catalog in force and its loaded models. Empty until the first catalog arrives.
#[derive(Default)]
pub struct Models {
    mode: Mode,
    slots: Vec<Slot>,
}

struct Slot {
    definition: ModelDefinition,
    state: State,
}

enum State {
    /// Its assets have to be fetched. The model of that name in the catalog before goes on serving meanwhile.
    Missing { old: Option<Box<Model>> },
    /// Its assets are bad; not tried again until the definition changes.
    Broken { old: Option<Box<Model>> },
    /// Keys are made here.
    Loaded(Box<Model>),
    /// Keys are made by the sidecar.
    Remote,
    /// There is no exact tokenizer for it.
    Refused,
}

/// Who makes a request's keys.
pub enum Serving<'a> {
    /// This VM, with this model.
    Here(&'a Model),
    /// The sidecar, for this definition.
    Sidecar(&'a ModelDefinition),
}

impl Models {
    /// What the sidecar wants done with requests.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether any model can be keyed.
    pub fn ready(&self) -> bool {
        self.slots.iter().any(|slot| slot.serving().is_some())
    }

    /// Takes a catalog over. Loaded models whose digest is unchanged stay; one that has changed serves on until the
    /// assets of its successor have come whole ([`Self::make_room`]).
    pub fn apply(&mut self, catalog: Catalog) {
        self.mode = catalog.mode;
        let mut old = std::mem::take(&mut self.slots);
        let mut take = |same: &dyn Fn(&ModelDefinition) -> bool| {
            let index = old.iter().position(|slot| same(&slot.definition))?;
            Some(old.swap_remove(index).state)
        };
        let mut slots = Vec::new();
        for definition in catalog.models {
            let same = take(&|known| known.digest == definition.digest);
            let state = same.unwrap_or_else(|| match definition.tokenize {
                Tokenize::Inline(_) => State::Missing {
                    old: take(&|known| known.name == definition.name).and_then(State::model),
                },
                Tokenize::Sidecar => State::Remote,
                Tokenize::Refused(_) => State::Refused,
            });
            slots.push(Slot { definition, state });
        }
        self.slots = slots;
    }

    /// The next definition whose assets have to be fetched.
    pub fn missing(&self) -> Option<&ModelDefinition> {
        let missing = |slot: &&Slot| matches!(slot.state, State::Missing { .. });
        self.slots.iter().find(missing).map(|slot| &slot.definition)
    }

    /// Frees the model that a definition's own will replace: a VM's memory never shrinks, and two tokenizers at a time
    /// would double it for good.
    pub fn make_room(&mut self, digest: &str) {
        if let Some(Slot { state: State::Missing { old }, .. }) = self.slot(digest) {
            *old = None;
        }
    }

    /// Puts a loaded model in its place; dropped if its definition is not in force any more.
    pub fn install(&mut self, model: Model) {
        if let Some(slot) = self.slot(&model.definition().digest.clone()) {
            slot.state = State::Loaded(Box::new(model));
        }
    }

    /// Gives a definition up until it changes. The model before it serves on, if it is still there.
    pub fn give_up(&mut self, digest: &str) {
        if let Some(slot) = self.slot(digest) {
            let state = std::mem::replace(&mut slot.state, State::Refused);
            slot.state = State::Broken { old: state.model() };
        }
    }

    fn slot(&mut self, digest: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.definition.digest == digest)
    }

    /// Who makes the keys of a request with this `model` field.
    pub fn serving(&self, name: Option<&str>) -> Result<Serving<'_>, Reason> {
        let mut reason = match self.slots.is_empty() {
            true => Reason::NotReady,
            false => Reason::Prompt(PassReason::UnknownModel),
        };
        for slot in &self.slots {
            match slot.serving() {
                Some(Serving::Here(model)) if model.definition().adapter_for(name).is_ok() => {
                    return Ok(Serving::Here(model));
                }
                Some(Serving::Sidecar(definition)) if definition.adapter_for(name).is_ok() => {
                    return Ok(Serving::Sidecar(definition));
                }
                _ if slot.definition.adapter_for(name).is_ok() => {
                    reason = match slot.state {
                        State::Refused => Reason::ModelRefused,
                        _ => Reason::NotReady,
                    };
                }
                _ => {}
            }
        }
        Err(reason)
    }
}

impl Slot {
    fn serving(&self) -> Option<Serving<'_>> {
        match &self.state {
            State::Loaded(model) => Some(Serving::Here(model)),
            State::Missing { old } | State::Broken { old } => old.as_deref().map(Serving::Here),
            State::Remote => Some(Serving::Sidecar(&self.definition)),
            State::Refused => None,
        }
    }
}

impl State {
    /// The model that served in it.
    fn model(self) -> Option<Box<Model>> {
        match self {
            Self::Loaded(model) => Some(model),
            Self::Missing { old } | Self::Broken { old } => old,
            Self::Remote | Self::Refused => None,
        }
    }
}
