//! `cos-escrow key`: the sealing keys of a party, and those of others that packages are sealed to. A signing key is made
//! here, too; it is certified instead of published, and what it signs carries its certificate.

pub(super) mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::ask::sure;
use super::config::{self, Settings};
use super::connect::{Session, now, wait};
use super::document::{Document, Shape};
use super::exit::{Exit, Failure};
use super::files::{self, NewFile};
use super::handover::kem;
use super::output::Output;
use super::trust::stated_key;
use crate::client::{ClientError, KeyDocument, Request};
use crate::envelope::statement::KeyRetirement;
use crate::envelope::{Kem, Recipient, SealingKeyPair, SignedDocument};
use crate::identity::profile::SIGNING;
use crate::identity::{Certificate, CertificateDer, Serial, request_certificate};
use crate::types::{KeyId, SystemRandom, Timestamp};

/// What to do with sealing keys, and over which connection.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: config::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a sealing key, or a signing key with a request for its certificate.
    #[command(after_help = "Examples:\n  \
        cos-escrow key create\n  \
        cos-escrow key create --kem p256 --out north.key\n  \
        cos-escrow key create --use signing --out north.signing.key\n\n\
        Back the file of a sealing key up: what was sealed to the key opens with nothing else.\n\
        The request for a signing key, `north.signing.csr`, goes to the authority (`pki issue --csr`); the\n\
        key stays here. It is published with all that it signs, and retired by `pki revoke`.")]
    Create {
        /// What the key is for.
        #[arg(long = "use", value_name = "USE", value_enum, default_value_t)]
        purpose: Purpose,
        /// How keys are encapsulated to a sealing key.
        #[arg(long, value_parser = kem(), default_value = "x-wing")]
        kem: Kem,
        /// The new file; for a sealing key by default one in the folder for keys.
        #[arg(long, value_name = "FILE", required_if_eq("purpose", "signing"))]
        out: Option<PathBuf>,
    },
    /// Print the public half of a sealing key, for those who seal to it without the service.
    #[command(after_help = "Example:\n  cos-escrow key public head-end.key")]
    Public {
        /// The file of the key.
        file: PathBuf,
    },
    /// Publish a sealing key in our name: sign its statement, prove possession.
    #[command(
        after_help = "Example:\n  cos-escrow key publish north.key --days 365\n\n\
        A first key is active at once, later ones after a delay in which a stolen one can be noticed."
    )]
    Publish {
        /// The file of the key.
        file: PathBuf,
        /// How long it may be sealed to.
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=800))]
        days: u32,
    },
    /// List sealing keys and verify their statements.
    #[command(after_help = "Examples:\n  \
        cos-escrow key list\n  \
        cos-escrow key list south\n  \
        cos-escrow key list escrow")]
    List {
        /// Whose: a party, or `escrow`; ours if not given.
        party: Option<String>,
    },
    /// Say that a key of ours is no longer to be sealed to.
    #[command(after_help = "Example:\n  \
        cos-escrow key retire qUiQTy8PR5uPgZdpSzAYSw0u0cHNKh7A-4XSmaGCHKc --yes\n\n\
        Keep the file: what was sealed to the key before still needs it.")]
    Retire {
        /// The key.
        // One name in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        key_id: KeyId,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs one of the commands.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let connection = &arguments.connection;
    match &arguments.command {
        Command::Create {
            purpose: Purpose::Signing,
            out: Some(out),
            ..
        } => create_signing(out, output),
        Command::Create { kem, out, .. } => {
            let settings = Settings::resolve(connection)?;
            create(&settings, *kem, out.as_ref(), output)
        }
        Command::Public { file } => {
            let pair = file::read(file)?;
            output.print(&file::public_text(pair.public()))
        }
        Command::Publish { file, days } => {
            let pair = file::read(file)?;
            let session = Session::open_signing(connection)?;
            let answer = wait(publish(&session, &pair, *days))?;
            output.row(&Document::<Published>::of(answer))
        }
        Command::List { party } => {
            let session = Session::open(connection)?;
            let of = match party {
                Some(party) => party.as_str(),
                None => session.party()?.as_str(),
            };
            let keys = wait(async { Ok(list(&session, of).await?) })?;
            output.rows(&Document::<Key>::list(&Value::Array(keys)))
        }
        Command::Retire { key_id, yes } => {
            let question = format!("nothing will be sealed to `{key_id}` any more;");
            sure(&question, *yes, output)?;
            let session = Session::open_signing(connection)?;
            let answer = wait(async { Ok(retire(&session, *key_id).await?) })?;
            output.row(&Document::<Retired>::of(answer))
        }
    }
}

