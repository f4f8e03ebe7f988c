//! Fetching packages: asked for in one request, verified, and written to a file of the owner alone.

use serde_json::{Value, json};

use super::arguments::Ask;
use super::deposit::local;
use crate::cli::connect::{Session, now};
use crate::cli::document::Document;
use crate::cli::document::Shape;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files::NewFile;
use crate::cli::output::Output;
use crate::cli::trust::verify_body;
use crate::client::{ClientError, ReleaseDocument};
use crate::envelope::{Body, Item, Release, SignatureError};
use crate::identity::Made;
use crate::types::{Digest, HandoverId, PartyId, SupplyPoint, SystemRandom};

/// Of what a release is asked for.
pub(super) enum Target {
    /// A handover that we gain.
    Handover(HandoverId),
    /// A supply point that is ours.
    Own(SupplyPoint),
}

/// Fetches a release into a new file.
pub(super) async fn fetch(
    session: &Session,
    target: &Target,
    ask: &Ask,
    output: &Output,
) -> Result<(), Failure> {
    // A release that could not be kept is not asked for.
    let file = NewFile::create(&ask.out)?;
    let request = json!({
        "meter_serial": ask.meter_serial,
        "key_id": ask.key_id,
        "component": ask.component.map(|part| part.component()),
        "reseal": ask.reseal,
    });
    let ReleaseDocument {
        mut body,
        release,
        bytes,
    } = released(session, target, &request).await?;
    file.write(&bytes)?;
    let signatures = signatures(&release, session);
    let bad = signatures.iter().any(|signature| signature.is_bad());
    if let Value::Object(fields) = &mut body {
        // Sealed or not, it belongs into the file alone.
        fields.remove("release");
        fields.insert("items".to_owned(), items(&release, &signatures));
        fields.insert("out".to_owned(), json!(ask.out.display().to_string()));
    }
    output.row(&Document::<Released>::of(body))?;
    if bad {
        let message = "the depositor's signature of an item does not verify";
        return Err(Failure::new(Exit::Unverified, message)
            .hint("the release was written all the same; `cos-escrow envelope verify` says more"));
    }
    Ok(())
}

/// Asks for a release. The same question that got no answer before is asked again under the same key.
async fn released(
    session: &Session,
    target: &Target,
    request: &Value,
) -> Result<ReleaseDocument, ClientError> {
    let party = session.party().map_err(local)?;
    let outbox = session.outbox().map_err(local)?;
    let what = match target {
        Target::Handover(id) => id.to_string(),
        Target::Own(supply_point) => supply_point.to_string(),
    };
    let subject = Digest::of_pieces(&[
        b"release",
        session.settings.url.as_bytes(),
        party.as_str().as_bytes(),
        what.as_bytes(),
        request.to_string().as_bytes(),
    ]);
    let pending = match outbox.find(&subject).map_err(local)? {
        Some(pending) => pending,
        None => {
            let kept = request.to_string().into_bytes();
            let kept = outbox.keep(&subject, kept, &SystemRandom, now());
            kept.map_err(local)?
        }
    };
    let (client, key) = (&session.client, pending.key());
    let answer = match target {
        Target::Handover(id) => client.release(*id, request, key).await,
        Target::Own(supply_point) => client.recover(supply_point, request, key).await,
    };
    let document = pending.settle(answer)?;
    check(&document.release, target, party)?;
    Ok(document)
}

/// That the log records these bytes was verified; that they are what we asked for is for us to see.
fn check(release: &Release, target: &Target, party: &PartyId) -> Result<(), ClientError> {
    let ours = release.issue().recipient == *party;
    let asked = match target {
        Target::Handover(id) => release.issue().handover == *id,
        Target::Own(supply_point) => {
            let there = |body: &Body| body.header().supply_point == *supply_point;
            release.items().iter().all(|item| there(&item.body))
        }
    };
    match ours && asked {
        true => Ok(()),
        false => Err(ClientError::Verification(
            "the release is not the one that was asked for".to_owned(),
        )),
    }
}

/// What the depositor's signature of an item says.
enum Signed {
    Yes,
    /// The service sealed it for a depositor that sent it in clear.
    No,
    Bad(String),
}

impl Signed {
    fn is_bad(&self) -> bool {
        matches!(self, Self::Bad(_))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Yes => "verified",
            Self::No => "unsigned",
            Self::Bad(why) => why,
        }
    }
}

/// Signatures are verified as of the deposit: the depositor's certificate may have ended since.
fn signatures(release: &Release, session: &Session) -> Vec<Signed> {
    let verify = |item: &Item| {
        let made = Made::Logged(item.deposited_at);
        match verify_body(&item.body, &session.anchors, made) {
            Ok(()) => Signed::Yes,
            Err(SignatureError::Unsigned) => Signed::No,
            Err(error) => Signed::Bad(error.to_string()),
        }
    };
    release.items().iter().map(verify).collect()
}

fn items(release: &Release, signatures: &[Signed]) -> Value {
    let items = release.items().iter().zip(signatures);
    items
        .map(|(item, signature)| {
            let header = item.body.header();
            json!({
                "component": header.component,
                "generation": item.generation,
                "status": item.status.as_str(),
                "depositor": header.depositor,
                "signature": signature.as_str(),
            })
        })
        .collect()
}

/// What became of the question.
struct Released;

impl Shape for Released {
    const COLUMNS: &'static [&'static str] = &[
        "handover", "grant", "key_id", "late", "gaps", "entry", "out",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/handover",
        "/grant",
        "/key_id",
        "/late",
        "/gaps",
        "/receipt/index",
        "/out",
    ];
}
