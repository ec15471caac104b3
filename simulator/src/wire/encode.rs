//! Writes msgpack. A batch is `[time, [events], rank]` in every layout.

use rmp::Marker;
use rmp::encode::{
    write_array_len, write_bin, write_f64, write_map_len, write_nil, write_sint, write_str, write_uint,
};

use super::{Family, Layout, WireEvent, WireHash, WireStored};

/// The group and kind of the only KV cache group there is.
const GROUP: u64 = 0;
const SPEC_KIND: &str = "full_attention";
/// Where the blocks are.
const MEDIUM: &str = "GPU";

/// Writing into a `Vec` cannot fail.
const INFALLIBLE: &str = "a Vec takes every byte";

/// Encodes a batch; `time` in seconds since 1970, `rank` the data-parallel rank.
pub fn encode_batch(layout: &Layout, time: f64, events: &[WireEvent], rank: Option<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    array(&mut out, 3);
    write_f64(&mut out, time).expect(INFALLIBLE);
    array(&mut out, events.len());
    for event in events {
        let wide = layout.fields.lookahead && matches!(event, WireEvent::Stored(_));
        let event = fields(layout, event);
        if layout.maps { write_as_map(&mut out, &event, wide) } else { write_as_array(&mut out, &event) }
    }
    Value::optional(rank.map(|rank| Value::Uint(rank.into()))).write(&mut out);
    out
}

