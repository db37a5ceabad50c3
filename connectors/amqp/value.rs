//! Values of AMQP 1.0, read and written (OASIS AMQP 1.0, part 1).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

/// How deep values are read.
const DEPTH_MAX: usize = 32;

/// How many values one message or frame may hold: a value takes more memory than bytes.
const VALUES_MAX: usize = 1 << 19;

/// A value. Integers of all widths are one of two kinds; how wide one was does not matter to
/// whoever reads it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    /// Of 32 bits where it is written.
    Int(i64),
    Float(f64),
    /// What no number of a machine holds exactly, as it came.
    Decimal(Bytes),
    Char(u32),
    /// Milliseconds since 1970.
    Timestamp(i64),
    Uuid([u8; 16]),
    /// Bytes; also a text that is no UTF-8.
    Binary(Bytes),
    String(ByteString),
    Symbol(ByteString),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// An array, which is read as a list.
    Symbols(Vec<ByteString>),
    Described(Box<(Value, Value)>),
}

/// What does not follow the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

const SHORT: Malformed = Malformed("a value of AMQP breaks off");
const UNKNOWN: Malformed = Malformed("a value of AMQP has a type that there is not");
const DEEP: Malformed = Malformed("values of AMQP are nested too deep");
const MANY: Malformed = Malformed("there are too many values of AMQP");

impl Value {
    pub(super) fn symbol(text: &'static str) -> Self {
        Self::Symbol(ByteString::from_static(text))
    }

    pub(super) fn symbol_of(text: &str) -> Self {
        Self::Symbol(ByteString::from(text))
    }

    pub(super) fn string(text: &str) -> Self {
        Self::String(ByteString::from(text))
    }

