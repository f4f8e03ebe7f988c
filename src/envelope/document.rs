//! Signed documents: a statement as canonical JSON, with the signature of whoever makes it.
//!
//! The payload is RFC 8785 (JCS) JSON, kept as the bytes that were signed. What is signed is
//!
//! ```text
//! "cos-escrow/" kind "/1" 0x00 payload
//! ```
//! with ECDSA P-256 and SHA-256, so that a document of one kind never passes for another. On the wire a document is
//! `{"chain":[…],"kind":"…","payload":"…","signature":"…"}`, at most 64 KiB, all but the kind in unpadded base64url: the
//! certificates as DER, leaf first, without the root; the payload; the signature as DER.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::Digest;

use super::signature::{Signature, SignerChain};
use super::wire::FormatError;

/// What a document of one kind says.
pub trait Statement: Serialize + DeserializeOwned {
    /// The kind, as it is signed.
    const KIND: &'static str;
}

/// A statement with the signature of whoever makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedDocument {
    kind: String,
    payload: Vec<u8>,
    signature: Signature,
}

/// Why a document is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DocumentError<E> {
    /// It is of another kind than expected.
    #[error("the document is of another kind")]
    OtherKind,
    /// The payload is not the canonical JSON of such a statement.
    #[error("the payload is not the canonical JSON of such a statement")]
    Payload,
    /// The signature does not hold.
    #[error("the signature does not verify: {0}")]
    Signature(E),
}

impl SignedDocument {
    /// Has a statement signed: `sign` gets the bytes to sign.
    pub fn sign<S: Statement, E>(
        statement: &S,
        sign: impl FnOnce(&[u8]) -> Result<Signature, E>,
    ) -> Result<Self, E> {
        let payload = canonical(statement);
        let signature = sign(&signing_input(S::KIND, &payload))?;
        Ok(Self {
            kind: S::KIND.to_owned(),
            payload,
            signature,
        })
    }

    /// Verifies the signature and reads the statement: `verify` gets chain, signed bytes and signature and says whose
    /// it is. The signer may be an agent, so whether it may speak for the party named inside is the caller's check.
    pub fn verify<S: Statement, W, E>(
        &self,
        verify: impl FnOnce(&SignerChain, &[u8], &[u8]) -> Result<W, E>,
    ) -> Result<(S, W), DocumentError<E>> {
        if self.kind != S::KIND {
            return Err(DocumentError::OtherKind);
        }
        let input = signing_input(S::KIND, &self.payload);
        let signer = verify(self.signature.chain(), &input, self.signature.as_bytes())
            .map_err(DocumentError::Signature)?;
        Ok((self.claim()?, signer))
    }

    /// What it says, whoever may have signed it.
    pub fn claim<S: Statement, E>(&self) -> Result<S, DocumentError<E>> {
        if self.kind != S::KIND {
            return Err(DocumentError::OtherKind);
        }
        let statement: S =
            serde_json::from_slice(&self.payload).map_err(|_| DocumentError::Payload)?;
        match canonical(&statement) == self.payload {
            true => Ok(statement),
            false => Err(DocumentError::Payload),
        }
    }

    /// The kind, as it says itself.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The JSON that travels.
    pub fn to_json(&self) -> Vec<u8> {
        canonical(&Wire {
            chain: (self.signature.chain().certificates().iter())
                .map(|der| BASE64_URL_SAFE_NO_PAD.encode(der))
                .collect(),
            kind: self.kind.clone(),
            payload: BASE64_URL_SAFE_NO_PAD.encode(&self.payload),
            signature: BASE64_URL_SAFE_NO_PAD.encode(self.signature.as_bytes()),
        })
    }

    /// Reads the JSON that travels, at most 64 KiB.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        if json.len() > MAX_JSON_BYTES {
            return Err(FormatError::TooLarge("document"));
        }
        let wire: Wire =
            serde_json::from_slice(json).map_err(|_| FormatError::Field("document"))?;
        Self::try_from(wire)
    }

    /// SHA-256 of the JSON that travels: what an entry of the log commits to.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_json())
    }
}

impl TryFrom<Wire> for SignedDocument {
    type Error = FormatError;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let decode = |field, text: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| FormatError::Field(field))
        };
        let chain = (wire.chain.iter())
            .map(|der| decode("chain", der))
            .collect::<Result<_, _>>()?;
        let signature = decode("signature", &wire.signature)?;
        Ok(Self {
            payload: decode("payload", &wire.payload)?,
            signature: Signature::from_parts(SignerChain::from_der(chain)?, signature)?,
            kind: wire.kind,
        })
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    chain: Vec<String>,
    kind: String,
    payload: String,
    signature: String,
}

fn canonical(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("statements have only text keys and integers")
}

fn signing_input(kind: &str, payload: &[u8]) -> Vec<u8> {
    [b"cos-escrow/", kind.as_bytes(), b"/1\0", payload].concat()
}

