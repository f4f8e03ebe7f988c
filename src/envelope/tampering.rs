//! Tests: an envelope opens for its recipients, and nothing in it can be changed, swapped or taken away.

use proptest::prelude::*;

use super::body::MAX_CIPHERTEXT_BYTES;
use super::payload::TAG_BYTES;
use super::testing::{self, Counter, Signer};
use super::*;

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
        let _ = Envelope::decode(&[b"cosE\x01".as_slice(), &bytes].concat());
        let _ = Body::decode(&[b"cosB\x01".as_slice(), &bytes].concat());
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
