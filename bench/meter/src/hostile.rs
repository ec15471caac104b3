//! Hostile inputs: what could hold a worker for long.

use anyhow::Result;
use warmpath_core::request::{self, Api};
use warmpath_core::tokenizer::Limits;

use crate::tasks::{Load, encode, model, once, read};
use crate::{report, timed};

/// Bytes of an input of one class.
const HOSTILE_BYTES: usize = 64 << 10;
/// Bytes of an input far beyond every limit.
const HUGE_BYTES: usize = 8 << 20;

/// 64 KiB of each class, without limits and never seen before: `worst_CLASS`; then 8 MiB of each with the limits that
/// are shipped: `limited_CLASS`; then bodies of 64 KiB, from bytes to keys: `worst_body_NAME`.
pub(crate) fn worst(load: Load, files: &[String]) -> Result<()> {
    let (tokenizer, _) = load()?;
    // V8 compiles a function when it is called first; that is not what is measured here.
    for class in CLASSES {
        encode(&*tokenizer, &class.text(4 << 10, 1), &Limits::NONE)?;
    }
    for class in CLASSES {
        once(
            &*tokenizer,
            &format!("worst_{}", class.name()),
            &class.text(HOSTILE_BYTES, 2),
            &Limits::NONE,
            false,
        )?;
    }
    for class in CLASSES {
        let text = class.text(HUGE_BYTES, 3);
        once(&*tokenizer, &format!("limited_{}", class.name()), &text, &Limits::default(), false)?;
    }
    let [template] = files else { anyhow::bail!("a template") };
    let model = model(tokenizer, Some(&read(template)?))?;
    for (bytes, measured) in [(4 << 10, false), (HOSTILE_BYTES, true)] {
        for (name, body) in bodies(bytes) {
            // Whether it is keyed or passes is not asked here.
            let keyed = || {
                request::parse(Api::ChatCompletions, body.as_bytes())
                    .and_then(|request| model.keys(&request, None).map(|keys| keys.token_count))
            };
            let (_, ms) = timed(keyed);
            if measured {
                report(&format!("worst_body_{name}"), ms, "ms");
            }
        }
    }
    Ok(())
}

/// Bodies of about so many bytes that are dear to read or to render.
fn bodies(bytes: usize) -> [(&'static str, String); 5] {
    let chat = |message: &str| {
        let messages = vec![message; bytes / (message.len() + 1)].join(",");
        format!(r#"{{"model":"demo","messages":[{messages}]}}"#)
    };
    let with_tools = |tools: String| {
        format!(
            r#"{{"model":"demo","messages":[{{"role":"user","content":"a"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{tools}}}}}]}}"#
        )
    };
    let deep = bytes / 2;
    [
        ("small_messages", chat(r#"{"role":"user","content":""}"#)),
        ("small_parts", chat(r#"{"role":"user","content":[{"type":"text","text":""}]}"#)),
        ("escapes", chat(&format!(r#"{{"role":"user","content":"{}"}}"#, r"\ud83d\ude00".repeat(80)))),
        ("deep", with_tools(format!("{}{}", "[".repeat(deep), "]".repeat(deep)))),
        ("small_values", with_tools(format!(r#"{{"a":[{}0]}}"#, "0,".repeat(bytes / 2)))),
    ]
}

/// A kind of hostile input.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    /// One unit, repeated.
    Repeat(&'static str, &'static str),
    /// Random characters of a range of code points.
    Random(&'static str, u32, u32),
    /// Random ones of these.
    Mixed(&'static str, &'static [&'static str]),
}

/// Everything that is tried.
const CLASSES: [Class; 26] = [
    Class::Repeat("spaces", " "),
    Class::Repeat("newlines", "\n"),
    Class::Repeat("crlf", "\r\n"),
    Class::Repeat("tabs", "\t"),
    Class::Repeat("newline_space", "\n "),
    Class::Repeat("letter_a", "a"),
    Class::Repeat("letters_ab", "ab"),
    Class::Repeat("equals", "="),
    Class::Repeat("apostrophes", "'"),
    Class::Repeat("apostrophe_s", "'s"),
    Class::Repeat("digit_9", "9"),
    Class::Repeat("e_acute", "é"),
    Class::Repeat("marks", "\u{301}"),
    Class::Repeat("han", "的"),
    Class::Repeat("emoji", "😀"),
    Class::Repeat("nul", "\0"),
    Class::Repeat("added_token_start", "<|im_"),
    Class::Repeat("words_of_4095_spaces", WIDE),
    Class::Random("random_lowercase", 0x61, 0x7a),
    Class::Random("random_digits", 0x30, 0x39),
    Class::Random("random_punctuation", 0x21, 0x2f),
    Class::Random("random_hangul", 0xac00, 0xd7a3),
    Class::Random("random_han", 0x4e00, 0x9fff),
    Class::Random("random_marks", 0x300, 0x36f),
    Class::Random("random_unicode", 0x20, 0x10_ffff),
    Class::Mixed("random_space_tab_newline", &[" ", "\t", "\n", "\r\n", "\u{a0}"]),
];

/// 4,095 spaces and a letter: just below where implementations cut words.
const WIDE: &str = {
    const BYTES: [u8; 4096] = {
        let mut bytes = [b' '; 4096];
        bytes[4095] = b'x';
        bytes
    };
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Repeat(name, _) | Self::Random(name, ..) | Self::Mixed(name, _) => name,
        }
    }

    /// About so many bytes, other ones for another seed.
    fn text(self, bytes: usize, seed: u64) -> String {
        // SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
        let mut state = seed;
        let mut random = move |limit: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % limit
        };
        let mut text = String::with_capacity(bytes + 4096);
        while text.len() < bytes {
            match self {
                Self::Repeat(_, unit) => text.push_str(unit),
                Self::Random(_, first, last) => {
                    text.extend(char::from_u32(first + random(u64::from(last - first) + 1) as u32));
                }
                Self::Mixed(_, units) => {
                    text.extend(units.get(random(units.len() as u64) as usize).copied());
                }
            }
        }
        text
    }
}
