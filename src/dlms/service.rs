//! GET, SET and ACTION, as the meter sees them: requests in, answers out.

use super::Malformed;
use super::axdr::Value;
use super::obis::{Member, Obis};
use super::reader::{Reader, put_length, put_prefixed};

/// One request of a client, with its invoke id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The client's number for it, echoed in the answer.
    pub invoke: u8,
    /// What is asked.
    pub service: Service,
}

/// What a client asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Service {
    /// Read one attribute.
    Get(Selection),
    /// Read on, after this block.
    GetNext(u32),
    /// Read several attributes.
    GetList(Vec<Selection>),
    /// Write one attribute.
    Set(Member, Value),
    /// Call one method.
    Action(Member, Option<Value>),
}

/// An attribute, or a part of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// The attribute.
    pub attribute: Member,
    /// The selector and its parameters.
    pub selector: Option<(u8, Value)>,
}

impl Request {
    /// Reads a plain request.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let (tag, choice, invoke) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let service = match (tag, choice) {
            (TAG_GET, 1) => Service::Get(selection(&mut reader)?),
            (TAG_GET, 2) => Service::GetNext(reader.u32()?),
            (TAG_GET, 3) => {
                let count = reader.length()?;
                let items = (0..count.min(reader.rest().len() + 1)).map(|_| selection(&mut reader));
                Service::GetList(items.collect::<Result<_, _>>()?)
            }
            (TAG_SET, 1) => {
                let target = selection(&mut reader)?;
                Service::Set(target.attribute, Value::read(&mut reader)?)
            }
            (TAG_ACTION, 1) => {
                let method = member(&mut reader)?;
                let parameter = optional(&mut reader, Value::read)?;
                Service::Action(method, parameter)
            }
            (TAG_GET | TAG_SET | TAG_ACTION, other) | (other, _) => {
                return Err(Malformed::Tag(other));
            }
        };
        reader.finish()?;
        Ok(Self { invoke, service })
    }
}

fn selection(reader: &mut Reader<'_>) -> Result<Selection, Malformed> {
    let attribute = member(reader)?;
    let selector = optional(reader, |reader| Ok((reader.u8()?, Value::read(reader)?)))?;
    Ok(Selection {
        attribute,
        selector,
    })
}

fn member(reader: &mut Reader<'_>) -> Result<Member, Malformed> {
    let (class, object, number) = (reader.u16()?, reader.array()?, reader.u8()?);
    Ok(Member::new(class, Obis(object), number))
}

fn optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        _ => read(reader).map(Some),
    }
}

/// What was read, or why it was not (a data-access-result).
pub type Read = Result<Vec<u8>, u8>;

/// The answer to a GET of one attribute.
pub fn get_answer(invoke: u8, read: &Read) -> Vec<u8> {
    let mut out = vec![TAG_GET_ANSWER, 1, invoke];
    put_read(&mut out, read);
    out
}

/// The answer to a GET of several attributes, whose results are `list_of_reads`.
pub fn get_list_answer(invoke: u8, reads: &[u8]) -> Vec<u8> {
    [&[TAG_GET_ANSWER, 3, invoke], reads].concat()
}

/// The results of a GET of several attributes, as they stand in an answer or are cut into blocks.
pub fn list_of_reads(reads: &[Read]) -> Vec<u8> {
    let mut out = Vec::new();
    put_length(&mut out, reads.len());
    reads.iter().for_each(|read| put_read(&mut out, read));
    out
}

/// Reads the results of a GET of several attributes: of each its value, or a data-access-result.
pub fn parse_reads(bytes: &[u8]) -> Result<Vec<Result<Value, u8>>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.length()?;
    let mut reads = Vec::new();
    for _ in 0..count {
        reads.push(match reader.u8()? {
            0 => Ok(Value::read(&mut reader)?),
            1 => Err(reader.u8()?),
            other => return Err(Malformed::Tag(other)),
        });
    }
    reader.finish()?;
    Ok(reads)
}

/// One block of an answer too long for one message. Blocks count from 1.
pub fn get_block_answer(invoke: u8, number: u32, block: &[u8], last: bool) -> Vec<u8> {
    let mut out = vec![TAG_GET_ANSWER, 2, invoke, last.into()];
    out.extend_from_slice(&number.to_be_bytes());
    out.push(0);
    put_prefixed(&mut out, block);
    out
}

/// The answer to a request for a block that is not there.
pub fn no_block_answer(invoke: u8, number: u32) -> Vec<u8> {
    let mut out = vec![TAG_GET_ANSWER, 2, invoke, 1];
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&[1, NO_LONG_GET]);
    out
}

/// The answer to a SET: a data-access-result.
pub fn set_answer(invoke: u8, result: u8) -> Vec<u8> {
    vec![TAG_SET_ANSWER, 1, invoke, result]
}

/// The answer to an ACTION: an action-result and what the method returned.
pub fn action_answer(invoke: u8, result: u8, returned: Option<&Value>) -> Vec<u8> {
    let mut out = vec![TAG_ACTION_ANSWER, 1, invoke, result];
    match returned {
        None => out.push(0),
        Some(value) => {
            out.extend_from_slice(&[1, 0]);
            value.encode_into(&mut out);
        }
    }
    out
}

fn put_read(out: &mut Vec<u8>, read: &Read) {
    match read {
        Ok(value) => {
            out.push(0);
            out.extend_from_slice(value);
        }
        Err(result) => out.extend_from_slice(&[1, *result]),
    }
}

