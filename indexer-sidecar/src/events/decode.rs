//! Payload of a batch -> events, in every layout that vLLM, SGLang and TensorRT-LLM have sent.
//!
//! A batch is `[ts, [event, ...], rank]`, or the same as a map. An event is an array (`[tag, field, ...]`, vLLM up
//! to 0.23 and older SGLang), whose length grew with the releases, or a map (`{"type": tag, ...}`, since 0.24), in
//! which fields that are at their default may be missing. Fields that we do not know are skipped. Order inside a
//! batch matters and is kept.
//!
//! One event that is malformed or unknown becomes an [`EventError`] in its place; the others are not lost.

use super::event::Event;
use super::fields::{Fields, REMOVED_FIELDS, STORED_FIELDS};
use super::msgpack::{Malformed, Reader};
use rmp::Marker;

/// One published message: everything that changed in one step of the scheduler.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// Seconds since 1970, by the publisher's clock.
    pub ts: f64,
    /// In the order in which they happened.
    pub events: Vec<Result<Event, EventError>>,
    /// Data-parallel rank, where the publisher says so. Informative: a stream's rank is that of its connection.
    pub rank: Option<u32>,
}

/// The payload is not a batch: what it said is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// It does not have a batch's shape.
    #[error("not a batch of events: {0}")]
    Malformed(#[from] Malformed),
    /// It has more than [`EVENTS_MAX`] events.
    #[error("{0} events in one batch, at most {EVENTS_MAX} are taken")]
    TooManyEvents(usize),
}

/// Why one event of a batch was skipped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// Its type is none that we know.
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    /// A field has another type or is missing.
    #[error("field {field:?}: {cause}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        cause: Malformed,
    },
    /// Its tokens are neither numbers nor pairs of them, so that no key can be made.
    #[error("token_ids are not numbers")]
    Tokens,
    /// It is neither an array nor a map, or it does not end.
    #[error("not an event: {0}")]
    Shape(Malformed),
}

impl EventError {
    /// Value of the metric's label `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownType(_) => "unknown_type",
            Self::Field { .. } => "malformed_field",
            Self::Tokens => "tokens_not_numbers",
            Self::Shape(_) => "malformed",
        }
    }
}

/// Longest part of an unknown type's name that an error repeats, in characters: it goes into logs.
const TYPE_NAME_CHARS: usize = 64;

/// Most events in one batch. A scheduler step changes at most a few blocks per request, some thousands in all; an
/// event that is one byte on the wire is two hundred in memory, so a payload of nothing else must not be taken whole.
pub const EVENTS_MAX: usize = 1 << 16;

/// Decodes one payload.
///
/// Memory: at most 24 bytes per byte of payload plus [`EVENTS_MAX`] events, whatever the lengths inside it claim.
pub fn decode(payload: &[u8]) -> Result<Batch, BatchError> {
    let mut reader = Reader::new(payload);
    let mut batch = Batch { ts: 0.0, events: Vec::new(), rank: None };
    match reader.peek()? {
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            for _ in 0..reader.map()? {
                match reader.str()? {
                    "ts" => batch.ts = reader.f64()?,
                    "events" => batch.events = events(&mut reader)?,
                    "data_parallel_rank" | "attn_dp_rank" => batch.rank = rank(&mut reader)?,
                    _ => drop(reader.skip()?),
                }
            }
        }
        _ => {
            let len = reader.array()?;
            if len < 2 {
                return Err(Malformed::Truncated.into());
            }
            batch.ts = reader.f64()?;
            batch.events = events(&mut reader)?;
            if len > 2 {
                batch.rank = rank(&mut reader)?;
            }
            for _ in 3..len {
                reader.skip()?;
            }
        }
    }
    Ok(batch)
}

/// The time stamp of a batch, without decoding the rest; `None`: it is no array with a number first.
pub fn timestamp(payload: &[u8]) -> Option<f64> {
    let mut reader = Reader::new(payload);
    reader.array().ok()?;
    reader.f64().ok()
}

