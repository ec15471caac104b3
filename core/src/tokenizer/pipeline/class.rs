//! Which class `transformers` takes: `AutoTokenizer.from_pretrained`, as vLLM calls it.

use serde_json::Value;

use super::{CONFIG, Object, PipelineError, TOKENIZER_CONFIG};

/// What the libraries know about classes and model types; the file says how its lines read.
const TABLE: &str = include_str!("classes.txt");

/// Names that mean "whatever tokenizer.json says".
const GENERIC: [&str; 6] = [
    "TokenizersBackend",
    "PythonBackend",
    "PreTrainedTokenizer",
    "PreTrainedTokenizerFast",
    "BloomTokenizer",
    "BloomTokenizerFast",
];

/// A class of `transformers`, as far as it can be rebuilt here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// `TokenizersBackend`: `tokenizer.json` as it is.
    Plain,
    /// `LlamaTokenizer`
    Llama,
    /// `Qwen2Tokenizer`
    Qwen2,
    /// `Qwen3_5Tokenizer`
    Qwen3_5,
    /// `GPT2Tokenizer`
    Gpt2,
    /// `GemmaTokenizer`
    Gemma,
    /// `GPTNeoXTokenizer`
    GptNeoX,
    /// `CohereTokenizer`
    Cohere,
}

impl Class {
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3_5,
        Self::Gpt2,
        Self::Gemma,
        Self::GptNeoX,
        Self::Cohere,
    ];

    /// The name in `transformers`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "TokenizersBackend",
            Self::Llama => "LlamaTokenizer",
            Self::Qwen2 => "Qwen2Tokenizer",
            Self::Qwen3_5 => "Qwen3_5Tokenizer",
            Self::Gpt2 => "GPT2Tokenizer",
            Self::Gemma => "GemmaTokenizer",
            Self::GptNeoX => "GPTNeoXTokenizer",
            Self::Cohere => "CohereTokenizer",
        }
    }

    /// The class that `transformers` finds under `name`; a name that it does not know falls back to the generic one.
    fn from_name(name: &str, file: &'static str, key: &str) -> Result<Self, PipelineError> {
        let plain = without_fast(name);
        if let Some(class) = Self::ALL.into_iter().find(|class| class.name() == plain) {
            return Ok(class);
        }
        let known = !GENERIC.contains(&name) && !GENERIC.contains(&plain) && is_known(plain);
        if !known {
            return Ok(Self::Plain);
        }
        let names: Vec<_> = Self::ALL.into_iter().skip(1).map(Self::name).collect();
        let message = format!(
            "the engine's tokenizer is transformers' {plain}, which rebuilds tokenizer.json in a way of its own; \
             supported are generic classes and {}",
            names.join(", ")
        );
        Err(PipelineError::new(file, key, message))
    }
}

/// The class that the engine runs. The branches are those of `AutoTokenizer.from_pretrained`, in its order.
pub(super) fn decide(settings: &Object, config: Option<&Object>) -> Result<Class, PipelineError> {
    let model_type = config.and_then(|config| config.get("model_type")?.as_str()).unwrap_or_default();
    if table("plain").any(|(name, _)| name == model_type) {
        return Ok(Class::Plain);
    }
    if has_code_of_its_own(settings) {
        let message = "the model brings code for its tokenizer, which is not run here; if the engine does not run it \
                       either (no --trust-remote-code), take the key out of the copy that you give";
        return Err(PipelineError::new(TOKENIZER_CONFIG, "auto_map", message));
    }
    let text = |object: &Object, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let in_settings = text(settings, "tokenizer_class").map(|class| (class, TOKENIZER_CONFIG));
    let in_config = || Some((text(config?, "tokenizer_class")?, CONFIG));
    let hub = in_settings.or_else(in_config);
    let registered = table("model").find(|(name, _)| *name == model_type).map(|(_, class)| class);
    match (hub, registered) {
        (Some((hub, file)), Some(registered)) if without_fast(&hub) != without_fast(registered) => {
            if registered == "MistralCommonBackend" || GENERIC.contains(&registered) {
                return Ok(Class::Plain);
            }
            let model_name = config.and_then(|config| config.get("model_name")?.as_str());
            if is_wrong(model_type) || model_name.is_some_and(is_wrong) {
                return Class::from_name(registered, CONFIG, "model_type");
            }
            Class::from_name(&hub, file, "tokenizer_class")
        }
        (Some((hub, file)), _) => {
            let class = Class::from_name(&hub, file, "tokenizer_class")?;
            if class != Class::Plain && config.is_none() {
                let message = format!(
                    "missing: tokenizer_config.json says {hub}, and whether the engine follows it depends on \
                     model_type; give the model's config.json"
                );
                return Err(PipelineError::new(CONFIG, "", message));
            }
            Ok(class)
        }
        (None, Some("MistralCommonBackend")) | (None, None) => Ok(Class::Plain),
        (None, Some(registered)) => Class::from_name(registered, CONFIG, "model_type"),
    }
}

/// Whether `tokenizer_config.json` names a Python class of the model's own repository.
fn has_code_of_its_own(settings: &Object) -> bool {
    match settings.get("auto_map") {
        Some(Value::Array(_)) => true,
        Some(map) => map.get("AutoTokenizer").is_some_and(|class| !class.is_null()),
        None => false,
    }
}

fn is_wrong(model_type: &str) -> bool {
    table("wrong").any(|(name, _)| name == model_type)
}

fn is_known(class: &str) -> bool {
    table("class").any(|(name, _)| name == class)
        || table("model").any(|(_, registered)| without_fast(registered) == class)
}

fn without_fast(class: &str) -> &str {
    class.strip_suffix("Fast").unwrap_or(class)
}

/// Lines of one kind: name and, where there is one, class.
fn table(kind: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        (words.next() == Some(kind)).then(|| (words.next().unwrap_or(""), words.next().unwrap_or("")))
    })
}