fn create(
    settings: &Settings,
    kem: Kem,
    out: Option<&PathBuf>,
    output: &Output,
) -> Result<(), Failure> {
    let pair = SealingKeyPair::generate(kem, &SystemRandom);
    let path = match out {
        Some(path) => path.clone(),
        None => {
            files::private_folder(&settings.keys)?;
            file::path_in(&settings.keys, &pair.id())
        }
    };
    file::write(&path, &pair)?;
    output.row(&Document::<Created>::of(json!({
        "key_id": pair.id(),
        "kem": pair.public().kem(),
        "file": path.display().to_string(),
    })))
}

fn create_signing(path: &Path, output: &Output) -> Result<(), Failure> {
    let (key, request) = request_certificate()?;
    let beside = path.with_extension("csr");
    let (key_file, request_file) = (NewFile::create(path)?, NewFile::create(&beside)?);
    request_file.write(request.as_bytes())?;
    key_file.write(key.expose())?;
    output.row(&Document::<Requested>::of(json!({
        "file": path.display().to_string(),
        "request": beside.display().to_string(),
    })))
}

/// Publishes a key under the number that follows our last statement. The same key again changes nothing.
///
/// The number is read without verifying who signed: a former statement that does not verify any more keeps nobody from
/// publishing, and under a wrong number the service refuses.
async fn publish(session: &Session, pair: &SealingKeyPair, days: u32) -> Result<Value, Failure> {
    let depositor = session.depositor()?;
    let until = (depositor.now).after(Duration::from_secs(u64::from(days) * 86_400));
    let documents = session.client.keys(depositor.party.as_str()).await?;
    let mut last = 0;
    for document in &documents {
        if document.key_id == pair.id() {
            let (statement, _) = stated_key(document, &depositor.party, &session.anchors)?;
            return published_before(document, statement.not_after, until);
        }
        last = last.max(document.claim()?.sequence);
    }
    let valid = (depositor.now, until);
    let sequence = last.saturating_add(1);
    let published = session
        .client
        .publish_key(pair, valid, sequence, &depositor);
    let mut answer = published.await?;
    answer["not_after"] = json!(until);
    Ok(answer)
}

/// What is said of a key that is published already: that it is, if it still is and for as long as it shall be.
fn published_before(
    document: &KeyDocument,
    not_after: Timestamp,
    until: Timestamp,
) -> Result<Value, Failure> {
    let refused = |why: String| {
        let hint = "`cos-escrow key create` makes its successor; keep this one, it still opens";
        Err(Failure::new(Exit::Refused, why).hint(hint))
    };
    if let Some(at) = document.retired_at {
        return refused(format!("the key was retired at {at} and stays so"));
    }
    // Less is what passed since an answer was lost.
    if not_after.after(Duration::from_secs(86_400)) < until {
        return refused(format!(
            "the key is published until {not_after}, and for no longer"
        ));
    }
    Ok(json!({
        "key_id": document.key_id,
        "active_at": document.active_at,
        "not_after": not_after,
        "receipt": { "index": document.receipt.index },
    }))
}

