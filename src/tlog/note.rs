//! Signed notes (C2SP signed-note): a text, an empty line, and who signed the text.
//!
//! ```text
//! escrow.example/log/1
//! 1
//! wXPBbUpxrV4puGPQmxaoEAIEI9bh0QyfDTuTpCQxb4M=
//!
//! — escrow.example/log/1 91cVIYIfprKx87u2qFIz…
//! — witness.example/w1 JLXZ/gAAAABqsTuA8LyHMz…
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::keys::{KeyName, VerifierKey};
use crate::types::Timestamp;

/// A text with signatures that nobody has verified yet. Prints exactly what it was parsed from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note of this text, which ends in a newline.
    pub fn new(text: String, signature: Signature) -> Result<Self, NoteError> {
        check_text(&text)?;
        Ok(Self {
            text,
            signatures: vec![signature],
        })
    }

    /// The text, with its last newline: what is signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in order.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature behind the others.
    pub fn add(&mut self, signature: Signature) -> Result<(), NoteError> {
        if self.signatures.len() == MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// Adds a signature behind the others unless its key has one already.
    pub fn add_once(&mut self, signature: Signature) -> Result<(), NoteError> {
        let of = |s: &Signature| (s.name.clone(), s.key_id);
        match self.signatures.iter().any(|s| of(s) == of(&signature)) {
            true => Ok(()),
            false => self.add(signature),
        }
    }

    /// The note without the signatures of other keys, and with no more than the first of each of these.
    #[must_use]
    pub fn only(&self, keys: &[VerifierKey]) -> Self {
        let first = |key: &VerifierKey| self.signatures.iter().find(|s| key.is_named_by(s));
        Self {
            text: self.text.clone(),
            signatures: keys.iter().filter_map(first).cloned().collect(),
        }
    }

    /// Which of the `known` keys signed, each named once.
    ///
    /// Signatures of other keys are ignored; one signature of a known key that fails rejects the note.
    pub fn verify<'k>(&self, known: &'k [VerifierKey]) -> Result<Vec<Verified<'k>>, NoteError> {
        let mut verified: Vec<Verified<'k>> = Vec::new();
        for signature in &self.signatures {
            let Some(key) = known.iter().find(|key| key.is_named_by(signature)) else {
                continue;
            };
            let verdict = key.verify(&self.text, &signature.bytes);
            let signed_at = verdict.ok_or(NoteError::BadSignature)?.signed_at;
            if verified.iter().all(|earlier| earlier.key != key) {
                verified.push(Verified { key, signed_at });
            }
        }
        if verified.is_empty() {
            return Err(NoteError::NotSigned);
        }
        Ok(verified)
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, Self::Err> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge);
        }
        // The text may have empty lines of its own, the signatures have none.
        let at = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let text = &note[..=at];
        check_text(text)?;
        let lines = note[at + 2..].strip_suffix('\n').ok_or(NoteError::Form)?;
        let signatures = lines
            .split('\n')
            .take(MAX_SIGNATURES + 1)
            .map(str::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(NoteError::TooLarge);
    }
    let is_control = |byte| byte < b' ' && byte != b'\n';
    let fits = text.ends_with('\n') && !text.bytes().any(is_control);
    fits.then_some(()).ok_or(NoteError::Form)
}

/// One signature line, without its newline: `— <name> <base64 of key id and signature>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    name: KeyName,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl Signature {
    pub(super) fn new(name: KeyName, key_id: [u8; 4], bytes: Vec<u8>) -> Self {
        Self {
            name,
            key_id,
            bytes,
        }
    }

    /// The name of the key that is said to have signed.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id of the key that is said to have signed.
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// What the key made, in the form of its kind.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for Signature {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let line = line.strip_prefix("\u{2014} ").ok_or(NoteError::Form)?;
        let (name, base64) = line.split_once(' ').ok_or(NoteError::Form)?;
        let name = name.parse().map_err(|_| NoteError::Form)?;
        let bytes = BASE64_STANDARD
            .decode(base64)
            .map_err(|_| NoteError::Form)?;
        match bytes.split_first_chunk() {
            Some((key_id, bytes)) if !bytes.is_empty() => {
                Ok(Self::new(name, *key_id, bytes.to_vec()))
            }
            _ => Err(NoteError::Form),
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id[..], &self.bytes].concat();
        write!(
            f,
            "\u{2014} {} {}",
            self.name,
            BASE64_STANDARD.encode(bytes)
        )
    }
}

/// A known key whose signature holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verified<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When it signed, if it is a cosigner's.
    pub signed_at: Option<Timestamp>,
}

