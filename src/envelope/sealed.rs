//! The envelope: a sealed payload (the body) and the stanzas that open it.
//!
//! ```text
//! envelope:
//!   magic           [5]        "cosE" 0x01
//!   body            bytes32    below
//!   stanzas         u8 n       1 to 8, then n times bytes16 (see `stanza`), whose digests are those of the body
//! body:
//!   magic           [5]        "cosB" 0x01
//!   header          bytes16    at most 8192 bytes (see `header`)
//!   commitment      [32]       see `payload`
//!   ciphertext      bytes32    at most 262,144 bytes (see `payload`)
//!   stanza digests  u8 n       0 to 8, then n times [32]: SHA-256 of each stanza, in their order
//!   signed          u8         0, or 1 followed by chain and signature (see `signature`)
//! signing input:
//!   text8 "cos-escrow/envelope/1" ‖ bytes16 header ‖ [32] commitment ‖ [32] SHA-256(ciphertext)
//!   ‖ u8 n ‖ n times [32] stanza digest
//! ```
//! The body alone is what the service keeps: it verifies without the stanzas, which a release replaces. A body without
//! stanza digests and without signature is one that the service sealed itself, for a depositor that sent a plain package.

use crate::types::{Digest, KeyId, PartyId, Random, Secret};

use super::header::Header;
use super::payload::{self, Dek, PayloadError, TAG_BYTES};
use super::sealing_key::{SealingKeyError, SealingKeyPair, SealingPublicKey};
use super::signature::{Signature, SignatureError, SignerChain};
use super::stanza::{MAX_STANZA_BYTES, Recipient, Stanza};
use super::wire::{Decoder, Encoder, FormatError};

/// A sealed package or read with the stanzas that open it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    body: Body,
    stanzas: Vec<Stanza>,
}

/// A sealed package or read without its stanzas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Body {
    header: Header,
    commitment: Digest,
    ciphertext: Vec<u8>,
    stanza_digests: Vec<Digest>,
    signature: Option<Signature>,
}

/// Why something cannot be sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The content is too long for an envelope.
    #[error("the content is larger than an envelope holds")]
    TooLarge,
    /// There must be 1 to 8 recipients.
    #[error("an envelope has 1 to 8 recipients")]
    Recipients,
    /// A recipient's key cannot be sealed to.
    #[error(transparent)]
    Key(#[from] SealingKeyError),
}

