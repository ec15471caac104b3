//! Chat templates: the text up to the first NUL is the template, the rest is the body that it renders.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let source = parts.next().and_then(|source| std::str::from_utf8(source).ok());
    if let (Some(source), Some(body)) = (source, parts.next()) {
        warmpath_core::fuzz::chat_template(source, body);
    }
});
