//! Rows of the journal: claiming a meter, and reading what is known of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::FutureExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::counters::KnownCounter;
use super::writer::Batch;
use super::{Journal, JournalError, Lease, Progress, State};
use crate::meter::escrow::StopReason;
use crate::meter::link::DeviceId;
use crate::meter::released::{Belief, LeftOut, RegisterRead, ReleasedMeter, Repoint, Way};
use crate::meter::secrets::Secrets;
use crate::types::{
    Digest, HandoverId, MeterSerial, PartyId, Random, Secret, SupplyPoint, Timestamp,
};

/// What claiming a meter did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The takeover is new.
    New,
    /// It was there; it goes on where it was.
    Known,
    /// It had ended with keys that do not open the meter; it starts again with those released now.
    Again,
}

/// Everything the journal has on one takeover.
pub struct Record {
    /// The meter as it was released, without its secrets.
    pub meter: ReleasedMeter,
    /// Of each way to it, the numbers of the sets that may be said there, oldest first.
    pub of_ways: Vec<Vec<u32>>,
    /// The key sets that the meter may have, by number; the highest is the newest.
    pub sets: BTreeMap<u32, Secrets>,
    /// How far it is.
    pub progress: Progress,
}

/// One run of a list of releases: the takeovers that it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RunId(pub(super) [u8; 16]);

impl RunId {
    /// A new one.
    pub fn random(random: &dyn Random) -> Self {
        let mut id = [0; 16];
        random.fill(&mut id);
        Self(id)
    }
}

/// A released meter on its way into the journal.
pub struct Intake<'a> {
    /// The meter.
    pub meter: &'a ReleasedMeter,
    /// What the caller will need to deposit the next keys, where that is not in its memory anyway. Kept sealed, until the
    /// takeover is over.
    pub papers: Option<&'a Secret>,
    /// What of the release is not used.
    pub left_out: &'a [LeftOut],
    /// The network that the meter is reached through, empty if that is not known.
    pub network: &'a str,
    /// The run that it belongs to from now on.
    pub run: Option<RunId>,
}

/// A released meter without its keys.
#[derive(serde::Deserialize, serde::Serialize)]
pub(super) struct Job {
    pub(super) supply_point: SupplyPoint,
    pub(super) serial: MeterSerial,
    ways: Vec<JobWay>,
    pub(super) left_out: Vec<LeftOut>,
    supply_start: Option<Timestamp>,
    closing_read: Option<Vec<RegisterRead>>,
    repoint: Option<Repoint>,
}

/// A way without its secrets.
#[derive(serde::Deserialize, serde::Serialize)]
struct JobWay {
    generation: u32,
    address_of: Option<PartyId>,
    belief: Belief,
    address: SocketAddr,
    profile: String,
    device: DeviceId,
    device_name: Option<String>,
    firmware: Option<String>,
    /// The numbers of its secrets, oldest first.
    sets: Vec<u32>,
}

impl Journal {
    /// Writes a released meter down, with its keys sealed.
    pub async fn claim(
        &self,
        meter: &ReleasedMeter,
        now: Timestamp,
    ) -> Result<Claim, JournalError> {
        let intake = Intake {
            meter,
            papers: None,
            left_out: &[],
            network: "",
            run: None,
        };
        self.take_in(intake, now).await
    }

    /// The same, with what else is known of it.
    pub async fn take_in(&self, intake: Intake<'_>, now: Timestamp) -> Result<Claim, JournalError> {
        let meter = intake.meter;
        let handover = meter.handover;
        // The likeliest has the highest number.
        let candidates = || meter.ways.iter().flat_map(|way| &way.candidates);
        let sets = (1..).zip(
            meter
                .ways
                .iter()
                .rev()
                .flat_map(|way| way.candidates.iter().rev()),
        );
        let sealed = |(number, set): (u32, &Secrets)| self.seal_set(handover, number, set);
        let papers = intake.papers.map(|papers| {
            let context = papers_context(handover);
            self.sealer.seal(&context, papers.expose())
        });
        let row = NewRow {
            handover: handover.to_string(),
            meter: one_meter(meter),
            job: serde_json::to_string(&Job::of(meter, intake.left_out))?,
            network: intake.network.to_owned(),
            run: intake.run.map(|run| run.0.to_vec()),
            progress: serde_json::to_string(&Progress::new())?,
            now: millis(now),
            sets: sets.map(sealed).collect(),
            counters: candidates().filter_map(KnownCounter::of).collect(),
            papers,
        };
        self.writer
            .write(move |batch| row.take_in(batch).boxed())
            .await
    }

    pub(super) fn seal_set(&self, handover: HandoverId, number: u32, set: &Secrets) -> SealedSet {
        let context = context(handover, number);
        SealedSet {
            handover: handover.to_string(),
            number,
            sealed: self.sealer.seal(&context, &set.to_bytes()),
        }
    }

