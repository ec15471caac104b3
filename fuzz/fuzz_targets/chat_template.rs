//! Chat templates: the text up to the first NUL is the template, the rest is the body that it renders.
#![cfg_attr(feature = "libfuzzer", no_main)]

warmpath_fuzz::target!(|input| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let source = parts.next().and_then(|source| std::str::from_utf8(source).ok());
    if let (Some(source), Some(body)) = (source, parts.next()) {
        warmpath_core::fuzz::chat_template(source, body);
    }
});
