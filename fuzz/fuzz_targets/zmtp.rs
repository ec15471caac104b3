//! What a publisher sends on the wire, however it is cut: the first two bytes say where.
#![cfg_attr(feature = "libfuzzer", no_main)]

warmpath_fuzz::target!(|input| {
    if let Some((cut, bytes)) = input.split_first_chunk::<2>() {
        indexer_sidecar::events::zmtp::fuzz_messages(bytes, usize::from(u16::from_le_bytes(*cut)));
    }
});
