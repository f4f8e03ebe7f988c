//! Opening and closing an association, as the meter sees it: AARQ and RLRQ in, AARE and RLRE out.

use super::Malformed;
use super::reader::{Reader, put_element};

/// What a client asks for (AARQ).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AssociationRequest {
    /// The last arc of the application context name: 1 plain, 3 ciphered, both by logical names.
    pub context: u8,
    /// The client's system title.
    pub title: Vec<u8>,
    /// The last arc of the mechanism name: 0 none, 1 password, 5 GMAC.
    pub mechanism: u8,
    /// The password, or the client's challenge to the meter.
    pub challenge: Vec<u8>,
    /// The initiate request, protected where the context is ciphered.
    pub user_information: Vec<u8>,
}

impl AssociationRequest {
    /// Reads an AARQ. A field that is missing is empty.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut request = Self::default();
        let mut fields = Reader::new(content(message, TAG_AARQ)?);
        while !fields.rest().is_empty() {
            match fields.element()? {
                (0xA1, value) => request.context = last_arc(value)?,
                (0xA6, value) => request.title = inner(value)?.to_vec(),
                (0x8B, value) => request.mechanism = last_arc(value)?,
                (0xAC, value) => request.challenge = inner(value)?.to_vec(),
                (0xBE, value) => request.user_information = inner(value)?.to_vec(),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// What a meter answers (AARE).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AssociationResponse {
    /// The context of the request.
    pub context: u8,
    /// Accepted, or not and why.
    pub verdict: Verdict,
    /// The meter's system title, in a ciphered association.
    pub title: Vec<u8>,
    /// The meter's challenge, where the mechanism has one.
    pub challenge: Vec<u8>,
    /// The initiate response, protected where the context is ciphered.
    pub user_information: Vec<u8>,
}

/// How a meter decides on an association.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The association stands.
    Accepted,
    /// The association stands: the password was right.
    Password,
    /// The association stands once the client has answered the challenge.
    Pending,
    /// Refused for now.
    Busy,
    /// Refused for good, with the diagnostic of the ACSE service user.
    Refused(u8),
}

impl AssociationResponse {
    /// The AARE.
    pub fn encode(&self) -> Vec<u8> {
        let (result, diagnostic) = match self.verdict {
            Verdict::Accepted | Verdict::Password => (0, 0),
            Verdict::Pending => (0, AUTHENTICATION_REQUIRED),
            Verdict::Busy => (2, 1),
            Verdict::Refused(diagnostic) => (1, diagnostic),
        };
        let mut fields = Vec::new();
        let name = [&[0x06, 0x07][..], &NAMES, &[0x01, self.context]].concat();
        put_element(&mut fields, 0xA1, &name);
        put_element(&mut fields, 0xA2, &[0x02, 0x01, result]);
        put_element(&mut fields, 0xA3, &[0xA1, 0x03, 0x02, 0x01, diagnostic]);
        if !self.title.is_empty() {
            put_element(&mut fields, 0xA4, &element(0x04, &self.title));
        }
        if self.verdict == Verdict::Password {
            put_element(&mut fields, 0x88, &[0x07, 0x80]);
            put_element(&mut fields, 0x89, &[&NAMES[..], &[0x02, LLS]].concat());
        }
        if self.verdict == Verdict::Pending {
            put_element(&mut fields, 0x88, &[0x07, 0x80]);
            put_element(&mut fields, 0x89, &[&NAMES[..], &[0x02, GMAC]].concat());
            put_element(&mut fields, 0xAA, &element(0x80, &self.challenge));
        }
        if !self.user_information.is_empty() {
            put_element(&mut fields, 0xBE, &element(0x04, &self.user_information));
        }
        element(TAG_AARE, &fields)
    }
}

/// What the client can do, inside the AARQ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InitiateRequest {
    /// Services, 24 bits, bit 0 first.
    pub conformance: u32,
    /// The longest message the client takes; 0 = any.
    pub max_bytes: u16,
}

impl InitiateRequest {
    /// Reads an initiate request; a dedicated key is refused, as this meter has none.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        expect(reader.u8()?, 0x01)?;
        expect(reader.u8()?, 0x00)?;
        for _ in ["response allowed", "quality of service"] {
            if reader.u8()? != 0 {
                reader.u8()?;
            }
        }
        expect(reader.u8()?, DLMS_VERSION)?;
        if reader.array()? != CONFORMANCE_PREFIX {
            return Err(Malformed::Type);
        }
        let [a, b, c] = reader.array()?;
        let max_bytes = reader.u16()?;
        reader.finish()?;
        Ok(Self {
            conformance: u32::from_be_bytes([0, a, b, c]),
            max_bytes,
        })
    }
}