    pub(super) fn described(code: u64, value: Self) -> Self {
        Self::Described(Box::new((Self::Ulong(code), value)))
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Ubyte(number) => Some((*number).into()),
            Self::Ushort(number) => Some((*number).into()),
            Self::Uint(number) => Some((*number).into()),
            Self::Ulong(number) => Some(*number),
            Self::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn as_u32(&self) -> Option<u32> {
        self.as_u64()?.try_into().ok()
    }

    /// A string or a symbol.
    pub(super) fn as_text(&self) -> Option<&ByteString> {
        match self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }

    pub(super) fn as_map(&self) -> &[(Self, Self)] {
        match self {
            Self::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The value behind a text in a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let is_it = |(name, _): &&(Self, Self)| name.as_text().is_some_and(|name| *name == key);
        self.as_map().iter().find(is_it).map(|(_, value)| value)
    }

    /// The code and the value of what is described by a number.
    pub(super) fn as_described(&self) -> Option<(u64, &Self)> {
        match self {
            Self::Described(described) => Some((described.0.as_u64()?, &described.1)),
            _ => None,
        }
    }
}

/// Reads values one after the other.
pub(super) struct Reader {
    rest: Bytes,
    values_left: usize,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            rest: bytes,
            values_left: VALUES_MAX,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub(super) fn into_rest(self) -> Bytes {
        self.rest
    }

    /// The next value.
    ///
    /// # Errors
    /// It breaks off, is none, or is larger than anything sensible.
    pub(super) fn value(&mut self) -> Result<Value, Malformed> {
        self.nested(DEPTH_MAX)
    }

    fn nested(&mut self, depth: usize) -> Result<Value, Malformed> {
        let constructor = self.u8()?;
        if constructor == 0 {
            let depth = depth.checked_sub(1).ok_or(DEEP)?;
            let described = (self.nested(depth)?, self.nested(depth)?);
            return Ok(Value::Described(Box::new(described)));
        }
        self.of(constructor, depth)
    }

    fn of(&mut self, constructor: u8, depth: usize) -> Result<Value, Malformed> {
        self.values_left = self.values_left.checked_sub(1).ok_or(MANY)?;
        match constructor {
            0x40..=0x45 | 0x50..=0x56 | 0x60..=0x61 => self.narrow(constructor),
            0x70..=0x98 => self.wide(constructor),
            0xa0..=0xb3 => self.variable(constructor),
            _ => self.compound(constructor, depth.checked_sub(1).ok_or(DEEP)?),
        }
    }

    /// Values of up to two bytes.
    fn narrow(&mut self, constructor: u8) -> Result<Value, Malformed> {
        Ok(match constructor {
            0x40 => Value::Null,
            0x41 => Value::Boolean(true),
            0x42 => Value::Boolean(false),
            0x43 => Value::Uint(0),
            0x44 => Value::Ulong(0),
            0x45 => Value::List(Vec::new()),
            0x50 => Value::Ubyte(self.u8()?),
            0x51 | 0x54 | 0x55 => Value::Int(i8::from_be_bytes([self.u8()?]).into()),
            0x52 => Value::Uint(self.u8()?.into()),
            0x53 => Value::Ulong(self.u8()?.into()),
            0x56 => Value::Boolean(self.u8()? != 0),
            0x60 => Value::Ushort(u16::from_be_bytes(self.array()?)),
            0x61 => Value::Int(i16::from_be_bytes(self.array()?).into()),
            _ => return Err(UNKNOWN),
        })
    }

    /// Values of four, eight and sixteen bytes.
    fn wide(&mut self, constructor: u8) -> Result<Value, Malformed> {
        Ok(match constructor {
            0x70 => Value::Uint(u32::from_be_bytes(self.array()?)),
            0x71 => Value::Int(i32::from_be_bytes(self.array()?).into()),
            0x72 => Value::Float(f32::from_be_bytes(self.array()?).into()),
            0x73 => Value::Char(u32::from_be_bytes(self.array()?)),
            0x74 => Value::Decimal(self.bytes(4)?),
            0x80 => Value::Ulong(u64::from_be_bytes(self.array()?)),
            0x81 => Value::Int(i64::from_be_bytes(self.array()?)),
            0x82 => Value::Float(f64::from_be_bytes(self.array()?)),
            0x83 => Value::Timestamp(i64::from_be_bytes(self.array()?)),
            0x84 => Value::Decimal(self.bytes(8)?),
            0x94 => Value::Decimal(self.bytes(16)?),
            0x98 => Value::Uuid(self.array()?),
            _ => return Err(UNKNOWN),
        })
    }

    fn variable(&mut self, constructor: u8) -> Result<Value, Malformed> {
        let length = self.length(constructor < 0xb0)?;
        let bytes = self.bytes(length)?;
        let text = |make: fn(ByteString) -> Value, bytes: Bytes| {
            ByteString::try_from(bytes.clone()).map_or(Value::Binary(bytes), make)
        };
        Ok(match constructor & 0x0f {
            0 => Value::Binary(bytes),
            1 => text(Value::String, bytes),
            3 => text(Value::Symbol, bytes),
            _ => return Err(UNKNOWN),
        })
    }

    fn compound(&mut self, constructor: u8, depth: usize) -> Result<Value, Malformed> {
        let is_small = match constructor {
            0xc0 | 0xc1 | 0xe0 => true,
            0xd0 | 0xd1 | 0xf0 => false,
            _ => return Err(UNKNOWN),
        };
        let size = self.length(is_small)?;
        let inner = self.bytes(size)?;
        // What lies within it is read of its own bytes alone.
        let behind = std::mem::replace(&mut self.rest, inner);
        let read = self.items(constructor, is_small, depth);
        self.rest = behind;
        read
    }

    fn items(&mut self, constructor: u8, is_small: bool, depth: usize) -> Result<Value, Malformed> {
        let count = self.length(is_small)?;
        if count > self.values_left {
            return Err(MANY);
        }
        let mut values = Vec::with_capacity(count.min(self.rest.len()));
        if constructor >= 0xe0 {
            self.elements(count, depth, &mut values)?;
        } else {
            for _ in 0..count {
                values.push(self.nested(depth)?);
            }
        }
        if constructor & 0x0f == 0 {
            return Ok(Value::List(values));
        }
        let mut pairs = Vec::with_capacity(values.len() / 2);
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            let value = values.next();
            pairs.push((
                key,
                value.ok_or(Malformed("a map of AMQP has a key without a value"))?,
            ));
        }
        Ok(Value::Map(pairs))
    }

    /// The elements of an array, which share one constructor.
    fn elements(
        &mut self,
        count: usize,
        depth: usize,
        values: &mut Vec<Value>,
    ) -> Result<(), Malformed> {
        if count == 0 {
            return Ok(());
        }
        let mut descriptor = None;
        let mut constructor = self.u8()?;
        if constructor == 0 {
            let depth = depth.checked_sub(1).ok_or(DEEP)?;
            descriptor = Some(self.nested(depth)?);
            constructor = self.u8()?;
        }
        for _ in 0..count {
            let value = self.of(constructor, depth)?;
            values.push(match &descriptor {
                Some(descriptor) => Value::Described(Box::new((descriptor.clone(), value))),
                None => value,
            });
        }
        Ok(())
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.rest.try_get_u8().map_err(|_| SHORT)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes(N)?;
        bytes[..].try_into().map_err(|_| SHORT)
    }

    fn length(&mut self, is_small: bool) -> Result<usize, Malformed> {
        let length = match is_small {
            true => self.u8()?.into(),
            false => self.rest.try_get_u32().map_err(|_| SHORT)?,
        };
        usize::try_from(length).map_err(|_| SHORT)
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, Malformed> {
        match length <= self.rest.len() {
            true => Ok(self.rest.split_to(length)),
            false => Err(SHORT),
        }
    }
}

/// Writes a value behind what is in `out`.
pub(super) fn write(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Binary(bytes) => variable(0xa0, bytes, out),
        Value::String(text) => variable(0xa1, text.as_bytes(), out),
        Value::Symbol(text) => variable(0xa3, text.as_bytes(), out),
        Value::List(values) if values.is_empty() => out.put_u8(0x45),
        Value::List(values) => compound(0xd0, values.len(), out, |out| {
            values.iter().for_each(|value| write(value, out));
        }),
        Value::Map(pairs) => compound(0xd1, pairs.len() * 2, out, |out| {
            for (key, value) in pairs {
                write(key, out);
                write(value, out);
            }
        }),
        Value::Symbols(texts) => compound(0xf0, texts.len(), out, |out| {
            out.put_u8(0xb3);
            for text in texts {
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text.as_bytes());
            }
        }),
        Value::Described(described) => {
            out.put_u8(0);
            write(&described.0, out);
            write(&described.1, out);
        }
        fixed => write_fixed(fixed, out),
    }
}

