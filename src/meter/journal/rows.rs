//! Rows of the journal: claiming a meter, and reading what is known of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteTransaction};

use super::{Journal, JournalError, Lease, Progress, State};
use crate::meter::escrow::StopReason;
use crate::meter::link::DeviceId;
use crate::meter::released::{RegisterRead, ReleasedMeter, Repoint};
use crate::meter::secrets::Secrets;
use crate::types::{Digest, HandoverId, MeterSerial, SupplyPoint, Timestamp};

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
    /// The meter as it was released.
    pub meter: ReleasedMeter,
    /// The key sets that the meter may have, by number; the highest is the newest.
    pub sets: BTreeMap<u32, Secrets>,
    /// How far it is.
    pub progress: Progress,
}

/// One line of the list of takeovers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The handover.
    pub handover: HandoverId,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// The serial number of the meter.
    pub serial: MeterSerial,
    /// How far it is.
    pub state: State,
    /// Why it goes no further.
    pub stopped: Option<StopReason>,
    /// Nothing is tried before this time.
    pub wait_until: Timestamp,
}

impl Status {
    /// Whether the escrow knows how it ended.
    pub fn is_over(&self) -> bool {
        self.state == State::Reported
    }
}

/// A released meter without its keys.
#[derive(serde::Deserialize, serde::Serialize)]
struct Job {
    supply_point: SupplyPoint,
    serial: MeterSerial,
    address: SocketAddr,
    profile: String,
    device: DeviceId,
    device_name: Option<String>,
    firmware: Option<String>,
    supply_start: Option<Timestamp>,
    closing_read: Option<Vec<RegisterRead>>,
    repoint: Option<Repoint>,
}

impl Journal {
    /// Writes a released meter down, with its keys sealed.
    pub async fn claim(
        &self,
        meter: &ReleasedMeter,
        now: Timestamp,
    ) -> Result<Claim, JournalError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let claim = match progress_of(&mut transaction, meter.handover).await? {
            None => Claim::New,
            Some(progress) if rejected(&progress) => Claim::Again,
            Some(_) => return Ok(Claim::Known),
        };
        self.insert(&mut transaction, meter, now).await?;
        // What did not open the meter then is of no use now; the release has every set that may.
        sqlx::query("DELETE FROM key_sets WHERE handover = $1")
            .bind(meter.handover.to_string())
            .execute(&mut *transaction)
            .await?;
        for (number, set) in (1..).zip(meter.candidates.iter().rev()) {
            self.insert_set(&mut transaction, meter.handover, number, set)
                .await?;
            Self::note_counter(&mut transaction, set).await?;
        }
        transaction.commit().await?;
        Ok(claim)
    }

    async fn insert(
        &self,
        transaction: &mut SqliteTransaction<'_>,
        meter: &ReleasedMeter,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let progress = Progress::new();
        let inserted = sqlx::query(
            "INSERT INTO takeovers
                 (handover, meter, job, state, wait_until, progress, lease_until, changed_at)
             VALUES ($1, $2, $3, $4, 0, $5, 0, $6)
             ON CONFLICT (handover) DO UPDATE SET meter = excluded.meter, job = excluded.job,
                 state = excluded.state, stopped = NULL, wait_until = 0, progress = excluded.progress,
                 lease_owner = NULL, lease_until = 0, changed_at = excluded.changed_at",
        )
        .bind(meter.handover.to_string())
        .bind(one_meter(meter))
        .bind(serde_json::to_string(&Job::of(meter))?)
        .bind(progress.state.as_str())
        .bind(serde_json::to_string(&progress)?)
        .bind(millis(now))
        .execute(&mut **transaction)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(JournalError::MeterBusy)
            }
            other => other.map(drop).map_err(Into::into),
        }
    }

    pub(super) async fn insert_set(
        &self,
        transaction: &mut SqliteTransaction<'_>,
        handover: HandoverId,
        number: u32,
        set: &Secrets,
    ) -> Result<(), JournalError> {
        let sealed = self
            .sealer
            .seal(&context(handover, number), &set.to_bytes());
        sqlx::query("INSERT INTO key_sets (handover, number, sealed) VALUES ($1, $2, $3)")
            .bind(handover.to_string())
            .bind(number)
            .bind(sealed)
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    /// Lets a stopped takeover go on where it stopped, after people have looked at it.
    pub async fn reopen(&self, lease: &Lease, now: Timestamp) -> Result<(), JournalError> {
        let mut progress = self.record(lease.handover).await?.progress;
        progress.stopped = None;
        progress.refused.clear();
        progress.unclear.clear();
        self.save(lease, &progress, now).await
    }

    /// Everything on one takeover, its keys opened.
    pub async fn record(&self, handover: HandoverId) -> Result<Record, JournalError> {
        let row = sqlx::query("SELECT job, progress FROM takeovers WHERE handover = $1")
            .bind(handover.to_string())
            .fetch_optional(&self.pool)
            .await?
            .ok_or(JournalError::Unknown(handover))?;
        let job: Job = serde_json::from_str(row.try_get("job")?)?;
        let progress = serde_json::from_str(row.try_get("progress")?)?;
        Ok(Record {
            meter: job.into_meter(handover),
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
            .fetch_all(&self.pool)
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

    /// All takeovers, by handover.
    pub async fn list(&self) -> Result<Vec<Status>, JournalError> {
        let rows = sqlx::query("SELECT handover, job, progress FROM takeovers ORDER BY handover")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(status).collect()
    }
}

impl Job {
    fn of(meter: &ReleasedMeter) -> Self {
        Self {
            supply_point: meter.supply_point.clone(),
            serial: meter.serial.clone(),
            address: meter.address,
            profile: meter.profile.clone(),
            device: meter.device.clone(),
            device_name: meter.device_name.clone(),
            firmware: meter.firmware.clone(),
            supply_start: meter.supply_start,
            closing_read: meter.closing_read.clone(),
            repoint: meter.repoint.clone(),
        }
    }

    /// The meter; its keys are in sets of their own.
    fn into_meter(self, handover: HandoverId) -> ReleasedMeter {
        ReleasedMeter {
            handover,
            supply_point: self.supply_point,
            serial: self.serial,
            address: self.address,
            profile: self.profile,
            device: self.device,
            device_name: self.device_name,
            firmware: self.firmware,
            supply_start: self.supply_start,
            candidates: Vec::new(),
            closing_read: self.closing_read,
            repoint: self.repoint,
        }
    }
}

fn status(row: &SqliteRow) -> Result<Status, JournalError> {
    let job: Job = serde_json::from_str(row.try_get("job")?)?;
    let progress: Progress = serde_json::from_str(row.try_get("progress")?)?;
    Ok(Status {
        handover: row.try_get::<&str, _>("handover")?.parse()?,
        supply_point: job.supply_point,
        serial: job.serial,
        state: progress.state,
        stopped: progress.stopped,
        wait_until: progress.wait_until,
    })
}

async fn progress_of(
    transaction: &mut SqliteTransaction<'_>,
    handover: HandoverId,
) -> Result<Option<Progress>, JournalError> {
    let json: Option<String> =
        sqlx::query_scalar("SELECT progress FROM takeovers WHERE handover = $1")
            .bind(handover.to_string())
            .fetch_optional(&mut **transaction)
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
    match &meter.device {
        DeviceId::SystemTitle(title) => title.to_string(),
        // Alone on its line, a meter may have no address of its own.
        DeviceId::Outstation(address) => format!("{} {address}", meter.serial),
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

pub(super) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