/// What the meter can do, inside the AARE.
pub fn initiate_response(conformance: u32, max_bytes: u16) -> Vec<u8> {
    let [_, bits @ ..] = conformance.to_be_bytes();
    let mut out = vec![0x08, 0x00, DLMS_VERSION];
    out.extend_from_slice(&CONFORMANCE_PREFIX);
    out.extend_from_slice(&bits);
    out.extend_from_slice(&max_bytes.to_be_bytes());
    out.extend_from_slice(&LOGICAL_NAMES);
    out
}

/// Takes the protected content out of `tag | length | content`.
pub fn protected_content(message: &[u8], tag: u8) -> Result<&[u8], Malformed> {
    content(message, tag)
}

/// Puts protected content behind its tag.
pub fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    element(tag, content)
}

/// The answer to a release request.
pub const RELEASED: [u8; 5] = [0x63, 0x03, 0x80, 0x01, 0x00];

fn content(message: &[u8], tag: u8) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(message);
    let (found, content) = reader.element()?;
    expect(found, tag)?;
    reader.finish()?;
    Ok(content)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_element(&mut out, tag, content);
    out
}

fn inner(value: &[u8]) -> Result<&[u8], Malformed> {
    Reader::new(value).element().map(|(_, content)| content)
}

fn last_arc(name: &[u8]) -> Result<u8, Malformed> {
    name.last().copied().ok_or(Malformed::Truncated)
}

fn expect(found: u8, tag: u8) -> Result<(), Malformed> {
    (found == tag).then_some(()).ok_or(Malformed::Tag(found))
}

/// Association request.
pub const TAG_AARQ: u8 = 0x60;
/// Association response.
pub const TAG_AARE: u8 = 0x61;
/// Release request.
pub const TAG_RLRQ: u8 = 0x62;
/// The mechanism in which the client sends a password.
pub const LLS: u8 = 1;
/// The mechanism in which both sides prove their keys by a GMAC.
pub const GMAC: u8 = 5;
/// Diagnostic: context not supported.
pub const CONTEXT_UNSUPPORTED: u8 = 2;
/// Diagnostic: mechanism not recognised.
pub const MECHANISM_UNKNOWN: u8 = 11;
/// Diagnostic: authentication failure.
pub const AUTHENTICATION_FAILURE: u8 = 13;
/// Diagnostic: authentication required.
pub const AUTHENTICATION_REQUIRED: u8 = 14;

/// 2.16.756.5.8: what all DLMS names start with.
const NAMES: [u8; 5] = [0x60, 0x85, 0x74, 0x05, 0x08];
const DLMS_VERSION: u8 = 6;
const CONFORMANCE_PREFIX: [u8; 4] = [0x5F, 0x1F, 0x04, 0x00];
const LOGICAL_NAMES: [u8; 2] = [0x00, 0x07];

#[cfg(test)]
mod tests {
    use dlms_cosem_rs::acse::Aare;
    use dlms_cosem_rs::codec::Decode as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_decoder_reads_the_answer() {
        let answer = AssociationResponse {
            context: 3,
            verdict: Verdict::Pending,
            title: b"MMM00001".to_vec(),
            challenge: vec![7; 16],
            user_information: vec![9; 130],
        }
        .encode();
        let aare = Aare::from_bytes(&answer).unwrap();
        assert!(aare.is_accepted());
        assert_eq!(aare.responding_ap_title, Some(&b"MMM00001"[..]));
        assert_eq!(aare.responding_authentication_value, Some(&[7; 16][..]));
        assert_eq!(aare.user_information, Some(&[9; 130][..]));
    }

    #[test]
    fn an_initiate_request_is_read() {
        let message = [1, 0, 0, 0, 6, 0x5F, 0x1F, 4, 0, 0, 0x7E, 0x1F, 4, 0xB0];
        let request = InitiateRequest::parse(&message).unwrap();
        assert_eq!((request.conformance, request.max_bytes), (0x7E1F, 0x4B0));
        assert_eq!(
            InitiateRequest::parse(&message[..13]),
            Err(Malformed::Truncated)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(mut bytes: Vec<u8>, tag in prop::sample::select(vec![TAG_AARQ, 0x01])) {
            bytes.insert(0, tag);
            let _ = (AssociationRequest::parse(&bytes), InitiateRequest::parse(&bytes));
        }
    }
}
