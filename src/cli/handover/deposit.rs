//! Depositing: seal, keep, send; and the same for many at a time.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use zeroize::Zeroizing;

use super::arguments::{How, Recipients, Sealer};
use super::load::Load;
use crate::cli::batch::{Results, record};
use crate::cli::connect::Session;
use crate::cli::document::Shape;
use crate::cli::exit::Failure;
use crate::cli::lines::Lines;
use crate::cli::outbox::Outbox;
use crate::cli::output::Output;
use crate::client::{ClientError, Depositor, Request, Sent, seal_package, seal_read};
use crate::envelope::statement::DepositAttestation;
use crate::envelope::{Envelope, Kem, Recipient, SealingPublicKey, SignedDocument};
use crate::types::{Component, Digest, HandoverId, PartyId, Secret};

/// What deposits: a session, its outbox, and the keys that were looked up already.
pub(super) struct Desk<'s> {
    session: &'s Session,
    depositor: Depositor<'s>,
    outbox: Outbox,
    how: How,
    escrow: OnceCell<SealingPublicKey>,
    parties: Mutex<HashMap<PartyId, Option<SealingPublicKey>>>,
}

impl<'s> Desk<'s> {
    pub(super) fn new(session: &'s Session, how: How) -> Result<Self, Failure> {
        Ok(Self {
            session,
            depositor: session.depositor()?,
            outbox: session.outbox()?,
            how,
            escrow: OnceCell::new(),
            parties: Mutex::new(HashMap::new()),
        })
    }

    /// Deposits for a handover, or with none for whichever comes next. A deposit that got no answer before is sent again
    /// as it was.
    pub(super) async fn deposit(
        &self,
        handover: Option<HandoverId>,
        load: &Load,
    ) -> Result<Value, ClientError> {
        match self.how.seal {
            Sealer::Client => self.deposit_sealed(handover, load).await,
            Sealer::Server => self.deposit_plain(handover, load).await,
        }
    }

    async fn deposit_sealed(
        &self,
        handover: Option<HandoverId>,
        load: &Load,
    ) -> Result<Value, ClientError> {
        let subject = self.subject("deposit", handover, load);
        let pending = match self.outbox.find(&subject).map_err(local)? {
            Some(pending) => pending,
            None => {
                let recipients = self.recipients(handover).await?;
                let envelopes = self.seal(load, &recipients)?;
                self.keep(&subject, encode(&envelopes))?
            }
        };
        let envelopes = decode(pending.request())?;
        let client = &self.session.client;
        let answer = client.deposit(handover, &envelopes, pending.key()).await;
        pending.settle(answer.map(|deposited| deposited.body))
    }

    /// The service seals. What is kept is our signed attestation: the package itself stays in the caller's file.
    async fn deposit_plain(
        &self,
        handover: Option<HandoverId>,
        load: &Load,
    ) -> Result<Value, ClientError> {
        let Some(package) = load.package.as_ref().map(|package| package.to_json()) else {
            let message = "`--seal server` needs a package";
            return Err(ClientError::Local(message.to_owned()));
        };
        let read = load.read.as_ref().map(|read| read.to_json());
        let subject = self.subject("plain-deposit", handover, load);
        let pending = match self.outbox.find(&subject).map_err(local)? {
            Some(pending) => pending,
            None => {
                let attestation = self.attest(load, &package, read.as_ref())?;
                self.keep(&subject, attestation.to_json())?
            }
        };
        let path = match handover {
            Some(id) => format!("/v1/handovers/{id}/deposit"),
            None => "/v1/deposits".to_owned(),
        };
        let body = plain_body(&package, read.as_ref(), pending.request());
        let request = Request::post(path, body).idempotent(pending.key());
        let sent = Sent::Plain(handover);
        pending.settle(self.session.client.recorded(request, sent).await)
    }

