//! `cos-escrow handover`: what suppliers do about their changes of supplier.

mod arguments;
mod deposit;
mod load;
mod release;

use std::time::Duration;

use serde_json::Value;

pub(super) use self::arguments::{Arguments, kem};
use self::arguments::{Command, Confirm, Deposit, Dispute, How, List, Recipients, Sealer};
use self::deposit::{Deposited, Desk, deposit_many, local};
use self::load::Load;
use self::release::{Target, fetch};
use super::batch::{Results, record};
use super::connect::{Session, now, wait};
use super::document::{Document, Shape, with_query};
use super::exit::{Exit, Failure};
use super::lines::Lines;
use super::outbox::Pending;
use super::output::Output;
use crate::client::{ClientError, Request};
use crate::envelope::statement::Confirmation;
use crate::envelope::{Recipient, SignedDocument};
use crate::types::{Digest, HandoverId, SystemRandom};

/// Runs one of the commands.
pub(super) fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let connection = arguments.connection;
    let open = || Session::open(&connection);
    match arguments.command {
        Command::List(list) => {
            let session = open()?;
            let handovers = wait(async { Ok(fetch_list(&session, &list, output).await?) })?;
            output.rows(&Document::<Handover>::list(&Value::Array(handovers)))
        }
        Command::Show { id } => {
            let session = open()?;
            let request = Request::get(format!("/v1/handovers/{id}"));
            let view: Value = wait(async {
                session.prove_log().await?;
                let view: Value = session.client.send(request).await?.json()?;
                if let Some(receipt) = view.get("release_receipt").filter(|r| !r.is_null()) {
                    let receipt = serde_json::from_value(receipt.clone());
                    let receipt = receipt.map_err(Failure::failed)?;
                    session.client.verify_receipt(&receipt).await?;
                }
                Ok(view)
            })?;
            output.row(&Document::<Handover>::of(view))
        }
        Command::Deposit(deposit) => {
            if deposit.dry_run {
                return dry_run(&deposit, output);
            }
            run_deposit(&Session::open_signing(&connection)?, &deposit, output)
        }
        Command::Release(release) => {
            let target = Target::Handover(release.id);
            let session = open()?;
            wait(fetch(&session, &target, &release.ask, output))
        }
        Command::Recover(recover) => {
            let target = Target::Own(recover.supply_point);
            let session = open()?;
            wait(fetch(&session, &target, &recover.ask, output))
        }
        Command::Confirm(how) => {
            let session = Session::open_signing(&connection)?;
            settled(wait(async { Ok(confirm(&session, &how).await?) })?, output)
        }
        Command::Reject { id, reason } => {
            let session = open()?;
            settled(
                wait(async { Ok(reject(&session, id, &reason).await?) })?,
                output,
            )
        }
        Command::AcceptRead { id } => {
            let client = open()?.client;
            settled(wait(async { Ok(client.accept_read(id).await?) })?, output)
        }
        Command::Dispute(read) => {
            let session = Session::open_signing(&connection)?;
            settled(run_dispute(&session, &read)?, output)
        }
    }
}

fn settled(answer: Value, output: &Output) -> Result<(), Failure> {
    output.row(&Document::<Settled>::of(answer))
}

/// One page, or all of them.
async fn fetch_list(
    session: &Session,
    list: &List,
    output: &Output,
) -> Result<Vec<Value>, ClientError> {
    session.prove_log().await?;
    let mut after = list.after.map(|id| id.to_string());
    let mut handovers = Vec::new();
    loop {
        let parameters = [
            ("role", Some(list.role.as_str().to_owned())),
            ("state", list.state.map(|state| state.as_str().to_owned())),
            (
                "supply_point",
                list.supply_point.as_ref().map(ToString::to_string),
            ),
            ("after", after),
            ("limit", Some(list.limit.to_string())),
        ];
        let path = with_query("/v1/handovers", &parameters);
        let mut page: Value = session.client.send(Request::get(path)).await?.json()?;
        if let Value::Array(shown) = page["handovers"].take() {
            handovers.extend(shown);
        }
        after = page["next"].as_str().map(str::to_owned);
        match &after {
            Some(next) if !list.all => {
                output.note(format!("there are more: `--after {next}`, or `--all`"));
                return Ok(handovers);
            }
            Some(_) => {}
            None => return Ok(handovers),
        }
    }
}

fn dry_run(deposit: &Deposit, output: &Output) -> Result<(), Failure> {
    let Some(from) = &deposit.from else {
        let load = Load::read(deposit.package.as_deref(), deposit.read.as_deref())?;
        return output.row(&Document::<Outline>::of(load.outline(deposit.id)));
    };
    let mut lines = Lines::open(from)?;
    let mut results = Results::<OutlineLine>::of(output, "deposits", &lines);
    while let Some(next) = lines.next()? {
        let (line, record) = record(next);
        match record.and_then(|record| Load::record(&record)) {
            Ok((handover, load)) => results.answer(line, load.outline(handover))?,
            Err(error) => results.failed(line, error)?,
        }
    }
    results.finish()
}