const MAX_JSON_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::statement::{Confirmation, KeyRetirement, KeyStatement, Outcome};
    use crate::envelope::testing::{Counter, Signer};
    use crate::envelope::{Kem, Recipient, SealingKeyPair};
    use crate::types::{HandoverId, KeyId, Timestamp};

    fn confirmation() -> Confirmation {
        Confirmation {
            handover: HandoverId([3; 16]),
            party: Recipient::Party("gainer".parse().unwrap()),
            outcome: Outcome::Rotated,
            generation: Some(2),
            address_of: None,
            at: Timestamp::from_millis(1_790_000_000_123),
        }
    }

    fn sign(signer: &Signer, statement: &impl Statement) -> SignedDocument {
        SignedDocument::sign(statement, |message| signer.sign(message)).unwrap()
    }

    fn verify<S: Statement>(
        document: &SignedDocument,
        signer: &Signer,
    ) -> Result<S, DocumentError<&'static str>> {
        let verified =
            document.verify(|chain, message, signature| signer.verify(chain, message, signature));
        verified.map(|(statement, party)| {
            assert_eq!(party.as_str(), "gainer");
            statement
        })
    }

    #[test]
    fn a_document_says_after_its_travels_what_was_signed() {
        let signer = Signer::of("gainer");
        let document = sign(&signer, &confirmation());
        let arrived = SignedDocument::from_json(&document.to_json()).unwrap();
        assert_eq!(arrived, document);
        assert_eq!(
            verify::<Confirmation>(&arrived, &signer),
            Ok(confirmation())
        );
        assert_eq!(
            str::from_utf8(&arrived.payload),
            Ok(
                r#"{"at":"2026-09-21T14:13:20.123Z","generation":2,"handover":"ho_03030303030303030303030303030303","outcome":"rotated","party":"urn:cos-escrow:party:gainer"}"#
            )
        );
    }

    #[test]
    fn one_kind_of_document_never_passes_for_another() {
        let signer = Signer::of("gainer");
        let document = sign(&signer, &confirmation());
        let other = verify::<KeyRetirement>(&document, &signer);
        assert_eq!(other, Err(DocumentError::OtherKind));
        let relabelled = SignedDocument {
            kind: KeyRetirement::KIND.to_owned(),
            ..document
        };
        assert!(matches!(
            verify::<KeyRetirement>(&relabelled, &signer),
            Err(DocumentError::Signature(_))
        ));
    }

    #[test]
    fn a_changed_payload_is_refused() {
        let signer = Signer::of("gainer");
        let document = sign(&signer, &confirmation());
        for at in 0..document.payload.len() {
            let mut changed = document.clone();
            changed.payload[at] ^= 1;
            let refused = verify::<Confirmation>(&changed, &signer);
            assert!(matches!(refused, Err(DocumentError::Signature(_))), "{at}");
        }
    }

    #[test]
    fn a_payload_that_is_not_canonical_is_refused_though_signed() {
        let signer = Signer::of("gainer");
        let canonical = String::from_utf8(canonical(&confirmation())).unwrap();
        for payload in [
            format!(" {canonical}"),
            canonical.replace("\"generation\":2,", "\"generation\":null,"),
            canonical.replace(".123Z", ".1230Z"),
            canonical.replace("\"at\"", "\"extra\":1,\"at\""),
        ] {
            let signature = signer.sign(&signing_input(Confirmation::KIND, payload.as_bytes()));
            let document = SignedDocument {
                kind: Confirmation::KIND.to_owned(),
                payload: payload.into_bytes(),
                signature: signature.unwrap(),
            };
            let refused = verify::<Confirmation>(&document, &signer);
            assert_eq!(refused, Err(DocumentError::Payload));
        }
    }

    #[test]
    fn a_key_statement_carries_a_key_under_its_own_name() {
        let signer = Signer::of("gainer");
        for kem in Kem::ALL {
            let key = SealingKeyPair::generate(kem, &Counter::seeded(1));
            let statement = KeyStatement {
                party: Recipient::Party("gainer".parse().unwrap()),
                kem,
                public_key: key.public().as_bytes().to_vec(),
                key_id: key.id(),
                not_before: Timestamp::from_seconds(1),
                not_after: Timestamp::from_seconds(2),
                sequence: 1,
            };
            let document = sign(&signer, &statement);
            let arrived = SignedDocument::from_json(&document.to_json()).unwrap();
            let arrived: KeyStatement = verify(&arrived, &signer).unwrap();
            assert_eq!(arrived.key().as_ref(), Ok(key.public()));
            let renamed = KeyStatement {
                key_id: KeyId::of(b"another"),
                ..statement.clone()
            };
            assert!(renamed.key().is_err());
            let backwards = KeyStatement {
                not_after: statement.not_before,
                ..statement
            };
            assert!(backwards.key().is_err());
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String, bytes: Vec<u8>) {
            let _ = SignedDocument::from_json(text.as_bytes());
            let payload = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
            let json = format!(r#"{{"chain":["{payload}"],"kind":"confirmation","payload":"{payload}","signature":"{payload}"}}"#);
            if let Ok(document) = SignedDocument::from_json(json.as_bytes()) {
                let trusting = document.verify(|_, _, _| Ok::<_, ()>(()));
                let _: Result<(Confirmation, ()), _> = trusting;
            }
        }
    }
}