    /// Disputes the losing supplier's read with another one.
    pub(super) async fn dispute(
        &self,
        handover: HandoverId,
        load: &Load,
    ) -> Result<Value, ClientError> {
        let subject = self.subject("dispute", Some(handover), load);
        let pending = match self.outbox.find(&subject).map_err(local)? {
            Some(pending) => pending,
            None => {
                let recipients = [(Recipient::Escrow, self.escrow_key().await?)];
                self.keep(&subject, encode(&self.seal(load, &recipients)?))?
            }
        };
        let envelopes = decode(pending.request())?;
        let [read] = envelopes.as_slice() else {
            let message = "a dispute has one read and no package";
            return Err(ClientError::Local(message.to_owned()));
        };
        let client = &self.session.client;
        pending.settle(client.dispute(handover, read, pending.key()).await)
    }

    /// Names a request by everything that it is built from.
    fn subject(&self, what: &str, handover: Option<HandoverId>, load: &Load) -> Digest {
        let handover = handover.map(|id| id.to_string()).unwrap_or_default();
        let how = format!("{:?}", self.how);
        let package = load.package.as_ref().map(|package| package.to_json());
        let read = load.read.as_ref().map(|read| read.to_json());
        let bytes = |content: &Option<Secret>| content.as_ref().map(|c| Digest::of(c.expose()).0);
        Digest::of_pieces(&[
            what.as_bytes(),
            self.session.settings.url.as_bytes(),
            self.depositor.party.as_str().as_bytes(),
            handover.as_bytes(),
            how.as_bytes(),
            &bytes(&package).unwrap_or_default(),
            &bytes(&read).unwrap_or_default(),
        ])
    }

    fn keep(
        &self,
        subject: &Digest,
        request: Vec<u8>,
    ) -> Result<crate::cli::outbox::Pending, ClientError> {
        let kept = self
            .outbox
            .keep(subject, request, self.depositor.random, self.depositor.now);
        kept.map_err(local)
    }

    fn seal(
        &self,
        load: &Load,
        recipients: &[(Recipient, SealingPublicKey)],
    ) -> Result<Vec<Envelope>, ClientError> {
        let package = load.package.iter();
        let reads = load.read.iter();
        let packages =
            package.map(|package| seal_package(package, None, recipients, &self.depositor));
        let reads = reads.map(|read| seal_read(read, load.make(), recipients, &self.depositor));
        packages.chain(reads).collect()
    }

    fn attest(
        &self,
        load: &Load,
        package: &Secret,
        read: Option<&Secret>,
    ) -> Result<SignedDocument, ClientError> {
        let attestation = DepositAttestation {
            party: Recipient::Party(self.depositor.party.clone()),
            supply_point: load.supply_point.clone(),
            component: Component::Credentials,
            package: Digest::of(package.expose()),
            read: read.map(|read| Digest::of(read.expose())),
            at: self.depositor.now,
        };
        SignedDocument::sign(&attestation, |message| self.depositor.sign(message))
    }

    async fn recipients(
        &self,
        handover: Option<HandoverId>,
    ) -> Result<Vec<(Recipient, SealingPublicKey)>, ClientError> {
        let gainer = match (self.how.recipients, handover) {
            (Recipients::Both | Recipients::Gainer, Some(id)) => self.gainer(id).await?,
            _ => None,
        };
        let mut recipients = Vec::new();
        if self.how.recipients != Recipients::Gainer {
            recipients.push((Recipient::Escrow, self.escrow_key().await?));
        } else if gainer.is_none() {
            let message = "the gaining supplier is not known or has no active sealing key";
            return Err(ClientError::Local(message.to_owned()));
        }
        recipients.extend(gainer.map(|(party, key)| (Recipient::Party(party), key)));
        Ok(recipients)
    }

    async fn escrow_key(&self) -> Result<SealingPublicKey, ClientError> {
        let kem: Kem = self.how.kem;
        let fetch = || async { Ok(self.session.client.escrow_key(kem).await?.key) };
        self.escrow.get_or_try_init(fetch).await.cloned()
    }