    /// What was taken in with a takeover that is not over.
    pub async fn papers(&self, handover: HandoverId) -> Result<Secret, JournalError> {
        let sealed: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT sealed FROM papers WHERE handover = $1")
                .bind(handover.to_string())
                .fetch_optional(&self.readers)
                .await?;
        let sealed = sealed.ok_or(JournalError::Unknown(handover))?;
        Ok(self.sealer.open(&papers_context(handover), &sealed)?)
    }

    /// Lets a stopped takeover go on where it stopped, after people have looked at it.
    pub async fn reopen(&self, lease: &Lease, now: Timestamp) -> Result<(), JournalError> {
        let mut progress = self.record(lease.handover).await?.progress;
        progress.stopped = None;
        progress.no_ways.clear();
        progress.refused.clear();
        progress.unclear.clear();
        self.save(lease, &progress, now).await
    }

    /// Everything on one takeover, its keys opened.
    pub async fn record(&self, handover: HandoverId) -> Result<Record, JournalError> {
        let row = sqlx::query("SELECT job, progress FROM takeovers WHERE handover = $1")
            .bind(handover.to_string())
            .fetch_optional(&self.readers)
            .await?
            .ok_or(JournalError::Unknown(handover))?;
        let job: Job = serde_json::from_str(row.try_get("job")?)?;
        let progress = serde_json::from_str(row.try_get("progress")?)?;
        let of_ways = job.ways.iter().map(|way| way.sets.clone()).collect();
        Ok(Record {
            meter: job.into_meter(handover),
            of_ways,
            sets: self.sets(handover).await?,
            progress,
        })
    }

    /// The newest secrets of a takeover: once it is reported, those that the meter has.
    pub async fn newest_secrets(&self, handover: HandoverId) -> Result<Secrets, JournalError> {
        let newest = self.sets(handover).await?.pop_last();
        newest
            .map(|(_, set)| set)
            .ok_or(JournalError::Unknown(handover))
    }

    async fn sets(&self, handover: HandoverId) -> Result<BTreeMap<u32, Secrets>, JournalError> {
        let rows = sqlx::query("SELECT number, sealed FROM key_sets WHERE handover = $1")
            .bind(handover.to_string())
            .fetch_all(&self.readers)
            .await?;
        let open = |row: SqliteRow| {
            let number: u32 = row.try_get("number")?;
            let plain = self
                .sealer
                .open(&context(handover, number), row.try_get("sealed")?)?;
            let set = Secrets::from_bytes(plain.expose());
            Ok((
                number,
                set.map_err(|error| JournalError::Damaged(error.to_string()))?,
            ))
        };
        rows.into_iter().map(open).collect()
    }
}

/// A key set as it is kept.
pub(super) struct SealedSet {
    handover: String,
    number: u32,
    sealed: Vec<u8>,
}

impl SealedSet {
    pub(super) async fn insert(self, batch: &mut Batch) -> Result<(), JournalError> {
        sqlx::query("INSERT INTO key_sets (handover, number, sealed) VALUES ($1, $2, $3)")
            .bind(self.handover)
            .bind(self.number)
            .bind(self.sealed)
            .execute(&mut batch.connection)
            .await?;
        Ok(())
    }
}

/// All that is written when a meter is claimed.
struct NewRow {
    handover: String,
    meter: String,
    job: String,
    network: String,
    run: Option<Vec<u8>>,
    progress: String,
    now: i64,
    sets: Vec<SealedSet>,
    counters: Vec<KnownCounter>,
    papers: Option<Vec<u8>>,
}

impl NewRow {
    async fn take_in(self, batch: &mut Batch) -> Result<Claim, JournalError> {
        let claim = match progress_of(batch, &self.handover).await? {
            None => Claim::New,
            Some(progress) if rejected(&progress) => Claim::Again,
            Some(_) => {
                self.join_run(batch).await?;
                return Ok(Claim::Known);
            }
        };
        self.insert(batch).await?;
        // What did not open the meter then is of no use now; the release has every set that may.
        for table in ["key_sets", "papers"] {
            sqlx::query(AssertSqlSafe(format!(
                "DELETE FROM {table} WHERE handover = $1"
            )))
            .bind(&self.handover)
            .execute(&mut batch.connection)
            .await?;
        }
        for set in self.sets {
            set.insert(batch).await?;
        }
        for counter in self.counters {
            counter.note(batch).await?;
        }
        if let Some(papers) = self.papers {
            sqlx::query("INSERT INTO papers (handover, sealed) VALUES ($1, $2)")
                .bind(self.handover)
                .bind(papers)
                .execute(&mut batch.connection)
                .await?;
        }
        Ok(claim)
    }

    async fn join_run(&self, batch: &mut Batch) -> Result<(), JournalError> {
        sqlx::query("UPDATE takeovers SET run = $2 WHERE handover = $1")
            .bind(&self.handover)
            .bind(&self.run)
            .execute(&mut batch.connection)
            .await?;
        Ok(())
    }

