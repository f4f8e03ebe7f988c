//! What `cos-escrow pki` prints.

use std::path::{Path, PathBuf};

use super::{Entry, Folder, folder::LISTS, subject, with_extension};
use crate::cli::output::Row;
use crate::identity::profile::Sort;
use crate::identity::{Certificate, Issued, RevocationList, Serial, Violation};
use crate::types::{Digest, Timestamp};

/// A leaf that was just issued.
#[derive(serde::Serialize)]
pub(super) struct Made {
    sort: Sort,
    subject: String,
    serial: Serial,
    not_after: Timestamp,
    fingerprint: Digest,
    chain: PathBuf,
    key: Option<PathBuf>,
}

impl Made {
    pub(super) fn new(issued: &Issued, stem: &Path) -> Self {
        let certificate = &issued.certificate;
        Self {
            sort: certificate.sort,
            subject: subject(certificate),
            serial: certificate.serial.clone(),
            not_after: certificate.not_after,
            fingerprint: certificate.fingerprint,
            chain: with_extension(stem, "pem"),
            key: issued.key.as_ref().map(|_| with_extension(stem, "key")),
        }
    }
}

impl Row for Made {
    const COLUMNS: &'static [&'static str] =
        &["sort", "subject", "serial", "not_after", "chain", "key"];

    fn cells(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        vec![
            self.sort.to_string(),
            self.subject.clone(),
            self.serial.to_string(),
            self.not_after.to_string(),
            path(&self.chain),
            self.key.as_deref().map(path).unwrap_or_default(),
        ]
    }
}

/// A leaf of the index.
#[derive(serde::Serialize)]
pub(super) struct Listed {
    sort: Sort,
    subject: String,
    serial: Serial,
    issued_at: Timestamp,
    not_after: Timestamp,
    fingerprint: Digest,
    revoked: bool,
}

impl Listed {
    /// `None` for entries that are not of an issue.
    pub(super) fn new(entry: &Entry, folder: &Folder) -> Option<Self> {
        let Entry::Issued {
            at,
            serial,
            sort,
            subject,
            not_after,
            fingerprint,
        } = entry.clone()
        else {
            return None;
        };
        Some(Self {
            sort,
            subject,
            issued_at: at,
            not_after,
            fingerprint,
            revoked: folder.is_revoked(&serial),
            serial,
        })
    }
}

impl Row for Listed {
    const COLUMNS: &'static [&'static str] = &["sort", "subject", "serial", "not_after", "revoked"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.sort.to_string(),
            self.subject.clone(),
            self.serial.to_string(),
            self.not_after.to_string(),
            if self.revoked { "yes" } else { "no" }.to_owned(),
        ]
    }
}

/// Revocation lists that were just made.
#[derive(serde::Serialize)]
pub(super) struct Renewed {
    lists: PathBuf,
    revoked: usize,
    next_update: Timestamp,
}

impl Renewed {
    pub(super) fn new(folder: &Folder, next_update: Timestamp) -> Self {
        let revoked = |entry: &&Entry| matches!(entry, Entry::Revoked { .. });
        Self {
            lists: folder.path(LISTS),
            revoked: folder.index.iter().filter(revoked).count(),
            next_update,
        }
    }
}

impl Row for Renewed {
    const COLUMNS: &'static [&'static str] = &["lists", "revoked", "next_update"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.lists.display().to_string(),
            self.revoked.to_string(),
            self.next_update.to_string(),
        ]
    }
}

/// A certificate or revocation list, and what is wrong with it.
#[derive(Default, serde::Serialize)]
pub(super) struct Inspected {
    sort: String,
    subject: String,
    serial: Option<Serial>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    fingerprint: Option<Digest>,
    revoked: Option<usize>,
    pub(super) problem: Option<String>,
}

impl Inspected {
    pub(super) fn certificate(read: Result<Certificate, Violation>) -> Self {
        match read {
            Ok(certificate) => Self {
                sort: certificate.sort.to_string(),
                subject: subject(&certificate),
                serial: Some(certificate.serial),
                not_before: Some(certificate.not_before),
                not_after: Some(certificate.not_after),
                fingerprint: Some(certificate.fingerprint),
                ..Self::default()
            },
            Err(rule) => Self::broken("certificate", rule),
        }
    }

    pub(super) fn list(read: Result<RevocationList, Violation>) -> Self {
        match read {
            Ok(list) => Self {
                sort: REVOCATION_LIST.to_owned(),
                not_after: Some(list.next_update),
                revoked: Some(list.revoked),
                ..Self::default()
            },
            Err(rule) => Self::broken(REVOCATION_LIST, rule),
        }
    }

    fn broken(sort: &str, rule: Violation) -> Self {
        Self {
            sort: sort.to_owned(),
            problem: Some(rule.to_string()),
            ..Self::default()
        }
    }
}

impl Row for Inspected {
    const COLUMNS: &'static [&'static str] = &[
        "sort",
        "subject",
        "serial",
        "not_after",
        "revoked",
        "problem",
    ];

    fn cells(&self) -> Vec<String> {
        fn cell<T: ToString>(value: Option<&T>) -> String {
            value.map(T::to_string).unwrap_or_default()
        }
        vec![
            self.sort.clone(),
            self.subject.clone(),
            cell(self.serial.as_ref()),
            cell(self.not_after.as_ref()),
            cell(self.revoked.as_ref()),
            cell(self.problem.as_ref()),
        ]
    }
}

const REVOCATION_LIST: &str = "revocation list";
