//! The models of the sidecar's catalog, as far as they are loaded in this VM. Fetching them is [`crate::fetch`]'s.

use warmpath_core::definition::{Catalog, Mode, ModelDefinition};
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
    Missing,
    /// Its assets are bad; not tried again until the definition changes.
    Broken,
    Loaded(Box<Model>),
}

impl Models {
    /// What the sidecar wants done with requests.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether any model can be keyed.
    pub fn ready(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, State::Loaded(_)))
    }

    /// Takes a catalog over. Loaded models whose digest is unchanged stay; others are freed here, before their
    /// successors load: a VM's memory never shrinks, and two tokenizers at a time would double it for good.
    pub fn apply(&mut self, catalog: Catalog) {
        self.mode = catalog.mode;
        let mut old = std::mem::take(&mut self.slots);
        old.retain(|slot| catalog.models.iter().any(|model| model.digest == slot.definition.digest));
        self.slots = catalog
            .models
            .into_iter()
            .map(|definition| {
                let kept = old.iter().position(|slot| slot.definition.digest == definition.digest);
                let state = kept.map_or(State::Missing, |index| old.swap_remove(index).state);
                Slot { definition, state }
            })
            .collect();
    }

    /// The next definition whose assets have to be fetched.
    pub fn missing(&self) -> Option<&ModelDefinition> {
        self.slots.iter().find(|slot| matches!(slot.state, State::Missing)).map(|slot| &slot.definition)
    }

    /// Puts a loaded model in its place; dropped if its definition is not in force any more.
    pub fn install(&mut self, model: Model) {
        if let Some(slot) = self.slot(&model.definition().digest.clone()) {
            slot.state = State::Loaded(Box::new(model));
        }
    }

    /// Gives a definition up until it changes.
    pub fn give_up(&mut self, digest: &str) {
        if let Some(slot) = self.slot(digest) {
            slot.state = State::Broken;
        }
    }

    fn slot(&mut self, digest: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.definition.digest == digest)
    }

    /// The loaded model that serves a request's `model` field.
    pub fn serving(&self, name: Option<&str>) -> Result<&Model, Reason> {
        let mut unloaded = self.slots.is_empty();
        for slot in &self.slots {
            match &slot.state {
                State::Loaded(model) if model.adapter_for(name).is_ok() => return Ok(model),
                State::Loaded(_) => {}
                State::Missing | State::Broken => unloaded |= serves(&slot.definition, name),
            }
        }
        Err(if unloaded { Reason::NotReady } else { Reason::Prompt(PassReason::UnknownModel) })
    }
}

/// Whether a definition that is not loaded would serve `name`.
fn serves(definition: &ModelDefinition, name: Option<&str>) -> bool {
    let Some(name) = name else { return definition.default };
    definition.served_names.iter().chain(&definition.lora_adapters).any(|served| served == name)
}
