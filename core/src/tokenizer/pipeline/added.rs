//! Added tokens: which there are, with which properties, under which ids, once `transformers` has built a tokenizer.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Object, PipelineError, TOKENIZER, TOKENIZER_CONFIG};

/// Ids of the model's own tokens, by their text.
pub(super) type Vocabulary = HashMap<String, u32>;

/// Names of special tokens that every class has (`SPECIAL_TOKENS_ATTRIBUTES`), in the order in which they are added.
pub(super) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// One added token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// None: not said, which means `!special`.
    normalized: Option<bool>,
    special: bool,
}

/// An added token as JSON files have it; unknown keys (`__type`, `id`) are not its properties.
#[derive(Deserialize)]
struct Written {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Token {
    /// `AddedToken(content, special=True)`
    pub(super) fn special(content: &str) -> Self {
        let content = content.to_owned();
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: None, special: true }
    }

    fn read(value: &Value) -> Option<Self> {
        let Written { content, single_word, lstrip, rstrip, normalized, special } =
            Written::deserialize(value).ok()?;
        Some(Self { content, single_word, lstrip, rstrip, normalized, special })
    }

    fn normalized(&self) -> bool {
        self.normalized.unwrap_or(!self.special)
    }

    fn same(&self, other: &Self) -> bool {
        self.content == other.content
            && (self.single_word, self.lstrip, self.rstrip) == (other.single_word, other.lstrip, other.rstrip)
            && (self.normalized(), self.special) == (other.normalized(), other.special)
    }
}

/// A special token as settings give it: its text alone, or a token with properties.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Given {
    Text(String),
    Token(Token),
}

impl Given {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Token(token) => &token.content,
        }
    }

    fn token(&self) -> Token {
        match self {
            Self::Text(text) => Token::special(text),
            Self::Token(token) => token.clone(),
        }
    }

    fn read(value: &Value, key: &str) -> Result<Self, PipelineError> {
        let given = match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            value => Token::read(value).map(Self::Token),
        };
        given.ok_or_else(|| {
            PipelineError::new(
                TOKENIZER_CONFIG,
                key,
                "is neither a token's text nor an object with its `content`",
            )
        })
    }
}

/// Special tokens of the settings: those with a name, and the others.
#[derive(Debug)]
pub(super) struct NamedTokens {
    named: Vec<(String, Given)>,
    extra: Vec<Given>,
}

impl NamedTokens {
    /// Reads them as `PreTrainedTokenizerBase` does: the seven names that every class has, then further `*_token` keys
    /// and named extra tokens, then unnamed extra tokens.
    pub(super) fn read(settings: &Object, from_file: &[(u32, Token)]) -> Result<Self, PipelineError> {
        let by_content: HashMap<String, Token> =
            listed(settings, from_file)?.into_values().map(|token| (token.content.clone(), token)).collect();
        let mut named = Vec::new();
        for name in NAMES {
            if let Some(value) = settings.get(name).filter(|value| !value.is_null()) {
                let given = Given::read(value, name)?;
                let given = by_content.get(given.text()).cloned().map_or(given, Given::Token);
                named.push((name.to_owned(), given));
            }
        }
        // A later entry of the same name takes the value over and keeps the place.
        let mut own = |name: &str, value: &Value| -> Result<(), PipelineError> {
            let given = Given::read(value, name)?;
            match named.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = given,
                None => named.push((name.to_owned(), given)),
            }
            Ok(())
        };
        for (name, value) in settings {
            let token = value.is_string() || is_typed(value);
            if name.ends_with("_token") && !NAMES.contains(&name.as_str()) && token {
                own(name, value)?;
            }
        }
        let mut extra = Vec::new();
        match extra_tokens(settings) {
            Some(Value::Object(tokens)) => {
                for (name, value) in tokens {
                    own(name, value)?;
                }
            }
            Some(Value::Array(tokens)) => {
                for value in tokens {
                    extra.push(Given::read(value, "extra_special_tokens")?);
                }
            }
            _ => {}
        }
        Ok(Self { named, extra })
    }

    /// Texts by name, for chat templates.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        self.named.iter().map(|(name, given)| (name.clone(), given.text().to_owned())).collect()
    }

    /// The text of one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, given)| given.text())
    }

    /// `all_special_tokens`
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.given().map(Given::text)
    }

    /// Tokens as `_post_init` adds them: all special.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.given().map(|given| Token { special: true, ..given.token() })
    }

    fn given(&self) -> impl Iterator<Item = &Given> {
        self.named.iter().map(|(_, given)| given).chain(&self.extra)
    }
}

/// `extra_special_tokens`, or its older name where the new one is absent or empty.
fn extra_tokens(settings: &Object) -> Option<&Value> {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    settings
        .get("extra_special_tokens")
        .filter(|value| !empty(value))
        .or_else(|| settings.get("additional_special_tokens"))
}

fn is_typed(value: &Value) -> bool {
    value.get("__type").and_then(Value::as_str) == Some("AddedToken")
}