/// Why a note is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// Not a text, an empty line and signature lines.
    #[error("not a signed note")]
    Form,
    /// More than 64 KiB of text or 64 signatures.
    #[error("the signed note is too large")]
    TooLarge,
    /// A key that is trusted is said to have signed, but has not: the text or the signature was changed.
    #[error("a signature of a known key does not verify")]
    BadSignature,
    /// No key that is trusted has signed.
    #[error("no known key has signed the note")]
    NotSigned,
}

const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_SIGNATURES: usize = 64;
/// Room for the text and for as many post-quantum signatures, of 3.3 KB each.
const MAX_NOTE_BYTES: usize = MAX_TEXT_BYTES + MAX_SIGNATURES * 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::LogKey;
    use super::*;
    use crate::types::Secret;

    fn key(name: &str, seed: u8) -> LogKey {
        LogKey::from_seed(name.parse().unwrap(), &Secret::new(vec![seed; 32])).unwrap()
    }

    fn signed(text: &str) -> String {
        let signature = key("log", 7).sign(text);
        Note::new(text.to_owned(), signature).unwrap().to_string()
    }

    #[test]
    fn a_note_prints_what_it_parses() {
        for text in ["\n", "text\n", "two\n\nparts\n", "two\n\n\n", "ü\n"] {
            let note = signed(text);
            let parsed: Note = note.parse().unwrap();
            assert_eq!((parsed.text(), parsed.to_string()), (text, note));
        }
    }

    #[test]
    fn other_text_is_no_note() {
        let good = signed("text\n");
        let line = good.lines().last().unwrap();
        for wrong in [
            String::new(),
            "\n\n".to_owned(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            format!("text\n{line}\n"),
            good.trim_end().to_owned(),
            good.clone() + "\n",
            good.replace('\u{2014}', "-"),
            good.replace("log ", "log  "),
            good.replace("log ", ""),
            good.replace("log ", "l+g "),
            good.replace("text", "te\tt"),
            good.replace('\n', "\r\n"),
            "text\n\n\u{2014} log AAAAAA==\n".to_owned(),
            "text\n\n\u{2014} log AAAAAA\n".to_owned(),
        ] {
            assert_eq!(wrong.parse::<Note>(), Err(NoteError::Form), "{wrong:?}");
        }
    }

    #[test]
    fn sixty_four_signatures_are_accepted_and_no_more() {
        let line = key("log", 7).sign("text\n").to_string() + "\n";
        let note = |signatures| format!("text\n\n{}", line.repeat(signatures));
        let mut largest: Note = note(64).parse().unwrap();
        assert_eq!(largest.signatures().len(), 64);
        assert_eq!(note(65).parse::<Note>(), Err(NoteError::TooLarge));
        let one_more = key("log", 7).sign("text\n");
        assert_eq!(largest.add(one_more), Err(NoteError::TooLarge));
    }

    #[test]
    fn a_text_has_at_most_64_kib() {
        let text = |length: usize| "t".repeat(length - 1) + "\n";
        assert!(signed(&text(64 * 1024)).parse::<Note>().is_ok());
        let signature = key("log", 7).sign("text\n");
        let too_long = text(64 * 1024 + 1);
        let line = format!("{too_long}\n{signature}\n");
        assert_eq!(Note::new(too_long, signature), Err(NoteError::TooLarge));
        assert_eq!(line.parse::<Note>(), Err(NoteError::TooLarge));
    }

    #[test]
    fn unknown_keys_are_ignored_and_a_known_key_must_verify() {
        let (log, other) = (key("log", 7), key("other", 8));
        let mut note = Note::new("text\n".to_owned(), other.sign("lie\n")).unwrap();
        let known = [log.verifier().clone()];
        assert_eq!(note.verify(&known), Err(NoteError::NotSigned));
        note.add(log.sign("text\n")).unwrap();
        note.add(log.sign("text\n")).unwrap();
        let verified = Verified {
            key: &known[0],
            signed_at: None,
        };
        assert_eq!(note.verify(&known), Ok(vec![verified]));
        let both = [log.verifier().clone(), other.verifier().clone()];
        assert_eq!(note.verify(&both), Err(NoteError::BadSignature));
        note.add(log.sign("lie\n")).unwrap();
        assert_eq!(note.verify(&known), Err(NoteError::BadSignature));
    }

    #[test]
    fn a_key_of_the_same_name_is_another_key() {
        let note = Note::new("text\n".to_owned(), key("log", 8).sign("text\n")).unwrap();
        let known = [key("log", 7).verifier().clone()];
        assert_eq!(note.verify(&known), Err(NoteError::NotSigned));
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_the_same(
            note in "(\\PC|\n){0,60}\n\n(\u{2014} [a-z]{0,3} [A-Za-z0-9+/]{8,12}={0,2}\n){0,3}",
        ) {
            if let Ok(parsed) = note.parse::<Note>() {
                prop_assert_eq!(parsed.to_string(), note);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(note: String) {
            let _ = note.parse::<Note>();
        }
    }
}
