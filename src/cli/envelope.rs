//! `cos-escrow envelope`: envelopes and releases in files, without the service.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config::{self, Settings};
use super::connect::now;
use super::document::{Document, Shape};
use super::exit::{Exit, Failure};
use super::files::{self, NewFile};
use super::key::file as key_file;
use super::output::Output;
use super::trust::{self, verify_body};
use crate::envelope::{Body, Envelope, OpenError, Release, SealingKeyPair, SignatureError, Stanza};
use crate::identity::{IdentityError, Made};
use crate::types::{Secret, Timestamp};

/// What to do with envelopes, and whom to trust.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    offline: config::Offline,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what an envelope or a release says of itself, unverified.
    #[command(after_help = "Example:\n  cos-escrow envelope inspect meter.release -o json")]
    Inspect {
        /// An envelope or a release.
        file: PathBuf,
    },
    /// Verify that the depositor signed it.
    #[command(after_help = "Examples:\n  \
        cos-escrow envelope verify meter.release --roots root.pem --lists lists.pem\n  \
        cos-escrow envelope verify meter.release --at 2025-10-18T12:00:00Z\n\n\
        Signatures outlive certificates: what a release holds is verified as of its deposit, an envelope\n\
        as of now. `--at` asks whether a signature was good at a time that you know from elsewhere, such\n\
        as an entry of the log.")]
    Verify {
        /// An envelope or a release.
        file: PathBuf,
        /// When the log recorded it, if known otherwise.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
    /// Open it with a sealing key; its content goes into files for the owner alone.
    #[command(after_help = "Examples:\n  \
        cos-escrow envelope open meter.release --out meter\n  \
        cos-escrow envelope open meter.envelope --key north.key --out package.json\n\n\
        An envelope becomes a file. A release becomes a folder with a file an item, such as `credentials-2.json`.")]
    Open {
        /// An envelope or a release.
        file: PathBuf,
        /// The sealing key; by default the one that fits from the folder for keys.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The new file, or of a release the new folder.
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
    },
}

/// Runs one of the commands.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let offline = &arguments.offline;
    match &arguments.command {
        Command::Inspect { file } => {
            let parcel = Parcel::read(file)?;
            let rows: Vec<_> = parcel.parts().iter().map(Part::described).collect();
            output.rows(&Document::<Described>::list(&Value::Array(rows)))
        }
        Command::Verify { file, at } => verify(&Settings::offline(offline)?, file, *at, output),
        Command::Open { file, key, out } => {
            let settings = Settings::offline(offline)?;
            open(&settings, file, key.as_deref(), out, output)
        }
    }
}

/// What a file holds.
enum Parcel {
    Envelope(Box<Envelope>),
    Release(Box<Release>),
}

/// One sealed content of a file: of an envelope the only one, of a release one of its items.
struct Part<'a> {
    body: &'a Body,
    stanzas: &'a [Stanza],
    /// In a release.
    generation: Option<(u32, &'a str)>,
    /// As of when its signature is verified.
    made: Made,
}

impl Parcel {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = files::read(path)?;
        let read = match bytes.get(..4) {
            Some(b"cosE") => Envelope::decode(&bytes).map(Box::new).map(Self::Envelope),
            Some(b"cosR") => Release::decode(&bytes).map(Box::new).map(Self::Release),
            _ => {
                let message = format!("`{}` is neither an envelope nor a release", path.display());
                return Err(Failure::new(Exit::Unverified, message));
            }
        };
        read.map_err(|error| {
            Failure::new(Exit::Unverified, format!("`{}`: {error}", path.display()))
        })
    }

    fn parts(&self) -> Vec<Part<'_>> {
        match self {
            Self::Envelope(envelope) => vec![Part {
                body: envelope.body(),
                stanzas: envelope.stanzas(),
                generation: None,
                made: Made::By(now()),
            }],
            Self::Release(release) => {
                let items = release.items().iter();
                let part = items.map(|item| Part {
                    body: &item.body,
                    stanzas: std::slice::from_ref(&item.stanza),
                    generation: Some((item.generation, item.status.as_str())),
                    made: Made::Logged(item.deposited_at),
                });
                part.collect()
            }
        }
    }
}

impl Part<'_> {
    /// `credentials-2.json`, or without a generation `credentials.json`.
    fn file_name(&self) -> String {
        let component = self.body.header().component.as_str();
        match self.generation {
            Some((generation, _)) => format!("{component}-{generation}.json"),
            None => format!("{component}.json"),
        }
    }

    fn described(&self) -> Value {
        let header = self.body.header();
        let sealed_to: Vec<_> = (self.stanzas.iter())
            .map(|stanza| {
                json!({ "recipient": stanza.recipient(), "key_id": stanza.key_id(), "kem": stanza.kem() })
            })
            .collect();
        json!({
            "envelope": header.envelope_id,
            "component": header.component,
            "generation": self.generation.map(|(number, _)| number),
            "status": self.generation.map(|(_, status)| status),
            "created_at": header.created_at,
            "supply_point": header.supply_point,
            "meter_make": header.meter_make.as_str(),
            "meter_serial": header.meter_serial,
            "depositor": header.depositor,
            "supply_start_date": header.supply_start,
            "read_commitment": header.read_commitment,
            "fields": header.inventory.names().collect::<Vec<_>>(),
            "signed": self.body.signature().is_some(),
            "recipients": sealed_to.iter().map(|to| to["recipient"].clone()).collect::<Vec<_>>(),
            "sealed_to": sealed_to,
        })
    }

    fn open(&self, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        let ours = self
            .stanzas
            .iter()
            .find(|stanza| stanza.key_id() == key.id());
        self.body.open_with(ours.ok_or(OpenError::NoStanza)?, key)
    }
}

