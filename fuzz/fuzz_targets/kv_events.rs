//! Payloads of event messages, as any publisher could send them.
#![cfg_attr(feature = "libfuzzer", no_main)]

warmpath_fuzz::target!(|payload| indexer_sidecar::events::decode::fuzz_decode(payload));
