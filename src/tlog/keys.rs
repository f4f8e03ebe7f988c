//! Keys of signed notes: their names, the verifier keys that are handed out, and the Ed25519 keys that sign.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::note::Signature;
use crate::types::{Secret, Timestamp};

/// The name of a key: 1 to 255 bytes without white space, control characters and `+`.
///
/// A log's key has the name of the log, which is the origin line of its checkpoints.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        let fits = (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(wrong);
        fits.then(|| Self(text.to_owned())).ok_or(InvalidKey::Name)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key signs. The number of C2SP signed-note stands in the key and is hashed into its id.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum KeyKind {
    /// Ed25519 over the text of a note: the key of a log.
    Log = 0x01,
    /// Ed25519 over a time and the text of a checkpoint: the key of a witness.
    Cosigner = 0x04,
}

impl KeyKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Log, Self::Cosigner]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A public key with its name. As text `<name>+<id>+<base64 of kind and key>`, the "vkey" of C2SP signed-note.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct VerifierKey {
    name: KeyName,
    kind: KeyKind,
    id: [u8; 4],
    public: [u8; 32],
}

impl VerifierKey {
    /// The key with these public bytes.
    pub fn new(name: KeyName, kind: KeyKind, public: [u8; 32]) -> Self {
        // key id = SHA-256(name ‖ 0x0A ‖ kind ‖ public key)[:4]
        let mut context = Context::new(&SHA256);
        context.update(name.as_str().as_bytes());
        context.update(&[b'\n', kind as u8]);
        context.update(&public);
        let digest = context.finish();
        let id = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        Self {
            id: *id,
            name,
            kind,
            public,
        }
    }

    /// Whose key it is; for a log its origin.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Tells keys of one name apart.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The Ed25519 public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Whether `signature` says that this key made it.
    pub(super) fn is_named_by(&self, signature: &Signature) -> bool {
        (signature.name(), signature.key_id()) == (&self.name, self.id)
    }

    /// Checks the bytes of a signature over a note's text; returns the time that a cosigner states.
    pub(super) fn verify(&self, text: &str, signature: &[u8]) -> Option<Verdict> {
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        match self.kind {
            KeyKind::Log => {
                key.verify(text.as_bytes(), signature).ok()?;
                Some(Verdict { signed_at: None })
            }
            KeyKind::Cosigner => {
                let (seconds, signature) = signature.split_first_chunk()?;
                let seconds = u64::from_be_bytes(*seconds);
                let is_time = i64::try_from(seconds).is_ok();
                let message = cosigned(text, seconds);
                key.verify(message.as_bytes(), signature)
                    .ok()
                    .filter(|()| is_time)?;
                let signed_at = Timestamp::from_millis(seconds.saturating_mul(1000));
                Some(Verdict {
                    signed_at: Some(signed_at),
                })
            }
        }
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A name has no `+`; base64 may have some.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidKey::Form);
        };
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| InvalidKey::Form)?;
        let (kind, public) = bytes.split_first().ok_or(InvalidKey::Form)?;
        let kind = KeyKind::from_byte(*kind).ok_or(InvalidKey::Kind)?;
        let public = public.try_into().map_err(|_| InvalidKey::Form)?;
        let key = Self::new(name.parse()?, kind, public);
        // Printing again compares the id, too, and leaves one way to write each part.
        (key.to_string() == text)
            .then_some(key)
            .ok_or(InvalidKey::Id)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id);
        let key = [&[self.kind as u8], &self.public[..]].concat();
        write!(f, "{}+{id:08x}+{}", self.name, BASE64_STANDARD.encode(key))
    }
}

/// A signature that verified.
pub(super) struct Verdict {
    /// When a cosigner says that it signed.
    pub(super) signed_at: Option<Timestamp>,
}

/// The key of a log, which signs its checkpoints.
pub struct LogKey(NamedPair);

impl LogKey {
    /// The key in this PKCS#8 document (DER, version 1 or 2), under this name.
    pub fn from_pkcs8(name: KeyName, document: &Secret) -> Result<Self, InvalidKey> {
        NamedPair::from_pkcs8(name, KeyKind::Log, document).map(Self)
    }

    /// The key with this seed of 32 bytes, under this name.
    pub fn from_seed(name: KeyName, seed: &Secret) -> Result<Self, InvalidKey> {
        NamedPair::from_seed(name, KeyKind::Log, seed).map(Self)
    }