fn verify(
    settings: &Settings,
    file: &Path,
    at: Option<Timestamp>,
    output: &Output,
) -> Result<(), Failure> {
    let parcel = Parcel::read(file)?;
    let anchors = trust::anchors(settings, now())?;
    let parts = parcel.parts();
    let verdicts: Vec<_> = (parts.iter())
        .map(|part| verify_body(part.body, &anchors, at.map_or(part.made, Made::Logged)))
        .collect();
    let rows = parts.iter().zip(&verdicts).map(|(part, verdict)| {
        let mut row = part.described();
        row["verdict"] = json!(match verdict {
            Ok(()) => "verified".to_owned(),
            Err(error) => error.to_string(),
        });
        row
    });
    output.rows(&Document::<Verified>::list(&rows.collect()))?;
    let bad = verdicts.iter().filter(|verdict| verdict.is_err()).count();
    if bad == 0 {
        return Ok(());
    }
    let message = format!("{bad} of {} signatures do not verify", verdicts.len());
    let failure = Failure::new(Exit::Unverified, message);
    let ended = |verdict: &Result<(), _>| {
        matches!(
            verdict,
            Err(SignatureError::Refused(
                IdentityError::Expired | IdentityError::Revoked
            ))
        )
    };
    Err(match verdicts.iter().any(ended) {
        true => {
            failure.hint("a certificate has ended since; `--at TIME` asks about an earlier time")
        }
        false => failure,
    })
}

fn open(
    settings: &Settings,
    file: &Path,
    key: Option<&Path>,
    out: &Path,
    output: &Output,
) -> Result<(), Failure> {
    let parcel = Parcel::read(file)?;
    let parts = parcel.parts();
    let key = match key {
        Some(path) => key_file::read(path)?,
        None => {
            let ids = parts
                .iter()
                .flat_map(|part| part.stanzas)
                .map(Stanza::key_id);
            key_file::find(&settings.keys, ids)?.ok_or_else(|| no_key(settings))?
        }
    };
    if !settings.has_trust() {
        output.note("nobody's signature was verified; give `--roots` and `--lists`");
    } else if let Err(failure) = check(settings, &parts) {
        output.note(format!("{}; it is opened all the same", failure.message));
    }
    let folder = match parcel {
        Parcel::Envelope(_) => None,
        Parcel::Release(_) => Some(out),
    };
    if let Some(folder) = folder {
        new_folder(folder)?;
    }
    let mut rows = Vec::new();
    for part in &parts {
        let path = folder.map_or_else(|| out.to_owned(), |folder| folder.join(part.file_name()));
        let opened = part.open(&key);
        let mut row = part.described();
        row["result"] = match &opened {
            Ok(_) => json!(path.display().to_string()),
            Err(error) => json!(error.to_string()),
        };
        rows.push((row, opened.is_ok()));
        // One that does not open leaves the others.
        if let Ok(content) = opened {
            NewFile::create(&path)?.write(content.expose())?;
        }
    }
    let (rows, opened): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    output.rows(&Document::<Opened>::list(&Value::Array(rows)))?;
    match opened.iter().filter(|opened| !**opened).count() {
        0 => Ok(()),
        closed => {
            let message = format!("{closed} of {} did not open", opened.len());
            Err(Failure::new(Exit::Unverified, message))
        }
    }
}

/// A warning before opening, no proof.
fn check(settings: &Settings, parts: &[Part<'_>]) -> Result<(), Failure> {
    let anchors = trust::anchors(settings, now())?;
    for part in parts {
        let header = part.body.header();
        if let Err(error) = verify_body(part.body, &anchors, part.made) {
            let message = format!("{} of `{}`: {error}", part.file_name(), header.depositor);
            return Err(Failure::new(Exit::Unverified, message));
        }
    }
    Ok(())
}

fn no_key(settings: &Settings) -> Failure {
    let folder = settings.keys.display();
    let message = format!("no key in `{folder}` is one that this is sealed to");
    Failure::new(Exit::Usage, message)
        .hint("`--key FILE` names another; `inspect` says which are needed")
}

fn new_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| files::at(path, &error))
}

struct Described;

impl Shape for Described {
    const COLUMNS: &'static [&'static str] = &[
        "component",
        "generation",
        "status",
        "supply_point",
        "meter_serial",
        "depositor",
        "created_at",
        "signed",
        "recipients",
        "fields",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/component",
        "/generation",
        "/status",
        "/supply_point",
        "/meter_serial",
        "/depositor",
        "/created_at",
        "/signed",
        "/recipients",
        "/fields",
    ];
}

struct Verified;

impl Shape for Verified {
    const COLUMNS: &'static [&'static str] = &[
        "component",
        "generation",
        "depositor",
        "created_at",
        "verdict",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/component",
        "/generation",
        "/depositor",
        "/created_at",
        "/verdict",
    ];
}

struct Opened;

impl Shape for Opened {
    const COLUMNS: &'static [&'static str] =
        &["component", "generation", "status", "depositor", "result"];
    const POINTERS: &'static [&'static str] = &[
        "/component",
        "/generation",
        "/status",
        "/depositor",
        "/result",
    ];
}
