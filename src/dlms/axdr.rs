//! A-XDR data (IEC 61334-6): what attributes, selectors and method parameters are made of.

use super::Malformed;
use super::reader::{Reader, put_length, put_prefixed};

/// One value of the `Data` choice. Types that no meter object used here has are refused as unknown tags.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the variants are named as the standard names them"
)]
pub enum Value {
    Null,
    Array(Vec<Self>),
    Structure(Vec<Self>),
    Boolean(bool),
    BitString { bits: usize, bytes: Vec<u8> },
    DoubleLong(i32),
    DoubleLongUnsigned(u32),
    OctetString(Vec<u8>),
    VisibleString(Vec<u8>),
    Utf8String(Vec<u8>),
    Integer(i8),
    Long(i16),
    Unsigned(u8),
    LongUnsigned(u16),
    Long64(i64),
    Long64Unsigned(u64),
    Enum(u8),
    DateTime([u8; 12]),
    Date([u8; 5]),
    Time([u8; 4]),
}

impl Value {
    /// The value in its tagged form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the tagged form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(self.tag());
        match self {
            Self::Null => {}
            Self::Array(items) | Self::Structure(items) => {
                put_length(out, items.len());
                items.iter().for_each(|item| item.encode_into(out));
            }
            Self::Boolean(value) => out.push((*value).into()),
            Self::BitString { bits, bytes } => {
                put_length(out, *bits);
                out.extend_from_slice(bytes);
            }
            Self::OctetString(bytes) | Self::VisibleString(bytes) | Self::Utf8String(bytes) => {
                put_prefixed(out, bytes);
            }
            Self::DoubleLong(value) => out.extend(value.to_be_bytes()),
            Self::DoubleLongUnsigned(value) => out.extend(value.to_be_bytes()),
            Self::Integer(value) => out.extend(value.to_be_bytes()),
            Self::Long(value) => out.extend(value.to_be_bytes()),
            Self::Unsigned(value) | Self::Enum(value) => out.push(*value),
            Self::LongUnsigned(value) => out.extend(value.to_be_bytes()),
            Self::Long64(value) => out.extend(value.to_be_bytes()),
            Self::Long64Unsigned(value) => out.extend(value.to_be_bytes()),
            Self::DateTime(bytes) => out.extend(bytes),
            Self::Date(bytes) => out.extend(bytes),
            Self::Time(bytes) => out.extend(bytes),
        }
    }

    /// The value that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::read_nested(reader, 0)
    }

    fn read_nested(reader: &mut Reader<'_>, depth: usize) -> Result<Self, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed::Depth);
        }
        Ok(match reader.u8()? {
            0 => Self::Null,
            1 => Self::Array(Self::read_items(reader, depth)?),
            2 => Self::Structure(Self::read_items(reader, depth)?),
            3 => Self::Boolean(reader.u8()? != 0),
            4 => {
                let bits = reader.length()?;
                let bytes = reader.take(bits.div_ceil(8))?.to_vec();
                Self::BitString { bits, bytes }
            }
            5 => Self::DoubleLong(i32::from_be_bytes(reader.array()?)),
            6 => Self::DoubleLongUnsigned(reader.u32()?),
            9 => Self::OctetString(reader.prefixed()?.to_vec()),
            10 => Self::VisibleString(reader.prefixed()?.to_vec()),
            12 => Self::Utf8String(reader.prefixed()?.to_vec()),
            15 => Self::Integer(i8::from_be_bytes(reader.array()?)),
            16 => Self::Long(i16::from_be_bytes(reader.array()?)),
            17 => Self::Unsigned(reader.u8()?),
            18 => Self::LongUnsigned(reader.u16()?),
            20 => Self::Long64(i64::from_be_bytes(reader.array()?)),
            21 => Self::Long64Unsigned(u64::from_be_bytes(reader.array()?)),
            22 => Self::Enum(reader.u8()?),
            25 => Self::DateTime(reader.array()?),
            26 => Self::Date(reader.array()?),
            27 => Self::Time(reader.array()?),
            unknown => return Err(Malformed::Tag(unknown)),
        })
    }

    fn read_items(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<Self>, Malformed> {
        let count = reader.length()?;
        // Each item has a tag at least, so a count beyond the bytes left is a lie, found before memory is taken for it.
        if count > reader.rest().len() {
            return Err(Malformed::Truncated);
        }
        (0..count)
            .map(|_| Self::read_nested(reader, depth + 1))
            .collect()
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Array(_) => 1,
            Self::Structure(_) => 2,
            Self::Boolean(_) => 3,
            Self::BitString { .. } => 4,
            Self::DoubleLong(_) => 5,
            Self::DoubleLongUnsigned(_) => 6,
            Self::OctetString(_) => 9,
            Self::VisibleString(_) => 10,
            Self::Utf8String(_) => 12,
            Self::Integer(_) => 15,
            Self::Long(_) => 16,
            Self::Unsigned(_) => 17,
            Self::LongUnsigned(_) => 18,
            Self::Long64(_) => 20,
            Self::Long64Unsigned(_) => 21,
            Self::Enum(_) => 22,
            Self::DateTime(_) => 25,
            Self::Date(_) => 26,
            Self::Time(_) => 27,
        }
    }

    /// The bytes of an octet or text string.
    pub fn as_bytes(&self) -> Result<&[u8], Malformed> {
        match self {
            Self::OctetString(bytes) | Self::VisibleString(bytes) | Self::Utf8String(bytes) => {
                Ok(bytes)
            }
            _ => Err(Malformed::Type),
        }
    }

    /// The items of an array or structure.
    pub fn as_items(&self) -> Result<&[Self], Malformed> {
        match self {
            Self::Array(items) | Self::Structure(items) => Ok(items),
            _ => Err(Malformed::Type),
        }
    }

    /// Any whole number, however wide the meter keeps it.
    pub fn as_integer(&self) -> Result<i64, Malformed> {
        match *self {
            Self::Integer(value) => Ok(value.into()),
            Self::Long(value) => Ok(value.into()),
            Self::DoubleLong(value) => Ok(value.into()),
            Self::Long64(value) => Ok(value),
            Self::Unsigned(value) | Self::Enum(value) => Ok(value.into()),
            Self::LongUnsigned(value) => Ok(value.into()),
            Self::DoubleLongUnsigned(value) => Ok(value.into()),
            Self::Long64Unsigned(value) => i64::try_from(value).map_err(|_| Malformed::Type),
            _ => Err(Malformed::Type),
        }
    }
}