/// The tag of the protected form of a plain request or answer, under the global key.
pub fn global_tag(plain: u8) -> Option<u8> {
    match plain {
        TAG_GET => Some(0xC8),
        TAG_SET => Some(0xC9),
        TAG_ACTION => Some(0xCB),
        TAG_GET_ANSWER => Some(0xCC),
        TAG_SET_ANSWER => Some(0xCD),
        TAG_ACTION_ANSWER => Some(0xCF),
        _ => None,
    }
}

/// A message that names its sender: `DB | title | length | protected`.
pub struct GeneralGlo<'a> {
    /// The sender's system title.
    pub title: &'a [u8],
    /// Security header and body.
    pub protected: &'a [u8],
}

impl<'a> GeneralGlo<'a> {
    /// Reads a general-glo-ciphering message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        match reader.u8()? {
            TAG_GENERAL_GLO => {}
            other => return Err(Malformed::Tag(other)),
        }
        let (title, protected) = (reader.prefixed()?, reader.prefixed()?);
        reader.finish()?;
        Ok(Self { title, protected })
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TAG_GENERAL_GLO];
        put_prefixed(&mut out, self.title);
        put_prefixed(&mut out, self.protected);
        out
    }
}

/// Why a meter does not even answer a request (exception-response).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exception {
    /// Not now, or not in this association.
    NotAllowed,
    /// No such service.
    Unknown,
    /// The message does not open.
    Deciphering,
    /// The counter is too low; the lowest that is taken.
    Counter(u32),
}

impl Exception {
    /// The message.
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::NotAllowed => vec![TAG_EXCEPTION, 1, 1],
            Self::Unknown => vec![TAG_EXCEPTION, 2, 2],
            Self::Deciphering => vec![TAG_EXCEPTION, 1, 5],
            Self::Counter(lowest) => {
                let mut out = vec![TAG_EXCEPTION, 1, 6];
                out.extend_from_slice(&lowest.to_be_bytes());
                out
            }
        }
    }
}

/// Read request.
pub const TAG_GET: u8 = 0xC0;
/// Write request.
pub const TAG_SET: u8 = 0xC1;
/// Method call.
pub const TAG_ACTION: u8 = 0xC3;
/// A message that names its sender.
pub const TAG_GENERAL_GLO: u8 = 0xDB;
/// Refusal of a message.
pub const TAG_EXCEPTION: u8 = 0xD8;
/// The older refusal of a message.
pub const TAG_SERVICE_ERROR: u8 = 0x0E;
const TAG_GET_ANSWER: u8 = 0xC4;
const TAG_SET_ANSWER: u8 = 0xC5;
const TAG_ACTION_ANSWER: u8 = 0xC7;

/// Result: done.
pub const SUCCESS: u8 = 0;
/// Result: try again.
pub const TEMPORARY_FAILURE: u8 = 2;
/// Result: not for this client.
pub const DENIED: u8 = 3;
/// Result: no such object.
pub const UNDEFINED: u8 = 4;
/// Result: not a value of this type.
pub const TYPE_UNMATCHED: u8 = 12;
const NO_LONG_GET: u8 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_of_the_field_are_read() {
        let name = Member::DEVICE_NAME;
        let get = [0xC0, 1, 0xC1, 0, 1, 0, 0, 42, 0, 0, 255, 2, 0];
        let read = Request::parse(&get).unwrap();
        assert_eq!(read.invoke, 0xC1);
        let selection = Selection {
            attribute: name,
            selector: None,
        };
        assert_eq!(read.service, Service::Get(selection));
        let set = [
            0xC1, 1, 0xC1, 0, 41, 0, 0, 25, 0, 0, 255, 2, 0, 0x12, 0x0F, 0xDB,
        ];
        let written = Request::parse(&set).unwrap();
        assert_eq!(
            written.service,
            Service::Set(Member::PORT, Value::LongUnsigned(4059))
        );
    }

    #[test]
    fn what_is_left_over_is_refused() {
        let get = [0xC0, 1, 0xC1, 0, 1, 0, 0, 42, 0, 0, 255, 2, 0, 0];
        assert_eq!(Request::parse(&get), Err(Malformed::Trailing));
        assert_eq!(Request::parse(&get[..9]), Err(Malformed::Truncated));
        assert_eq!(Request::parse(&[0xC0, 9, 0]), Err(Malformed::Tag(9)));
    }

    #[test]
    fn a_list_of_reads_parses_what_it_makes() {
        let value = Value::DoubleLongUnsigned(7);
        let bytes = list_of_reads(&[Ok(value.encode()), Err(DENIED)]);
        assert_eq!(bytes, [2, 0, 6, 0, 0, 0, 7, 1, 3]);
        assert_eq!(parse_reads(&bytes), Ok(vec![Ok(value), Err(DENIED)]));
        assert_eq!(parse_reads(&bytes[..8]), Err(Malformed::Truncated));
        assert_eq!(parse_reads(&[0, 0]), Err(Malformed::Trailing));
        assert_eq!(parse_reads(&[1, 2]), Err(Malformed::Tag(2)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(tag in prop::sample::select(vec![0xC0_u8, 0xC1, 0xC3]), choice in 0_u8..4, mut bytes: Vec<u8>) {
            bytes.splice(0..0, [tag, choice, 0xC1]);
            let _ = (Request::parse(&bytes), GeneralGlo::parse(&bytes[1..]), parse_reads(&bytes[3..]));
        }
    }
}