fn run_deposit(session: &Session, deposit: &Deposit, output: &Output) -> Result<(), Failure> {
    let desk = Desk::new(session, deposit.how)?;
    if deposit.standing && deposit.how.recipients == Recipients::Gainer {
        let message = "the gaining supplier of a standing deposit is not known";
        return Err(Failure::new(Exit::Usage, message));
    }
    if let Some(from) = &deposit.from {
        let mut lines = Lines::open(from)?;
        return wait(deposit_many(&desk, &mut lines, output));
    }
    let load = Load::read(deposit.package.as_deref(), deposit.read.as_deref())?;
    let answer = wait(async { Ok(desk.deposit(deposit.id, &load).await?) })?;
    output.row(&Document::<Deposited>::of(answer))
}

fn run_dispute(session: &Session, dispute: &Dispute) -> Result<Value, Failure> {
    let how = How {
        seal: Sealer::Client,
        recipients: Recipients::Escrow,
        kem: dispute.kem,
    };
    let desk = Desk::new(session, how)?;
    let load = Load::read(None, Some(&dispute.read))?;
    wait(async { Ok(desk.dispute(dispute.id, &load).await?) })
}

/// Signs how a handover ended, and says so. What is signed is kept until it is answered, as long as it is fresh.
async fn confirm(session: &Session, how: &Confirm) -> Result<Value, ClientError> {
    let depositor = session.depositor().map_err(local)?;
    let described = format!("{:?} {:?}", how.outcome, how.generation);
    let says = Confirmation {
        handover: how.id,
        party: Recipient::Party(depositor.party.clone()),
        outcome: how.outcome.into(),
        generation: how.generation,
        address_of: None,
        at: depositor.now,
    };
    let make = || {
        let signed = SignedDocument::sign(&says, |message| depositor.sign(message));
        signed.map(|document| document.to_json())
    };
    let pending = kept(session, ("confirm", how.id, &described), make)?;
    let (client, document) = (&session.client, pending.request());
    let confirmed = client.confirm_signed(&says, document, pending.key()).await;
    pending.settle(confirmed)
}

async fn reject(session: &Session, id: HandoverId, reason: &str) -> Result<Value, ClientError> {
    let pending = kept(session, ("reject", id, reason), || Ok(Vec::new()))?;
    pending.settle(session.client.reject(id, reason, pending.key()).await)
}

/// The request of this kind that has no answer yet, or a new one. One that is too old to be accepted is made anew.
fn kept(
    session: &Session,
    (what, id, details): (&str, HandoverId, &str),
    make: impl FnOnce() -> Result<Vec<u8>, ClientError>,
) -> Result<Pending, ClientError> {
    let outbox = session.outbox().map_err(local)?;
    let subject = Digest::of_pieces(&[
        what.as_bytes(),
        session.settings.url.as_bytes(),
        session.party().map_err(local)?.as_str().as_bytes(),
        id.to_string().as_bytes(),
        details.as_bytes(),
    ]);
    let now = now();
    match outbox.find(&subject).map_err(local)? {
        Some(pending) if now.since(pending.made_at()) < FRESH => Ok(pending),
        _ => outbox
            .keep(&subject, make()?, &SystemRandom, now)
            .map_err(local),
    }
}

/// A handover as its suppliers see it.
struct Handover;

impl Shape for Handover {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "supply_point",
        "supply_start_date",
        "state",
        "losing",
        "gaining",
        "read",
        "outcome",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/id",
        "/supply_point",
        "/supply_start_date",
        "/state",
        "/losing/mpid",
        "/gaining/mpid",
        "/read/state",
        "/outcome",
    ];
}

/// What would be deposited.
struct Outline;

impl Shape for Outline {
    const COLUMNS: &'static [&'static str] = &[
        "handover",
        "supply_point",
        "meter_serial",
        "components",
        "fields",
        "gaps",
        "warnings",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/handover",
        "/supply_point",
        "/meter_serial",
        "/components",
        "/fields",
        "/gaps",
        "/warnings",
    ];
}

/// What one of many would deposit.
struct OutlineLine;

impl Shape for OutlineLine {
    const COLUMNS: &'static [&'static str] = &[
        "line",
        "handover",
        "supply_point",
        "components",
        "gaps",
        "code",
        "detail",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/line",
        "/handover",
        "/supply_point",
        "/components",
        "/gaps",
        "/code",
        "/detail",
    ];
}

/// Where a handover stands after an answer.
struct Settled;

impl Shape for Settled {
    const COLUMNS: &'static [&'static str] = &["handover", "state", "outcome", "read", "entry"];
    const POINTERS: &'static [&'static str] = &[
        "/handover",
        "/state",
        "/outcome",
        "/read/state",
        "/receipt/index",
    ];
}

/// How long a signed request may be sent again: the service refuses those that are five minutes old.
const FRESH: Duration = Duration::from_secs(240);
