//! Requests that have no definite answer yet, kept so that a retry is the same request under the same key.
//!
//! Sealing is random: a package sealed anew is another envelope, and would be another deposit. So what was built is
//! written down before it is sent, and found again by what it was built from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::exit::Failure;
use super::files;
use crate::client::ClientError;
use crate::types::{Digest, Random, Timestamp};

/// The folder of the requests that wait for an answer.
pub(super) struct Outbox {
    folder: PathBuf,
}

/// A request on its way.
pub(super) struct Pending {
    path: PathBuf,
    kept: Kept,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    idempotency_key: String,
    made_at: Timestamp,
    #[serde(with = "standard_base64")]
    request: Vec<u8>,
}

impl Outbox {
    /// The outbox below the state folder.
    pub(super) fn open(state: &Path) -> Result<Self, Failure> {
        let folder = state.join("outbox");
        files::private_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The request that was built from the same things before and has no answer yet.
    pub(super) fn find(&self, subject: &Digest) -> Result<Option<Pending>, Failure> {
        let path = self.path(subject);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| files::at(&path, &error))?,
        };
        let kept = serde_json::from_slice(&text).map_err(|_| {
            let broken = format!("`{}` is no kept request", path.display());
            Failure::failed(broken)
                .hint("the request in it may have been done: look before you remove it")
        })?;
        Ok(Some(Pending { path, kept }))
    }

    /// Keeps a request before it is sent for the first time.
    pub(super) fn keep(
        &self,
        subject: &Digest,
        request: Vec<u8>,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<Pending, Failure> {
        let mut key = [0; 16];
        random.fill(&mut key);
        let kept = Kept {
            idempotency_key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            made_at: now,
            request,
        };
        let path = self.path(subject);
        let text = serde_json::to_vec(&kept).map_err(Failure::failed)?;
        files::replace(&path, &text)?;
        Ok(Pending { path, kept })
    }

    fn path(&self, subject: &Digest) -> PathBuf {
        self.folder.join(format!("{subject}.json"))
    }
}

impl Pending {
    /// The idempotency key.
    pub(super) fn key(&self) -> &str {
        &self.kept.idempotency_key
    }

    /// What was built.
    pub(super) fn request(&self) -> &[u8] {
        &self.kept.request
    }

    /// When.
    pub(super) fn made_at(&self) -> Timestamp {
        self.kept.made_at
    }

    /// Forgets the request if its answer is definite.
    pub(super) fn settle<T>(&self, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        if is_definite(&answer) {
            // Left behind, it is sent again under the same key, and answered as before.
            let _ = fs::remove_file(&self.path);
        }
        answer
    }
}

/// Whether it is known that the request was done, or was not.
fn is_definite<T>(answer: &Result<T, ClientError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(ClientError::Refused { status, .. }) => *status < 500 && *status != 429,
        Err(_) => false,
    }
}

/// Bytes as base64 text.
mod standard_base64 {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SystemRandom;

    fn refused(status: u16) -> Result<(), ClientError> {
        Err(ClientError::Refused {
            status,
            code: "x".to_owned(),
            title: "x".to_owned(),
            detail: None,
            request_id: String::new(),
        })
    }

    #[test]
    fn a_request_without_a_definite_answer_is_sent_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let subject = Digest::of(b"package");
        assert!(outbox.find(&subject).unwrap().is_none());
        let made = outbox
            .keep(
                &subject,
                b"sealed".to_vec(),
                &SystemRandom,
                Timestamp::default(),
            )
            .unwrap();
        for unclear in [
            Err(ClientError::Unreachable(String::new())),
            Err(ClientError::Indeterminate(String::new())),
            Err(ClientError::Verification(String::new())),
            Err(ClientError::Unexpected(String::new())),
            refused(429),
            refused(500),
            refused(503),
        ] {
            made.settle(unclear).unwrap_err();
            let again = outbox.find(&subject).unwrap().unwrap();
            assert_eq!((again.key(), again.request()), (made.key(), &b"sealed"[..]));
        }
    }

    #[test]
    fn a_definite_answer_ends_the_matter() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let subject = Digest::of(b"package");
        for definite in [Ok(()), refused(403), refused(404), refused(422)] {
            let made = outbox.keep(&subject, Vec::new(), &SystemRandom, Timestamp::default());
            let _ = made.unwrap().settle(definite);
            assert!(outbox.find(&subject).unwrap().is_none());
        }
    }

    #[test]
    fn a_broken_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let subject = Digest::of(b"package");
        fs::write(outbox.path(&subject), "{").unwrap();
        assert!(outbox.find(&subject).is_err());
    }
}