/// No object of a meter nests deeper; a peer that does wants our stack.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            any::<i32>().prop_map(Value::DoubleLong),
            any::<u32>().prop_map(Value::DoubleLongUnsigned),
            any::<Vec<u8>>().prop_map(Value::OctetString),
            any::<Vec<u8>>().prop_map(Value::VisibleString),
            any::<i8>().prop_map(Value::Integer),
            any::<u16>().prop_map(Value::LongUnsigned),
            any::<u64>().prop_map(Value::Long64Unsigned),
            any::<u8>().prop_map(Value::Enum),
            any::<[u8; 12]>().prop_map(Value::DateTime),
            any::<Vec<u8>>().prop_map(|bytes| Value::BitString {
                bits: bytes.len() * 8,
                bytes
            }),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec(inner, 0..8).prop_map(Value::Structure),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_decodes_from_what_it_encodes(value in any_value()) {
            prop_assert_eq!(Value::decode(&value.encode()), Ok(value));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            if let Ok(value) = Value::decode(&bytes) {
                prop_assert_eq!(Value::decode(&value.encode()), Ok(value));
            }
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut bytes = [0x01, 0x01].repeat(64);
        bytes.push(0);
        assert_eq!(Value::decode(&bytes), Err(Malformed::Depth));
    }

    #[test]
    fn a_count_beyond_the_bytes_takes_no_memory() {
        assert_eq!(
            Value::decode(&[0x01, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
            Err(Malformed::Truncated)
        );
    }
}