    /// The public half, to be handed out.
    pub fn verifier(&self) -> &VerifierKey {
        &self.0.verifier
    }

    /// Signs the text of a note.
    pub fn sign(&self, text: &str) -> Signature {
        self.0.sign(text, &[])
    }
}

/// The key of a witness, which cosigns checkpoints. Not the key of a log: one key serves one kind.
pub struct CosignerKey(NamedPair);

impl CosignerKey {
    /// The key in this PKCS#8 document (DER, version 1 or 2), under this name.
    pub fn from_pkcs8(name: KeyName, document: &Secret) -> Result<Self, InvalidKey> {
        NamedPair::from_pkcs8(name, KeyKind::Cosigner, document).map(Self)
    }

    /// The key with this seed of 32 bytes, under this name.
    pub fn from_seed(name: KeyName, seed: &Secret) -> Result<Self, InvalidKey> {
        NamedPair::from_seed(name, KeyKind::Cosigner, seed).map(Self)
    }

    /// The public half, to be handed out.
    pub fn verifier(&self) -> &VerifierKey {
        &self.0.verifier
    }

    /// Cosigns the text of a checkpoint: says that at this time no other history had been seen. Whole seconds count.
    pub fn cosign(&self, text: &str, at: Timestamp) -> Signature {
        let seconds = at.as_seconds();
        self.0
            .sign(&cosigned(text, seconds), &seconds.to_be_bytes())
    }
}

