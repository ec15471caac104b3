//! Captured frames out of JSON files. Three layouts are read, wherever they stand in the file:
//! - live messages: `{"messages": [{"endpoint": .., "frames_hex": [topic, seq, payload]}, ..]}`, or such a list alone;
//! - replies of a replay socket: `{"reply_messages": [["", topic, seq, payload], ..]}`, with or without the topic;
//! - bare payloads by name: `{"release": {"case": "hex", ..}, ..}`, numbered from 0 in the order of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use indexer_sidecar::events::decode::decode;
use indexer_sidecar::events::event::Event;
use indexer_sidecar::events::frames::{Frame, Reply, parse};
use serde_json::Value;

/// Live batches of one publisher, in the order in which they came.
pub(crate) struct Stream {
    pub(crate) file: PathBuf,
    /// Name of the publisher in the capture.
    pub(crate) endpoint: String,
    pub(crate) batches: Batches,
}

/// Batches, in the order of the file.
#[derive(Default)]
pub(crate) struct Batches {
    pub(crate) frames: Vec<Frame>,
    /// Messages that are no batch, as they came: they are played too.
    pub(crate) odd: Vec<(usize, Vec<Bytes>)>,
    /// Replies carry a topic frame.
    pub(crate) topics: bool,
}

impl Batches {
    /// Distinct block sizes of its stores that have all their tokens.
    pub(crate) fn block_tokens(&self) -> Vec<u32> {
        let events =
            self.frames.iter().filter_map(|frame| decode(&frame.payload).ok()).flat_map(|batch| batch.events);
        let mut sizes: Vec<u32> = events
            .filter_map(|event| match event {
                Ok(Event::Stored(stored)) => Some(stored),
                _ => None,
            })
            .filter(|stored| {
                let tokens = stored.hashes.len() * stored.block_tokens as usize;
                tokens > 0 && stored.tokens.len() == tokens
            })
            .map(|stored| stored.block_tokens)
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// How many batches both have, byte for byte.
    pub(crate) fn shared(&self, other: &Self) -> usize {
        let payload = |frame: &Frame| (frame.seq, frame.payload.clone());
        let own: std::collections::HashSet<_> = self.frames.iter().map(payload).collect();
        other.frames.iter().filter(|frame| own.contains(&payload(frame))).count()
    }

    /// Takes in another replay of the same publisher.
    pub(crate) fn merge(&mut self, other: Self) {
        let frames = std::mem::take(&mut self.frames).into_iter().chain(other.frames);
        let by_seq: BTreeMap<u64, Frame> = frames.map(|frame| (frame.seq, frame)).collect();
        self.frames = by_seq.into_values().collect();
        self.topics |= other.topics;
    }
}

/// What a file holds.
pub(crate) struct Capture {
    file: PathBuf,
    by_endpoint: Vec<(String, Batches)>,
}

impl Capture {
    pub(crate) fn into_streams(self) -> Vec<Stream> {
        let file = self.file;
        let stream = |(endpoint, batches)| Stream { file: file.clone(), endpoint, batches };
        self.by_endpoint.into_iter().map(stream).collect()
    }

    pub(crate) fn into_batches(self) -> Batches {
        let mut all = Batches::default();
        for (_, batches) in self.by_endpoint {
            all.merge(batches);
        }
        all
    }

    fn add(&mut self, endpoint: &str, frames: Vec<Bytes>) {
        let at = self.by_endpoint.iter().position(|(name, _)| name == endpoint).unwrap_or_else(|| {
            self.by_endpoint.push((endpoint.to_owned(), Batches::default()));
            self.by_endpoint.len() - 1
        });
        let batches = &mut self.by_endpoint[at].1;
        // ["", topic, seq, payload] against ["", seq, payload].
        batches.topics |= frames.len() > 3;
        match parse(frames.clone()) {
            Ok(Reply::Batch(frame)) => batches.frames.push(frame),
            Ok(Reply::End) => {}
            Err(_) => batches.odd.push((batches.frames.len(), frames)),
        }
    }
}

/// Reads one file. Errors name the file and the line.
pub(crate) fn read(file: &Path) -> anyhow::Result<Capture> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}:{}: not JSON: {error}", file.display(), error.line()))?;
    let mut capture = Capture { file: file.to_owned(), by_endpoint: Vec::new() };
    let messages = ["messages", "reply_messages"].iter().find_map(|key| value.get(key)).unwrap_or(&value);
    match messages {
        Value::Array(messages) => {
            for (at, message) in messages.iter().enumerate() {
                let endpoint = message.get("endpoint").and_then(Value::as_str).unwrap_or("capture");
                let frames = message.get("frames_hex").unwrap_or(message);
                let frames = hex_frames(frames).map_err(|why| {
                    anyhow::anyhow!("{}:{}: message {at}: {why}", file.display(), line_of(&text, frames, at))
                })?;
                capture.add(endpoint, frames);
            }
        }
        Value::Object(named) => {
            for (name, cases) in named {
                let Some(cases) = cases.as_object() else { continue };
                for (seq, (case, payload)) in cases.iter().enumerate() {
                    let payload =
                        payload.as_str().context("not text").and_then(|text| Ok(hex::decode(text)?));
                    let payload = payload.map_err(|why| {
                        let line = line_of(&text, &Value::from(case.as_str()), seq);
                        anyhow::anyhow!("{}:{line}: {name}.{case}: {why}", file.display())
                    })?;
                    let seq = Bytes::copy_from_slice(&(seq as u64).to_be_bytes());
                    capture.add(name, vec![Bytes::new(), seq, payload.into()]);
                }
            }
        }
        _ => {}
    }
    if capture.by_endpoint.is_empty() && value.get("reply_messages").is_none() {
        bail!(
            "{}:1: no captured frames: expected \"messages\" with \"frames_hex\", or \"reply_messages\"",
            file.display()
        );
    }
    Ok(capture)
}

fn hex_frames(frames: &Value) -> Result<Vec<Bytes>, String> {
    let frames = frames.as_array().ok_or("no list of frames (\"frames_hex\")")?;
    let frame = |(at, frame): (usize, &Value)| {
        let text = frame.as_str().ok_or(format!("frame {at} is not text"))?;
        hex::decode(text).map(Bytes::from).map_err(|why| format!("frame {at} is not hex: {why}"))
    };
    frames.iter().enumerate().map(frame).collect()
}

/// The line that a value of the file begins in, found by its longest text; the `at`-th message's, if it has none.
fn line_of(text: &str, value: &Value, at: usize) -> usize {
    let texts = match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => vec![text.as_str()],
        _ => vec![],
    };
    let longest = texts.into_iter().max_by_key(|text| text.len()).filter(|text| !text.is_empty());
    let found = longest.and_then(|longest| text.find(longest));
    let found = found.or_else(|| text.match_indices("frames_hex").nth(at).map(|(found, _)| found));
    text[..found.unwrap_or(0)].matches('\n').count() + 1
}
