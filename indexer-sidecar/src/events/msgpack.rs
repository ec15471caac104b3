//! A cursor over MessagePack bytes that allocates nothing and trusts no length.
//!
//! Every length is checked against the bytes that are left (an element is at least one byte), so a header that
//! claims four billion elements costs an error and no memory; skipping is a loop, so nesting costs no stack.

use rmp::Marker;

/// Why bytes are not the MessagePack that was expected there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a value.
    #[error("the payload ends inside a value")]
    Truncated,
    /// The value has another type, or an integer is out of range.
    #[error("unexpected type or range (marker 0x{0:02x})")]
    Type(u8),
}

/// A position in MessagePack bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next value's marker, which stays unread.
    pub fn peek(&self) -> Result<Marker, Malformed> {
        self.rest.first().map(|byte| Marker::from_u8(*byte)).ok_or(Malformed::Truncated)
    }

    /// Reads nil if it is next.
    pub fn nil(&mut self) -> Result<bool, Malformed> {
        let nil = self.peek()? == Marker::Null;
        if nil {
            self.take(1)?;
        }
        Ok(nil)
    }

    /// Reads the header of an array: how many elements follow.
    pub fn array(&mut self) -> Result<usize, Malformed> {
        let marker = self.marker()?;
        let len = match marker {
            Marker::FixArray(len) => len as usize,
            Marker::Array16 => self.be::<2>()? as usize,
            Marker::Array32 => self.be::<4>()? as usize,
            other => return Err(Malformed::Type(other.to_u8())),
        };
        self.bounded(len)
    }

    /// Reads the header of a map: how many pairs follow.
    pub fn map(&mut self) -> Result<usize, Malformed> {
        let marker = self.marker()?;
        let len = match marker {
            Marker::FixMap(len) => len as usize,
            Marker::Map16 => self.be::<2>()? as usize,
            Marker::Map32 => self.be::<4>()? as usize,
            other => return Err(Malformed::Type(other.to_u8())),
        };
        self.bounded(len)
    }

    /// Reads a string.
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        let marker = self.marker()?;
        let len = match marker {
            Marker::FixStr(len) => len as usize,
            Marker::Str8 => self.be::<1>()? as usize,
            Marker::Str16 => self.be::<2>()? as usize,
            Marker::Str32 => self.be::<4>()? as usize,
            other => return Err(Malformed::Type(other.to_u8())),
        };
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed::Type(marker.to_u8()))
    }

    /// Reads binary data.
    pub fn bin(&mut self) -> Result<&'a [u8], Malformed> {
        let len = match self.marker()? {
            Marker::Bin8 => self.be::<1>()? as usize,
            Marker::Bin16 => self.be::<2>()? as usize,
            Marker::Bin32 => self.be::<4>()? as usize,
            other => return Err(Malformed::Type(other.to_u8())),
        };
        self.take(len)
    }

    /// Reads an integer as its 64 bits: a signed one keeps its two's complement.
    pub fn int_bits(&mut self) -> Result<u64, Malformed> {
        Ok(match self.marker()? {
            Marker::FixPos(value) => u64::from(value),
            Marker::FixNeg(value) => i64::from(value) as u64,
            Marker::U8 => self.be::<1>()?,
            Marker::U16 => self.be::<2>()?,
            Marker::U32 => self.be::<4>()?,
            Marker::U64 | Marker::I64 => self.be::<8>()?,
            Marker::I8 => self.be::<1>()? as u8 as i8 as i64 as u64,
            Marker::I16 => self.be::<2>()? as u16 as i16 as i64 as u64,
            Marker::I32 => self.be::<4>()? as u32 as i32 as i64 as u64,
            other => return Err(Malformed::Type(other.to_u8())),
        })
    }

    /// Reads an integer from 0 to `u32::MAX`.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let marker = self.peek()?;
        let bits = self.int_bits()?;
        u32::try_from(bits).map_err(|_| Malformed::Type(marker.to_u8()))
    }

    /// Appends up to `most` integers to `values`, and ends before the first value that is none from 0 to `u32::MAX` in
    /// its usual form, and some bytes before the end: what is left there is read one by one.
    ///
    /// Token ids are most of what publishers send. Two and four bytes take turns at random in them, so how long one is
    /// is computed from its marker and not branched on.
    pub fn u32s(&mut self, most: usize, values: &mut Vec<u32>) {
        let mut rest = self.rest;
        for _ in 0..most {
            let Some(head) = rest.first_chunk::<8>() else { break };
            let marker = head[0];
            let (value, len) = match marker {
                // 1, 2 or 4 bytes behind the marker.
                0xcc..=0xce => {
                    let bytes = 1 << (marker & 3);
                    (u64::from_be_bytes(*head) << 8 >> (64 - 8 * bytes), 1 + bytes)
                }
                0..=0x7f => (u64::from(marker), 1),
                _ => break,
            };
            values.push(value as u32);
            rest = &rest[len..];
        }
        self.rest = rest;
    }

    /// Reads a number as a float.
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        match self.peek()? {
            Marker::F64 => {
                self.take(1)?;
                Ok(f64::from_bits(self.be::<8>()?))
            }
            Marker::F32 => {
                self.take(1)?;
                Ok(f64::from(f32::from_bits(self.be::<4>()? as u32)))
            }
            _ => Ok(self.int_bits()? as i64 as f64),
        }
    }

    /// Skips one value with everything in it, and gives its bytes.
    pub fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        // At most 2^33 per byte read, so 64 bits cannot overflow before the bytes end.
        let mut open: u64 = 1;
        while open > 0 {
            open -= 1;
            open += self.skip_head()?;
        }
        let used = start.len() - self.rest.len();
        start.get(..used).ok_or(Malformed::Truncated)
    }

    /// Skips one value's own bytes; returns how many values inside it follow.
    fn skip_head(&mut self) -> Result<u64, Malformed> {
        let body = match self.marker()? {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixStr(len) => len as usize,
            Marker::Str8 | Marker::Bin8 => self.be::<1>()? as usize,
            Marker::Str16 | Marker::Bin16 => self.be::<2>()? as usize,
            Marker::Str32 | Marker::Bin32 => self.be::<4>()? as usize,
            Marker::FixExt1 => 2,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => self.be::<1>()? as usize + 1,
            Marker::Ext16 => self.be::<2>()? as usize + 1,
            Marker::Ext32 => self.be::<4>()? as usize + 1,
            Marker::FixArray(len) => return Ok(u64::from(len)),
            Marker::Array16 => return self.be::<2>(),
            Marker::Array32 => return self.be::<4>(),
            Marker::FixMap(len) => return Ok(2 * u64::from(len)),
            Marker::Map16 => return Ok(2 * self.be::<2>()?),
            Marker::Map32 => return Ok(2 * self.be::<4>()?),
            Marker::Reserved => return Err(Malformed::Type(Marker::Reserved.to_u8())),
        };
        self.take(body)?;
        Ok(0)
    }

    #[inline]
    fn marker(&mut self) -> Result<Marker, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(Marker::from_u8(*first))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Big-endian integer of `N` bytes, at most 8.
    #[inline]
    fn be<const N: usize>(&mut self) -> Result<u64, Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn bounded(&self, len: usize) -> Result<usize, Malformed> {
        if len > self.rest.len() { Err(Malformed::Truncated) } else { Ok(len) }
    }
}