    async fn insert(&self, batch: &mut Batch) -> Result<(), JournalError> {
        let inserted = sqlx::query(
            "INSERT INTO takeovers
                 (handover, meter, job, network, run, state, wait_until, progress, lease_until, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, 0, $7, 0, $8)
             ON CONFLICT (handover) DO UPDATE SET meter = excluded.meter, job = excluded.job,
                 network = excluded.network, run = excluded.run, state = excluded.state, stopped = NULL,
                 wait_until = 0, outcome = NULL, reason = NULL, progress = excluded.progress,
                 lease_owner = NULL, lease_until = 0, changed_at = excluded.changed_at",
        )
        .bind(&self.handover)
        .bind(&self.meter)
        .bind(&self.job)
        .bind(&self.network)
        .bind(&self.run)
        .bind(State::Claimed.as_str())
        .bind(&self.progress)
        .bind(self.now)
        .execute(&mut batch.connection)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(JournalError::MeterBusy)
            }
            other => other.map(drop).map_err(Into::into),
        }
    }
}

impl Job {
    fn of(meter: &ReleasedMeter, left_out: &[LeftOut]) -> Self {
        let mut number = 1..;
        let mut ways: Vec<_> = (meter.ways.iter().rev())
            .map(|way| JobWay::of(way, number.by_ref().take(way.candidates.len()).collect()))
            .collect();
        ways.reverse();
        Self {
            supply_point: meter.supply_point.clone(),
            serial: meter.serial.clone(),
            ways,
            left_out: left_out.to_vec(),
            supply_start: meter.supply_start,
            closing_read: meter.closing_read.clone(),
            repoint: meter.repoint.clone(),
        }
    }

    /// Who gave the address of a way, and with which generation; none if we did.
    pub(super) fn address_of(&self, way: usize) -> Option<(PartyId, u32)> {
        let way = self.ways.get(way)?;
        Some((way.address_of.clone()?, way.generation))
    }

    /// The meter; its keys are in sets of their own.
    fn into_meter(self, handover: HandoverId) -> ReleasedMeter {
        ReleasedMeter {
            handover,
            supply_point: self.supply_point,
            serial: self.serial,
            ways: self.ways.into_iter().map(JobWay::into_way).collect(),
            supply_start: self.supply_start,
            closing_read: self.closing_read,
            repoint: self.repoint,
        }
    }
}

impl JobWay {
    fn of(way: &Way, sets: Vec<u32>) -> Self {
        Self {
            generation: way.generation,
            address_of: way.address_of.clone(),
            belief: way.belief,
            address: way.address,
            profile: way.profile.clone(),
            device: way.device.clone(),
            device_name: way.device_name.clone(),
            firmware: way.firmware.clone(),
            sets,
        }
    }

    fn into_way(self) -> Way {
        Way {
            generation: self.generation,
            address_of: self.address_of,
            belief: self.belief,
            address: self.address,
            profile: self.profile,
            device: self.device,
            device_name: self.device_name,
            firmware: self.firmware,
            candidates: Vec::new(),
        }
    }
}

async fn progress_of(batch: &mut Batch, handover: &str) -> Result<Option<Progress>, JournalError> {
    let json: Option<String> =
        sqlx::query_scalar("SELECT progress FROM takeovers WHERE handover = $1")
            .bind(handover)
            .fetch_optional(&mut batch.connection)
            .await?;
    json.map(|json| serde_json::from_str(&json).map_err(Into::into))
        .transpose()
}

/// Only a takeover that never got into the meter may start again from the beginning.
fn rejected(progress: &Progress) -> bool {
    matches!(
        progress.stopped,
        Some(StopReason::WrongKeys | StopReason::WrongMeter | StopReason::WrongFirmware)
    ) && progress.target.is_none()
}

/// What no two meters have in common.
fn one_meter(meter: &ReleasedMeter) -> String {
    match meter.ways.first().map(|way| &way.device) {
        Some(DeviceId::SystemTitle(title)) => title.to_string(),
        // Alone on its line, a meter may have no address of its own.
        Some(DeviceId::Outstation(address)) => format!("{} {address}", meter.serial),
        None => meter.serial.to_string(),
    }
}

fn context(handover: HandoverId, number: u32) -> Vec<u8> {
    let number = number.to_be_bytes();
    let pieces = [
        &b"cos-escrow/journal-key-set/1"[..],
        handover.as_bytes(),
        &number,
    ];
    Digest::of_pieces(&pieces).as_bytes().to_vec()
}

fn papers_context(handover: HandoverId) -> Vec<u8> {
    let pieces = [&b"cos-escrow/journal-papers/1"[..], handover.as_bytes()];
    Digest::of_pieces(&pieces).as_bytes().to_vec()
}

pub(super) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