async fn retire(session: &Session, key_id: KeyId) -> Result<Value, ClientError> {
    let depositor = session
        .depositor()
        .map_err(|failure| ClientError::Local(failure.message))?;
    let retirement = KeyRetirement {
        party: Recipient::Party(depositor.party.clone()),
        key_id,
        at: now(),
    };
    let document = SignedDocument::sign(&retirement, |message| depositor.sign(message))?;
    let request = Request::post("/v1/parties/me/sealing-keys/retire", document.to_json());
    session.client.acknowledged(request).await
}

/// The keys of a party, or of the escrow, each with what its verification says.
async fn list(session: &Session, of: &str) -> Result<Vec<Value>, ClientError> {
    let keys = session.client.keys(of).await?;
    if of == ESCROW {
        for key in &keys {
            if let Some(kem) = Kem::of_id(key.kem) {
                session.client.escrow_key(kem).await?;
            }
        }
    }
    keys.iter().map(|key| described(key, of, session)).collect()
}

fn described(key: &KeyDocument, of: &str, session: &Session) -> Result<Value, ClientError> {
    let statement = match of {
        ESCROW => "first entry".to_owned(),
        party => {
            let party = party
                .parse()
                .map_err(|_| ClientError::Local(format!("`{party}` is not the id of a party")))?;
            match stated_key(key, &party, &session.anchors) {
                Ok(_) => "verified".to_owned(),
                Err(error) if !key.active => error.to_string(),
                // Nobody may be led to seal to a key that is not the party's.
                Err(error) => return Err(error),
            }
        }
    };
    let held = file::path_in(&session.settings.keys, &key.key_id).exists();
    Ok(json!({
        "key_id": key.key_id,
        "kem": Kem::of_id(key.kem).map(Kem::as_str),
        "active": key.active,
        "active_at": key.active_at,
        "retired_at": key.retired_at,
        "statement": statement,
        "signed_by": signing_leaf(key),
        "held": held,
        "entry": key.receipt.index,
    }))
}

/// The certificate with which a key was stated, as its number at its issuer.
fn signing_leaf(key: &KeyDocument) -> Option<Serial> {
    let json = key.statement.as_ref()?.to_string();
    let document = SignedDocument::from_json(json.as_bytes()).ok()?;
    let leaf = CertificateDer::from(document.signature().chain().leaf());
    let leaf = Certificate::read(&leaf, &SIGNING).ok()?;
    Some(leaf.serial)
}

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Purpose {
    /// Packages are sealed to it.
    #[default]
    Sealing,
    /// It signs for its party.
    Signing,
}

struct Requested;

impl Shape for Requested {
    const COLUMNS: &'static [&'static str] = &["file", "request"];
    const POINTERS: &'static [&'static str] = &["/file", "/request"];
}

struct Created;

impl Shape for Created {
    const COLUMNS: &'static [&'static str] = &["key_id", "kem", "file"];
    const POINTERS: &'static [&'static str] = &["/key_id", "/kem", "/file"];
}

struct Published;

impl Shape for Published {
    const COLUMNS: &'static [&'static str] = &["key_id", "active_at", "not_after", "entry"];
    const POINTERS: &'static [&'static str] =
        &["/key_id", "/active_at", "/not_after", "/receipt/index"];
}

struct Retired;

impl Shape for Retired {
    const COLUMNS: &'static [&'static str] = &["key_id", "retired_at", "entry"];
    const POINTERS: &'static [&'static str] = &["/key_id", "/retired_at", "/receipt/index"];
}

struct Key;

impl Shape for Key {
    const COLUMNS: &'static [&'static str] = &[
        "key_id",
        "kem",
        "active",
        "active_at",
        "retired_at",
        "statement",
        "signed_by",
        "held",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/key_id",
        "/kem",
        "/active",
        "/active_at",
        "/retired_at",
        "/statement",
        "/signed_by",
        "/held",
    ];
}

/// The name under which the service's own keys are listed.
const ESCROW: &str = "escrow";