/// Why an envelope does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// No stanza is sealed to this key.
    #[error("no stanza is sealed to this key")]
    NoStanza,
    /// The stanza does not open.
    #[error(transparent)]
    Stanza(#[from] SealingKeyError),
    /// The payload does not open.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// An envelope that still needs its depositor's signature.
pub struct Draft(Envelope);

impl Draft {
    /// Seals content under a new key, with a stanza for each recipient.
    pub fn seal(
        content: &[u8],
        header: Header,
        recipients: &[(Recipient, SealingPublicKey)],
        random: &dyn Random,
    ) -> Result<Self, SealError> {
        if !(1..=MAX_STANZAS).contains(&recipients.len()) {
            return Err(SealError::Recipients);
        }
        let (mut body, dek) = Body::seal(content, header, random)?;
        let digest = body.header.digest();
        let stanzas = recipients
            .iter()
            .map(|(recipient, key)| Stanza::seal(&dek, &digest, recipient, key, random))
            .collect::<Result<Vec<_>, _>>()?;
        body.stanza_digests = stanzas.iter().map(Stanza::digest).collect();
        Ok(Self(Envelope { body, stanzas }))
    }

    /// Has the depositor sign it: `sign` gets the bytes to sign.
    pub fn sign<E>(
        mut self,
        sign: impl FnOnce(&[u8]) -> Result<Signature, E>,
    ) -> Result<Envelope, E> {
        self.0.body.signature = Some(sign(&self.0.body.signing_input())?);
        Ok(self.0)
    }
}

impl Envelope {
    /// The part that stays.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The stanzas, in the order of their digests.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Body and stanzas apart.
    pub fn into_parts(self) -> (Body, Vec<Stanza>) {
        (self.body, self.stanzas)
    }

    /// The stanza that is sealed to this key.
    pub fn stanza_for(&self, key: KeyId) -> Option<&Stanza> {
        self.stanzas.iter().find(|stanza| stanza.key_id() == key)
    }

    /// Opens the stanza for this key and gives the key of the payload, checked against it.
    pub fn dek(&self, key: &SealingKeyPair) -> Result<Dek, OpenError> {
        let stanza = self.stanza_for(key.id()).ok_or(OpenError::NoStanza)?;
        let dek = stanza.open(&self.body.header.digest(), key)?;
        self.body.check(&dek)?;
        Ok(dek)
    }

    /// Opens the content with a recipient's key. The signature is the caller's to verify first.
    pub fn open(&self, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        let stanza = self.stanza_for(key.id()).ok_or(OpenError::NoStanza)?;
        self.body.open_with(stanza, key)
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::with_magic(ENVELOPE_MAGIC)
            .bytes32(&self.body.encode())
            .count(self.stanzas.len())
            .each(&self.stanzas, |e, stanza| e.bytes16(&stanza.encode()))
            .finish()
    }

    /// Reads the one encoding, whose stanzas are those that the body names.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, ENVELOPE_MAGIC)?;
        let body = Body::decode(fields.bytes32("body", MAX_BODY_BYTES)?)?;
        let stanzas = fields.list("stanzas", MAX_STANZAS, |f| {
            Stanza::decode(f.bytes16("stanzas", MAX_STANZA_BYTES)?)
        })?;
        fields.finish()?;
        let named = body.stanza_digests.iter().copied();
        if stanzas.is_empty() || !named.eq(stanzas.iter().map(Stanza::digest)) {
            return Err(FormatError::StanzaMismatch);
        }
        Ok(Self { body, stanzas })
    }

    /// SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

impl Body {
    /// Seals content for nobody but the holder of the returned key: what the service does with a plain package.
    pub fn seal(
        content: &[u8],
        header: Header,
        random: &dyn Random,
    ) -> Result<(Self, Dek), SealError> {
        if content.len() > MAX_CIPHERTEXT_BYTES - TAG_BYTES {
            return Err(SealError::TooLarge);
        }
        let dek = Dek::random(random);
        let (commitment, ciphertext) = payload::seal(&dek, &header.encode(), content);
        let body = Self {
            header,
            commitment,
            ciphertext,
            stanza_digests: Vec::new(),
            signature: None,
        };
        Ok((body, dek))
    }

    /// What can be known without opening.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The commitment to the key.
    pub fn commitment(&self) -> &Digest {
        &self.commitment
    }

    /// The digests of the stanzas that it was sealed with.
    pub fn stanza_digests(&self) -> &[Digest] {
        &self.stanza_digests
    }

    /// The depositor's signature, if it sealed the envelope itself.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// The bytes that the depositor signs.
    pub fn signing_input(&self) -> Vec<u8> {
        Encoder::default()
            .text8("cos-escrow/envelope/1")
            .bytes16(&self.header.encode())
            .raw(self.commitment.as_bytes())
            .raw(Digest::of(&self.ciphertext).as_bytes())
            .count(self.stanza_digests.len())
            .each(&self.stanza_digests, |e, digest| e.raw(digest.as_bytes()))
            .finish()
    }

    /// Verifies the signature: `verify` gets chain, signed bytes and signature and says whose it is; it must be the
    /// depositor's.
    pub fn verify<E>(
        &self,
        verify: impl FnOnce(&SignerChain, &[u8], &[u8]) -> Result<PartyId, E>,
    ) -> Result<(), SignatureError<E>> {
        let signature = self.signature.as_ref().ok_or(SignatureError::Unsigned)?;
        let signer = verify(
            signature.chain(),
            &self.signing_input(),
            signature.as_bytes(),
        )
        .map_err(SignatureError::Refused)?;
        if signer == self.header.depositor {
            Ok(())
        } else {
            Err(SignatureError::OtherParty(signer))
        }
    }

    /// Opens the content.
    pub fn open(&self, dek: &Dek) -> Result<Secret, PayloadError> {
        let header = self.header.encode();
        payload::open(dek, &header, &self.commitment, &self.ciphertext)
    }

    /// Checks that the content would open, and lets nobody see it.
    pub fn check(&self, dek: &Dek) -> Result<(), PayloadError> {
        self.open(dek).map(drop)
    }

    /// Opens the content with a stanza, of the envelope itself or made later for a release.
    pub fn open_with(&self, stanza: &Stanza, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        let dek = stanza.open(&self.header.digest(), key)?;
        Ok(self.open(&dek)?)
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        let encoder = Encoder::with_magic(BODY_MAGIC)
            .bytes16(&self.header.encode())
            .raw(self.commitment.as_bytes())
            .bytes32(&self.ciphertext)
            .count(self.stanza_digests.len())
            .each(&self.stanza_digests, |e, digest| e.raw(digest.as_bytes()));
        match &self.signature {
            None => encoder.u8(0),
            Some(signature) => signature.encode(encoder.u8(1)),
        }
        .finish()
    }

    /// Reads the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, BODY_MAGIC)?;
        let body = Self {
            header: Header::decode(fields.bytes16("header", MAX_HEADER_BYTES)?)?,
            commitment: Digest(fields.array()?),
            ciphertext: fields.bytes32("ciphertext", MAX_CIPHERTEXT_BYTES)?.to_vec(),
            stanza_digests: fields
                .list("stanza_digests", MAX_STANZAS, |f| f.array().map(Digest))?,
            signature: match fields.present("signed")? {
                false => None,
                true => Some(Signature::decode(&mut fields)?),
            },
        };
        fields.finish()?;
        Ok(body)
    }

    /// SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// The most that a body's encoding can take.
pub(super) const MAX_BODY_BYTES: usize = MAX_CIPHERTEXT_BYTES + 32 * 1024;
const MAX_CIPHERTEXT_BYTES: usize = 256 * 1024;
const MAX_HEADER_BYTES: usize = 8192;
const MAX_STANZAS: usize = 8;
const ENVELOPE_MAGIC: &[u8] = b"cosE\x01";
const BODY_MAGIC: &[u8] = b"cosB\x01";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::Kem;
    use crate::envelope::testing::{self, Counter, Signer};

    const CONTENT: &[u8] = b"{\"format\":\"cos-escrow/package/1\"}";

    struct Sealed {
        depositor: Signer,
        keys: Vec<SealingKeyPair>,
        envelope: Envelope,
    }

    /// An envelope for the escrow and a gainer, the first key being the escrow's.
    fn sealed(kem: Kem, header: Header, content: &[u8]) -> Sealed {
        let (random, depositor) = (Counter::seeded(1), Signer::of("loser"));
        let keys: Vec<_> = (0..2)
            .map(|_| SealingKeyPair::generate(kem, &random))
            .collect();
        let gainer = Recipient::Party("gainer".parse().unwrap());
        let recipients: Vec<_> = [Recipient::Escrow, gainer]
            .into_iter()
            .zip(keys.iter().map(|key| key.public().clone()))
            .collect();
        let draft = Draft::seal(content, header, &recipients, &random).unwrap();
        let envelope = draft.sign(|message| depositor.sign(message)).unwrap();
        Sealed {
            depositor,
            keys,
            envelope,
        }
    }

    fn verify(body: &Body, signer: &Signer) -> Result<(), SignatureError<&'static str>> {
        body.verify(|chain, message, signature| signer.verify(chain, message, signature))
    }

    #[test]
    fn each_recipient_opens_it_with_each_kem() {
        for kem in Kem::ALL {
            let sealed = sealed(kem, testing::header(), CONTENT);
            let envelope = Envelope::decode(&sealed.envelope.encode()).unwrap();
            assert_eq!(envelope, sealed.envelope);
            assert_eq!(verify(envelope.body(), &sealed.depositor), Ok(()));
            for key in &sealed.keys {
                assert_eq!(envelope.open(key).unwrap().expose(), CONTENT, "{kem}");
                let dek = envelope.dek(key).unwrap();
                assert_eq!(envelope.body().check(&dek), Ok(()));
            }
        }
    }

    #[test]
    fn a_stranger_opens_nothing() {
        let sealed = sealed(Kem::X25519, testing::header(), CONTENT);
        let stranger = SealingKeyPair::generate(Kem::X25519, &Counter::seeded(9));
        let opened = sealed.envelope.open(&stranger).map(|_| ());
        assert_eq!(opened, Err(OpenError::NoStanza));
        let stanza = &sealed.envelope.stanzas()[0];
        let opened = sealed.envelope.body().open_with(stanza, &stranger);
        assert_eq!(
            opened.map(|_| ()),
            Err(OpenError::Stanza(SealingKeyError::DoesNotOpen))
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let Sealed {
            depositor,
            keys,
            envelope,
        } = sealed(Kem::X25519, testing::header(), CONTENT);
        let good = envelope.encode();
        for at in 0..good.len() {
            for bit in [0x01, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= bit;
                let Ok(envelope) = Envelope::decode(&bytes) else {
                    continue;
                };
                assert!(verify(envelope.body(), &depositor).is_err(), "byte {at}");
            }
        }
        // Even a verifier that skips the signature opens nothing but what was sealed.
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            if let Ok(changed) = Envelope::decode(&bytes)
                && let Ok(content) = changed.open(&keys[0])
            {
                assert_eq!(content.expose(), CONTENT);
                assert_eq!(changed.body().header(), envelope.body().header());
            }
        }
    }

    #[test]
    fn the_body_alone_is_as_tamper_evident() {
        let sealed = sealed(Kem::X25519, testing::header(), CONTENT);
        let good = sealed.envelope.body().encode();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            if let Ok(body) = Body::decode(&bytes) {
                assert!(verify(&body, &sealed.depositor).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_header_swapped_between_envelopes_is_refused() {
        let other = Header {
            supply_point: "1312345678907".parse().unwrap(),
            ..testing::header()
        };
        let (a, b) = (
            sealed(Kem::X25519, testing::header(), CONTENT),
            sealed(Kem::X25519, other, CONTENT),
        );
        let mut body = a.envelope.body().clone();
        body.header = b.envelope.body().header().clone();
        assert!(verify(&body, &a.depositor).is_err());
        let dek = a.envelope.dek(&a.keys[0]).unwrap();
        assert_eq!(body.check(&dek), Err(PayloadError::Commitment));
        let stanza = &a.envelope.stanzas()[0];
        let opened = body.open_with(stanza, &a.keys[0]).map(|_| ());
        assert_eq!(opened, Err(OpenError::Stanza(SealingKeyError::DoesNotOpen)));
    }

    #[test]
    fn stanzas_of_another_envelope_are_refused() {
        let (a, b) = (
            sealed(Kem::X25519, testing::header(), CONTENT),
            sealed(Kem::P256, testing::header(), CONTENT),
        );
        let mixed = Envelope {
            body: a.envelope.body,
            stanzas: b.envelope.stanzas,
        };
        assert_eq!(
            Envelope::decode(&mixed.encode()),
            Err(FormatError::StanzaMismatch)
        );
    }

    #[test]
    fn a_stanza_relabelled_for_another_recipient_does_not_open() {
        let (random, header) = (Counter::seeded(3), testing::header());
        let key = SealingKeyPair::generate(Kem::X25519, &random);
        let dek = Dek::random(&random);
        let (digest, escrow) = (header.digest(), Recipient::Escrow);
        let stanza = Stanza::seal(&dek, &digest, &escrow, key.public(), &random).unwrap();
        assert!(stanza.open(&digest, &key).is_ok());
        let encoded = stanza.encode();
        let gainer = b"\x1curn:cos-escrow:party:gainer1";
        let relabelled = [&gainer[..], &encoded[1 + usize::from(encoded[0])..]].concat();
        let relabelled = Stanza::decode(&relabelled).unwrap();
        assert!(relabelled.open(&digest, &key).is_err());
    }

    #[test]
    fn a_signature_of_another_party_than_the_depositor_is_refused() {
        let (random, stranger) = (Counter::seeded(4), Signer::of("stranger"));
        let key = SealingKeyPair::generate(Kem::X25519, &random);
        let recipients = [(Recipient::Escrow, key.public().clone())];
        let draft = Draft::seal(CONTENT, testing::header(), &recipients, &random).unwrap();
        let envelope = draft.sign(|message| stranger.sign(message)).unwrap();
        assert_eq!(
            verify(envelope.body(), &stranger),
            Err(SignatureError::OtherParty("stranger".parse().unwrap()))
        );
    }

    #[test]
    fn a_signature_taken_away_is_missed() {
        let mut sealed = sealed(Kem::X25519, testing::header(), CONTENT);
        sealed.envelope.body.signature = None;
        let envelope = Envelope::decode(&sealed.envelope.encode()).unwrap();
        assert_eq!(
            verify(envelope.body(), &sealed.depositor),
            Err(SignatureError::Unsigned)
        );
    }

    #[test]
    fn what_the_service_seals_itself_opens_with_its_key_only() {
        let random = Counter::seeded(5);
        let (body, dek) = Body::seal(CONTENT, testing::header(), &random).unwrap();
        let body = Body::decode(&body.encode()).unwrap();
        assert_eq!(body.open(&dek).unwrap().expose(), CONTENT);
        let other = Dek::random(&random);
        assert_eq!(body.check(&other), Err(PayloadError::Commitment));
    }

    #[test]
    fn contents_and_recipients_are_limited() {
        let random = Counter::seeded(6);
        let most = vec![0; MAX_CIPHERTEXT_BYTES - TAG_BYTES];
        let (body, _) = Body::seal(&most, testing::header(), &random).unwrap();
        assert!(Body::decode(&body.encode()).is_ok());
        let more = vec![0; MAX_CIPHERTEXT_BYTES - TAG_BYTES + 1];
        let refused = Body::seal(&more, testing::header(), &random).map(|_| ());
        assert_eq!(refused, Err(SealError::TooLarge));
        let nobody = Draft::seal(CONTENT, testing::header(), &[], &random).map(|_| ());
        assert_eq!(nobody, Err(SealError::Recipients));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_content_comes_back(content: Vec<u8>) {
            let sealed = sealed(Kem::X25519, testing::header(), &content);
            let envelope = Envelope::decode(&sealed.envelope.encode()).unwrap();
            let opened = envelope.open(&sealed.keys[1]).unwrap();
            prop_assert_eq!(opened.expose(), &content[..]);
        }

        #[test]
        fn decoders_never_panic(bytes: Vec<u8>) {
            let _ = Envelope::decode(&bytes);
            let _ = Envelope::decode(&[ENVELOPE_MAGIC, &bytes].concat());
            let _ = Body::decode(&[BODY_MAGIC, &bytes].concat());
            let _ = Stanza::decode(&bytes);
        }

        #[test]
        fn a_spliced_envelope_never_panics_and_has_one_encoding(
            at in 0..600_usize, cut in 0..40_usize, insert in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut bytes = sealed(Kem::X25519, testing::header(), CONTENT).envelope.encode();
            let at = at % bytes.len();
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, insert);
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(envelope.encode(), bytes);
            }
        }
    }
}