/// Writes a value whose type says how many bytes it has.
fn write_fixed(value: &Value, out: &mut BytesMut) {
    let mut put = |constructor, bytes: &[u8]| {
        out.put_u8(constructor);
        out.put_slice(bytes);
    };
    match value {
        Value::Boolean(true) => put(0x41, &[]),
        Value::Boolean(false) => put(0x42, &[]),
        Value::Ubyte(number) => put(0x50, &[*number]),
        Value::Ushort(number) => put(0x60, &number.to_be_bytes()),
        Value::Uint(number) => match u8::try_from(*number) {
            Ok(small) => put(0x52, &[small]),
            Err(_) => put(0x70, &number.to_be_bytes()),
        },
        Value::Ulong(number) => match u8::try_from(*number) {
            Ok(small) => put(0x53, &[small]),
            Err(_) => put(0x80, &number.to_be_bytes()),
        },
        Value::Int(number) => match i32::try_from(*number) {
            Ok(number) => put(0x71, &number.to_be_bytes()),
            Err(_) => put(0x81, &number.to_be_bytes()),
        },
        Value::Float(number) => put(0x82, &number.to_be_bytes()),
        Value::Decimal(bytes) => match bytes.len() {
            4 => put(0x74, bytes),
            8 => put(0x84, bytes),
            _ => put(0x94, bytes),
        },
        Value::Char(code) => put(0x73, &code.to_be_bytes()),
        Value::Timestamp(milliseconds) => put(0x83, &milliseconds.to_be_bytes()),
        Value::Uuid(bytes) => put(0x98, bytes),
        // Null, and what is written elsewhere.
        _ => put(0x40, &[]),
    }
}

/// `small` is the constructor with a length of one byte; the one with four is sixteen above it.
fn variable(small: u8, bytes: &[u8], out: &mut BytesMut) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.put_slice(&[small, length]),
        Err(_) => {
            out.put_u8(small + 0x10);
            out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
    }
    out.put_slice(bytes);
}

fn compound(constructor: u8, count: usize, out: &mut BytesMut, items: impl FnOnce(&mut BytesMut)) {
    out.put_u8(constructor);
    let at = out.len();
    out.put_u32(0);
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    items(out);
    let size = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