/// What a cosigner signs.
//= C2SP tlog-cosignature, "Ed25519 signed message"
fn cosigned(text: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

struct NamedPair {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
}

impl NamedPair {
    fn from_pkcs8(name: KeyName, kind: KeyKind, document: &Secret) -> Result<Self, InvalidKey> {
        // OpenSSL writes version 1, which has no public key to check against.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document.expose());
        Ok(Self::new(
            name,
            kind,
            pair.map_err(|_| InvalidKey::Private)?,
        ))
    }

    fn from_seed(name: KeyName, kind: KeyKind, seed: &Secret) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose());
        Ok(Self::new(
            name,
            kind,
            pair.map_err(|_| InvalidKey::Private)?,
        ))
    }

    fn new(name: KeyName, kind: KeyKind, pair: Ed25519KeyPair) -> Self {
        let public = pair.public_key().as_ref();
        let public = public
            .try_into()
            .expect("an Ed25519 public key has 32 bytes");
        Self {
            verifier: VerifierKey::new(name, kind, public),
            pair,
        }
    }

    /// The signature over `message`, behind the bytes that its kind puts before it.
    fn sign(&self, message: &str, before: &[u8]) -> Signature {
        let signature = self.pair.sign(message.as_bytes());
        let bytes = [before, signature.as_ref()].concat();
        Signature::new(self.verifier.name.clone(), self.verifier.id, bytes)
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKey {
    /// A name is empty, too long, or has a character that names do not have.
    #[error("a key name is 1 to 255 bytes without white space, control characters and `+`")]
    Name,
    /// The text is not a verifier key.
    #[error("a verifier key is `<name>+<id>+<base64>`")]
    Form,
    /// The key is of a kind that is not known here.
    #[error("the verifier key is neither an Ed25519 log key nor an Ed25519 cosigner key")]
    Kind,
    /// The id does not belong to name and key.
    #[error("the id in the verifier key is not the id of its name and key")]
    Id,
    /// Neither a seed of 32 bytes nor an Ed25519 key in PKCS#8.
    #[error("the private key is not an Ed25519 key")]
    Private,
}

const MAX_NAME_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    use super::super::fixture::log_key;
    use super::*;

    #[test]
    fn the_example_of_the_specification_parses_and_prints() {
        let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!(
            (key.name().as_str(), key.kind()),
            ("example.com/foo", KeyKind::Log)
        );
        assert_eq!(key.to_string(), text);
    }

    #[test]
    fn a_verifier_key_with_plus_signs_in_its_base64_parses() {
        let mut public = [0; 32];
        public[2] = 0xf8;
        let key = VerifierKey::new("log".parse().unwrap(), KeyKind::Log, public);
        let text = key.to_string();
        assert!(text.matches('+').count() > 2, "{text}");
        assert_eq!(text.parse(), Ok(key));
    }

    #[test]
    fn a_wrong_verifier_key_is_refused() {
        let good = log_key().verifier().to_string();
        for (wrong, error) in [
            (String::new(), InvalidKey::Form),
            ("name+00000000".to_owned(), InvalidKey::Form),
            (good.replace("f7571521", "f7571522"), InvalidKey::Id),
            (good.replace("f7571521", "F7571521"), InvalidKey::Id),
            (good.replace("log/1", "log/2"), InvalidKey::Id),
            (good.replace("+Aep", "+Bep"), InvalidKey::Kind),
            (good.replace("escrow", ""), InvalidKey::Id),
            (good.replace("escrow", "e scrow"), InvalidKey::Name),
            (good.replace("RtIs", "RtI"), InvalidKey::Form),
            (good.clone() + "\n", InvalidKey::Form),
        ] {
            assert_eq!(wrong.parse::<VerifierKey>(), Err(error), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrong_name_is_refused() {
        let long = "n".repeat(256);
        for name in [
            "",
            "a b",
            "a+b",
            "a\nb",
            "a\u{a0}b",
            "a\u{3000}b",
            "a\0b",
            &long,
        ] {
            assert_eq!(name.parse::<KeyName>(), Err(InvalidKey::Name), "{name:?}");
        }
    }

    #[test]
    fn a_key_opens_from_pkcs8() {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let document = Secret::new(document.as_ref().to_vec());
        let key = LogKey::from_pkcs8("log".parse().unwrap(), &document).unwrap();
        let text = "text\n";
        let signature = key.sign(text);
        assert!(key.verifier().verify(text, signature.bytes()).is_some());
        assert!(
            key.verifier()
                .verify("other\n", signature.bytes())
                .is_none()
        );
    }

    #[test]
    fn a_wrong_private_key_is_refused() {
        for length in [0, 31, 33] {
            let bytes = Secret::new(vec![7; length]);
            let name: KeyName = "log".parse().unwrap();
            assert!(LogKey::from_seed(name.clone(), &bytes).is_err());
            assert!(CosignerKey::from_pkcs8(name, &bytes).is_err());
        }
    }

    #[test]
    fn a_cosignature_covers_its_time() {
        let name = "witness.example/w1".parse().unwrap();
        let key = CosignerKey::from_seed(name, &Secret::new(vec![9; 32])).unwrap();
        let at = Timestamp::from_seconds(1_790_000_000);
        let signature = key.cosign("text\n", at);
        let verdict = key.verifier().verify("text\n", signature.bytes()).unwrap();
        assert_eq!(verdict.signed_at, Some(at));
        let mut later = signature.bytes().to_vec();
        later[7] += 1;
        assert!(key.verifier().verify("text\n", &later).is_none());
        assert!(key.verifier().verify("text\n", &later[..7]).is_none());
    }

    #[test]
    fn a_cosignature_of_a_time_beyond_all_others_is_refused() {
        let name = "witness.example/w1".parse().unwrap();
        let key = CosignerKey::from_seed(name, &Secret::new(vec![9; 32])).unwrap();
        for (seconds, holds) in [(i64::MAX.cast_unsigned(), true), (1 << 63, false)] {
            let message = cosigned("text\n", seconds);
            let signature = key.0.sign(&message, &seconds.to_be_bytes());
            let verdict = key.verifier().verify("text\n", signature.bytes());
            assert_eq!(verdict.is_some(), holds, "{seconds}");
        }
    }

    #[test]
    fn a_log_signature_is_no_cosignature() {
        let log = log_key();
        let public = *log.verifier().public();
        let cosigner = VerifierKey::new(log.verifier().name().clone(), KeyKind::Cosigner, public);
        assert_ne!(cosigner.id(), log.verifier().id());
        assert!(
            cosigner
                .verify("text\n", log.sign("text\n").bytes())
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn a_verifier_key_prints_what_it_parses(text in "[a-z+=/A-Z0-9]{0,80}|\\PC{0,80}") {
            if let Ok(key) = text.parse::<VerifierKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn a_verifier_key_parses_what_it_prints(name in "[^\\s\\p{Cc}+]{1,40}", public: [u8; 32]) {
            let key = VerifierKey::new(name.parse().unwrap(), KeyKind::Cosigner, public);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