fn rank(reader: &mut Reader<'_>) -> Result<Option<u32>, Malformed> {
    if reader.nil()? { Ok(None) } else { reader.u32().map(Some) }
}

fn events(reader: &mut Reader<'_>) -> Result<Vec<Result<Event, EventError>>, BatchError> {
    let len = reader.array()?;
    if len > EVENTS_MAX {
        return Err(BatchError::TooManyEvents(len));
    }
    let mut events = Vec::new();
    for _ in 0..len {
        let start = *reader;
        let event = event(reader);
        if event.is_err() {
            // It may have ended anywhere: the next one begins where this one's bytes end.
            *reader = start;
            reader.skip()?;
        }
        events.push(event);
    }
    Ok(events)
}

/// Decodes one event; `reader` is behind it then.
fn event(reader: &mut Reader<'_>) -> Result<Event, EventError> {
    match reader.peek().map_err(EventError::Shape)? {
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => map_event(reader),
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => array_event(reader),
        other => Err(EventError::Shape(Malformed::Type(other.to_u8()))),
    }
}

fn unknown(tag: &str) -> EventError {
    EventError::UnknownType(tag.chars().take(TYPE_NAME_CHARS).collect())
}

fn array_event(reader: &mut Reader<'_>) -> Result<Event, EventError> {
    let len = reader.array().map_err(EventError::Shape)?;
    if len == 0 {
        return Err(EventError::Shape(Malformed::Truncated));
    }
    let tag = reader.str().map_err(|cause| EventError::Field { field: "type", cause })?;
    let fields: &[&'static str] = match tag {
        "BlockStored" => &STORED_FIELDS,
        "BlockRemoved" => &REMOVED_FIELDS,
        "AllBlocksCleared" => &[],
        other => return Err(unknown(other)),
    };
    let mut found = Fields::default();
    for index in 1..len {
        match fields.get(index - 1) {
            Some(field) => found.read(field, reader)?,
            None => drop(reader.skip().map_err(EventError::Shape)?),
        }
    }
    found.event(tag)
}

fn map_event(reader: &mut Reader<'_>) -> Result<Event, EventError> {
    let len = reader.map().map_err(EventError::Shape)?;
    let tag = tag(*reader, len)?;
    if !matches!(tag, "BlockStored" | "BlockRemoved" | "AllBlocksCleared") {
        return Err(unknown(tag));
    }
    let mut found = Fields::default();
    for _ in 0..len {
        let key = reader.str().map_err(EventError::Shape)?;
        found.read(key, reader)?;
    }
    found.event(tag)
}

/// The type among the `len` pairs of an event. It comes first with all publishers that we know, but need not.
fn tag(mut reader: Reader<'_>, len: usize) -> Result<&str, EventError> {
    for _ in 0..len {
        if reader.str().map_err(EventError::Shape)? == "type" {
            return reader.str().map_err(|cause| EventError::Field { field: "type", cause });
        }
        reader.skip().map_err(EventError::Shape)?;
    }
    Err(EventError::Field { field: "type", cause: Malformed::Truncated })
}

/// Fuzz body: any bytes decode or fail, and what comes out is never larger than what went in.
pub fn fuzz_decode(payload: &[u8]) {
    let Ok(batch) = decode(payload) else { return };
    assert!(batch.events.len() <= EVENTS_MAX.min(payload.len()), "more events than bytes");
    let elements: usize = batch.events.iter().flatten().map(elements).sum();
    assert!(elements <= payload.len(), "{elements} elements out of {} bytes", payload.len());
}

fn elements(event: &Event) -> usize {
    match event {
        Event::Stored(stored) => stored.hashes.len() + stored.tokens.len(),
        Event::Removed(removed) => removed.hashes.len(),
        Event::Cleared => 0,
    }
}