/// `added_tokens_decoder` of the settings, by id; where they have none, the tokens of the file.
fn listed(settings: &Object, from_file: &[(u32, Token)]) -> Result<BTreeMap<u32, Token>, PipelineError> {
    let key = "added_tokens_decoder";
    let Some(value) = settings.get(key) else { return Ok(from_file.iter().cloned().collect()) };
    let read = |(id, value): (&String, &Value)| Some((id.parse().ok()?, Token::read(value)?));
    let tokens = value.as_object().and_then(|entries| entries.iter().map(read).collect());
    let message = "is not a map from ids to added tokens: give the model's own file";
    tokens.ok_or_else(|| PipelineError::new(TOKENIZER_CONFIG, key, message))
}

/// `added_tokens` of a `tokenizer.json`, with the ids written there.
pub(super) fn from_file(tokenizer: &Object) -> Result<Vec<(u32, Token)>, PipelineError> {
    let Some(Value::Array(entries)) = tokenizer.get("added_tokens") else { return Ok(Vec::new()) };
    let read = |value: &Value| {
        let id = value.get("id")?.as_u64().and_then(|id| u32::try_from(id).ok())?;
        Some((id, Token::read(value)?))
    };
    let tokens: Option<Vec<_>> = entries.iter().map(read).collect();
    let message = "is not a list of added tokens: give the model's own file";
    tokens.ok_or_else(|| PipelineError::new(TOKENIZER, "added_tokens", message))
}

/// The tokens that `TokenizersBackend.__init__` adds to a tokenizer that has `present` already: those that the files
/// list (all of them, again), then special tokens that neither list has.
pub(super) fn wanted(
    settings: &Object,
    from_file: &[(u32, Token)],
    named: &NamedTokens,
    present: &AddedTokens,
) -> Result<Vec<Token>, PipelineError> {
    let mut wanted: Vec<Given> = listed(settings, from_file)?.into_values().map(Given::Token).collect();
    let present = present.tokens.iter().map(|(_, token)| &token.content);
    let known: HashSet<String> =
        present.cloned().chain(wanted.iter().map(|given| given.text().to_owned())).collect();
    for given in named.given() {
        if !known.contains(given.text()) && !wanted.contains(given) {
            wanted.push(given.clone());
        }
    }
    let is_named = |text: &str| named.named.iter().any(|(_, given)| given.text() == text);
    let token = |given: Given| {
        let mut token = given.token();
        token.special |= is_named(&token.content);
        token
    };
    Ok(wanted.into_iter().map(token).collect())
}

/// The added tokens of one tokenizer, as the crate `tokenizers` keeps them (`AddedVocabulary`).
pub(super) struct AddedTokens {
    vocabulary: Vocabulary,
    /// In the order of first addition.
    tokens: Vec<(u32, Token)>,
    /// Their places, by content.
    places: HashMap<String, usize>,
}

impl AddedTokens {
    pub(super) fn new(vocabulary: Vocabulary) -> Self {
        Self { vocabulary, tokens: Vec::new(), places: HashMap::new() }
    }

    /// One call of `add_tokens`: a token of the vocabulary keeps its id there, a new one gets the next after all.
    pub(super) fn add(&mut self, tokens: impl IntoIterator<Item = Token>) {
        let mut next = self.next_id();
        for token in tokens {
            if token.content.is_empty() {
                continue;
            }
            let place = self.places.get(&token.content).and_then(|place| self.tokens.get_mut(*place));
            if let Some((_, known)) = place {
                *known = token;
                continue;
            }
            let id = self.vocabulary.get(&token.content).copied().unwrap_or_else(|| {
                let id = next;
                next += 1;
                id
            });
            self.places.insert(token.content.clone(), self.tokens.len());
            self.tokens.push((id, token));
        }
    }

    fn next_id(&self) -> u32 {
        let size = u32::try_from(self.vocabulary.len()).unwrap_or(u32::MAX);
        match self.tokens.iter().map(|(id, _)| *id).max() {
            Some(max) if max >= size => max + 1,
            _ => size,
        }
    }

    /// Whether they are what the file says.
    pub(super) fn equal(&self, from_file: &[(u32, Token)]) -> bool {
        self.tokens.len() == from_file.len()
            && self
                .tokens
                .iter()
                .zip(from_file)
                .all(|((id, token), (written, other))| id == written && token.same(other))
    }

    /// The list as `tokenizer.json` has it.
    ///
    /// # Errors
    /// When a reader of that list would give out other ids than the engine did, step by step.
    pub(super) fn to_json(&self) -> Result<Value, PipelineError> {
        let mut read = Self::new(self.vocabulary.clone());
        read.add(self.tokens.iter().map(|(_, token)| token.clone()));
        if read.tokens.iter().zip(&self.tokens).any(|((id, _), (engine, _))| id != engine) {
            let message =
                "ids are not consecutive, and added tokens get ids in an order that one file cannot state";
            return Err(PipelineError::new(TOKENIZER, "model.vocab", message));
        }
        let entry = |(id, token): &(u32, Token)| {
            json!({
                "id": id,
                "content": token.content,
                "single_word": token.single_word,
                "lstrip": token.lstrip,
                "rstrip": token.rstrip,
                "normalized": token.normalized(),
                "special": token.special,
            })
        };
        Ok(self.tokens.iter().map(entry).collect())
    }
}
