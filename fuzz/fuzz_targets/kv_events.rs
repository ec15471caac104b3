//! Payloads of event messages, as any publisher could send them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| indexer_sidecar::events::decode::fuzz_decode(payload));