    /// The gaining supplier of a handover with its key, if there are such.
    async fn gainer(
        &self,
        handover: HandoverId,
    ) -> Result<Option<(PartyId, SealingPublicKey)>, ClientError> {
        let request = Request::get(format!("/v1/handovers/{handover}"));
        let view: Value = self.session.client.send(request).await?.json()?;
        let named = view["gaining"]["party"].as_str().map(str::parse::<PartyId>);
        let Some(Ok(party)) = named else {
            return Ok(None);
        };
        let mut known = self.parties.lock().await;
        let key = match known.get(&party) {
            Some(key) => key.clone(),
            None => {
                let key = self.session.sealing_key(&party).await?;
                known.insert(party.clone(), key.clone());
                key
            }
        };
        Ok(key.map(|key| (party, key)))
    }
}

/// Deposits the records of a file.
pub(super) async fn deposit_many(
    desk: &Desk<'_>,
    lines: &mut Lines,
    output: &Output,
) -> Result<(), Failure> {
    let mut results = Results::<DepositLine>::of(output, "deposits", lines);
    loop {
        // The next ones are read when these are answered, so only a few are in memory.
        let portion = lines.portion(ROUND, MAX_ROUND_BYTES)?;
        if portion.is_empty() {
            return results.finish();
        }
        let records = portion.into_iter().map(record);
        let mut answers = stream::iter(records)
            .map(|(line, record)| async move { (line, deposit_one(desk, record).await) })
            .buffered(AT_ONCE);
        while let Some((line, answer)) = answers.next().await {
            match answer {
                Ok(answer) => results.answer(line, answer)?,
                Err(error) => results.failed(line, error)?,
            }
        }
        drop(answers);
        results.reached(lines)?;
    }
}

async fn deposit_one(
    desk: &Desk<'_>,
    record: Result<Zeroizing<Vec<u8>>, ClientError>,
) -> Result<Value, ClientError> {
    let (handover, load) = Load::record(&record?)?;
    desk.deposit(handover, &load).await
}

/// `{"seal":"server","package":…,"read":…,"attestation":…}`, of pieces that are JSON already: what is signed is the bytes
/// of package and read as they travel.
fn plain_body(package: &Secret, read: Option<&Secret>, attestation: &[u8]) -> Vec<u8> {
    let read = read.map_or(&b"null"[..], Secret::expose);
    [
        &br#"{"seal":"server","package":"#[..],
        package.expose(),
        br#","read":"#,
        read,
        br#","attestation":"#,
        attestation,
        b"}",
    ]
    .concat()
}

fn encode(envelopes: &[Envelope]) -> Vec<u8> {
    let lines = envelopes
        .iter()
        .map(|e| BASE64_STANDARD.encode(e.encode()) + "\n");
    lines.collect::<String>().into_bytes()
}

fn decode(kept: &[u8]) -> Result<Vec<Envelope>, ClientError> {
    let broken = || ClientError::Local("a kept envelope does not read".to_owned());
    let lines = kept
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let bytes = BASE64_STANDARD.decode(line).map_err(|_| broken())?;
            Envelope::decode(&bytes).map_err(|_| broken())
        })
        .collect()
}

/// A failure of this side, in the words of calls.
pub(super) fn local(failure: Failure) -> ClientError {
    ClientError::Local(failure.message)
}

/// What became of a deposit.
pub(super) struct Deposited;

impl Shape for Deposited {
    const COLUMNS: &'static [&'static str] = &[
        "handover",
        "state",
        "late",
        "component",
        "generation",
        "gaps",
        "entry",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/handover",
        "/state",
        "/late",
        "/envelopes/0/component",
        "/envelopes/0/generation",
        "/envelopes/0/gaps",
        "/receipt/index",
    ];
}

/// What became of one of many.
struct DepositLine;

impl Shape for DepositLine {
    const COLUMNS: &'static [&'static str] = &[
        "line",
        "handover",
        "state",
        "generation",
        "entry",
        "code",
        "detail",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/line",
        "/handover",
        "/state",
        "/envelopes/0/generation",
        "/receipt/index",
        "/code",
        "/detail",
    ];
}

/// Deposits that are on their way at a time: they share the service's commits.
const AT_ONCE: usize = 16;
/// Deposits that are read and answered together.
const ROUND: usize = 16 * AT_ONCE;
/// Bytes of their records, but for the last one.
const MAX_ROUND_BYTES: usize = 4 * 1024 * 1024;