/// A field's value, borrowed from the event.
enum Value<'a> {
    Nil,
    Uint(u64),
    Text(&'a str),
    Hash(&'a WireHash),
    Hashes(&'a [WireHash]),
    Tokens(&'a [u32]),
    ExtraKeys(&'a [Vec<String>]),
    Metadata(&'a str),
}

/// Whether a field at its default (nil) is left out of maps.
#[derive(PartialEq)]
enum Presence {
    Always,
    UnlessNil,
}

type Field<'a> = (&'static str, Value<'a>, Presence);

/// An event's tag and fields, in the order of arrays.
fn fields<'a>(layout: &Layout, event: &'a WireEvent) -> (&'static str, Vec<Field<'a>>) {
    let has = layout.fields;
    match event {
        WireEvent::Cleared => ("AllBlocksCleared", vec![]),
        WireEvent::Removed { hashes } => {
            let mut fields = vec![("block_hashes", Value::Hashes(hashes), Presence::Always)];
            if has.medium {
                fields.push(("medium", Value::Text(MEDIUM), Presence::Always));
            }
            if has.group {
                fields.push(("group_idx", Value::Uint(GROUP), Presence::UnlessNil));
            }
            ("BlockRemoved", fields)
        }
        WireEvent::Stored(stored) => ("BlockStored", stored_fields(layout, stored)),
    }
}

fn stored_fields<'a>(layout: &Layout, stored: &'a WireStored) -> Vec<Field<'a>> {
    use Presence::{Always, UnlessNil};
    let has = layout.fields;
    let mut fields = vec![
        ("block_hashes", Value::Hashes(&stored.hashes), Always),
        ("parent_block_hash", Value::optional(stored.parent.as_ref().map(Value::Hash)), Always),
        ("token_ids", Value::Tokens(&stored.tokens), Always),
        ("block_size", Value::Uint(stored.block_size as u64), Always),
        ("lora_id", Value::optional(stored.lora_id.map(|id| Value::Uint(id.into()))), Always),
    ];
    if has.medium {
        fields.push(("medium", Value::Text(MEDIUM), Always));
    }
    match layout.family {
        Family::Vllm => {}
        Family::Sglang => {
            fields.push(("cache_salt", Value::text(&stored.cache_salt), UnlessNil));
            fields.push(("session_id", Value::text(&stored.session_id), UnlessNil));
            fields.push(("lora_name", Value::text(&stored.lora_name), UnlessNil));
            return fields;
        }
        Family::SglangArray => {
            let salt = stored.cache_salt.as_deref();
            fields.push(("metadata", Value::optional(salt.map(Value::Metadata)), Always));
            return fields;
        }
    }
    if has.lora_name {
        fields.push(("lora_name", Value::text(&stored.lora_name), Always));
    }
    if has.extra_keys {
        fields.push(("extra_keys", Value::ExtraKeys(&stored.extra_keys), UnlessNil));
    }
    if has.group {
        fields.push(("group_idx", Value::Uint(GROUP), UnlessNil));
    }
    if has.spec_kind {
        fields.push(("kv_cache_spec_kind", Value::Text(SPEC_KIND), UnlessNil));
        fields.push(("kv_cache_spec_sliding_window", Value::Nil, UnlessNil));
    }
    // locality (0.26), ownership (0.29) and lookahead_token_ids (0.33) are at their default here: absent from maps.
    if has.session {
        fields.push(("session_id", Value::text(&stored.session_id), UnlessNil));
    }
    fields
}

fn write_as_array(out: &mut Vec<u8>, (tag, fields): &(&'static str, Vec<Field<'_>>)) {
    array(out, fields.len() + 1);
    text(out, tag);
    fields.iter().for_each(|(_, value, _)| value.write(out));
}

/// `wide`: the header counts in 16 bits although it need not.
fn write_as_map(out: &mut Vec<u8>, (tag, fields): &(&'static str, Vec<Field<'_>>), wide: bool) {
    let present = |(_, value, presence): &&Field<'_>| {
        !(*presence == Presence::UnlessNil && matches!(value, Value::Nil))
    };
    let count = fields.iter().filter(present).count() as u16 + 1;
    if wide {
        out.push(Marker::Map16.to_u8());
        out.extend(count.to_be_bytes());
    } else {
        write_map_len(out, count.into()).expect(INFALLIBLE);
    }
    text(out, "type");
    text(out, tag);
    for (name, value, _) in fields.iter().filter(present) {
        text(out, name);
        value.write(out);
    }
}

impl<'a> Value<'a> {
    fn optional(value: Option<Self>) -> Self {
        value.unwrap_or(Self::Nil)
    }

    fn text(value: &'a Option<String>) -> Self {
        Self::optional(value.as_deref().map(Self::Text))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => write_nil(out).expect(INFALLIBLE),
            Self::Uint(value) => uint(out, *value),
            Self::Text(value) => text(out, value),
            Self::Hash(value) => hash(out, value),
            Self::Hashes(values) => {
                array(out, values.len());
                values.iter().for_each(|value| hash(out, value));
            }
            Self::Tokens(values) => {
                array(out, values.len());
                values.iter().for_each(|value| uint(out, u64::from(*value)));
            }
            Self::ExtraKeys(blocks) => {
                array(out, blocks.len());
                blocks.iter().for_each(|keys| extra_keys(out, keys));
            }
            Self::Metadata(salt) => {
                write_map_len(out, 1).expect(INFALLIBLE);
                text(out, "cache_salt");
                text(out, salt);
            }
        }
    }
}

fn extra_keys(out: &mut Vec<u8>, keys: &[String]) {
    if keys.is_empty() {
        write_nil(out).expect(INFALLIBLE);
        return;
    }
    array(out, keys.len());
    keys.iter().for_each(|key| text(out, key));
}

fn hash(out: &mut Vec<u8>, hash: &WireHash) {
    match hash {
        WireHash::Unsigned(value) => uint(out, *value),
        WireHash::Signed(value) => {
            write_sint(out, *value).expect(INFALLIBLE);
        }
        WireHash::Bytes(bytes) => write_bin(out, bytes).expect(INFALLIBLE),
    }
}

fn array(out: &mut Vec<u8>, len: usize) {
    write_array_len(out, len as u32).expect(INFALLIBLE);
}

fn uint(out: &mut Vec<u8>, value: u64) {
    write_uint(out, value).expect(INFALLIBLE);
}

fn text(out: &mut Vec<u8>, value: &str) {
    write_str(out, value).expect(INFALLIBLE);
}
