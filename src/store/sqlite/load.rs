//! Reads what a batch needs: one statement a table, whatever the size of the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, SqlSafeStr};

use super::super::{
    Directory, Facts, Ground, IdempotentAnswer, Needs, Party, PartyMpid, PartyStatus, SealingKey,
    StoreError, SupplyPointFacts,
};
use super::log;
use crate::handover::Registration;
use crate::types::{Component, Digest, KeyId, SupplyPoint, Timestamp};

pub(super) async fn facts(
    connection: &mut SqliteConnection,
    needs: &Needs,
    known: Arc<Directory>,
) -> Result<Facts, StoreError> {
    let head = log::head(connection).await?;
    let directory = if known.epoch == head.directory_epoch {
        known
    } else {
        Arc::new(directory(connection).await?)
    };
    let mut facts = Facts {
        head,
        directory,
        ..Facts::default()
    };
    let beside = beside(connection, needs).await?;
    supply_points(connection, needs, &beside, &mut facts).await?;
    history(connection, needs, &beside, &mut facts).await?;
    Ok(facts)
}

/// What is read along with the guarded supply points: each itself, or the next one where nobody is registered.
async fn beside(
    connection: &mut SqliteConnection,
    needs: &Needs,
) -> Result<BTreeSet<SupplyPoint>, StoreError> {
    if needs.guarded.is_empty() {
        return Ok(BTreeSet::new());
    }
    let near = rows(connection, NEAR, &json(&needs.guarded)).await?;
    let near = near.iter().map(|row| parsed("registration", row, 0));
    near.collect()
}

/// Everything that hangs on the asked supply points.
async fn supply_points(
    connection: &mut SqliteConnection,
    needs: &Needs,
    beside: &BTreeSet<SupplyPoint>,
    facts: &mut Facts,
) -> Result<(), StoreError> {
    // Where nobody is registered there is nothing to be read: what is beside it is read in its stead.
    let read: BTreeSet<&SupplyPoint> = needs.supply_points.iter().chain(beside).collect();
    if read.is_empty() {
        return Ok(());
    }
    let asked = json(&read);
    let mut points: BTreeMap<SupplyPoint, SupplyPointFacts> = needs
        .supply_points
        .iter()
        .chain(&needs.guarded)
        .map(|point| (point.clone(), SupplyPointFacts::default()))
        .collect();

    for registration in bodies::<Registration>(connection, REGISTRATIONS, &asked).await? {
        point(&mut points, &registration.supply_point)
            .registrations
            .push(registration);
    }
    for handover in bodies::<super::super::Handover>(connection, HANDOVERS, &asked).await? {
        point(&mut points, &handover.supply_point)
            .handovers
            .push(handover);
    }
    for envelope in bodies::<super::super::StoredEnvelope>(connection, ENVELOPES, &asked).await? {
        point(&mut points, &envelope.supply_point)
            .envelopes
            .push(envelope);
    }
    for row in rows(connection, GENERATIONS, &asked).await? {
        let known = point(&mut points, &parsed("envelope", &row, 0)?);
        for (column, component) in [(1, Component::Credentials), (2, Component::Read)] {
            let newest: Option<u32> = row.try_get(column)?;
            known
                .numbered
                .extend(newest.map(|newest| (component, newest)));
        }
    }
    for grant in bodies::<super::super::Grant>(connection, GRANTS, &asked).await? {
        point(&mut points, &grant.supply_point).grants.push(grant);
    }
    for row in rows(connection, METERS, &asked).await? {
        let meter: super::super::Meter = body("meter", &row)?;
        let known = point(&mut points, &meter.supply_point);
        known.meter = Some(meter);
        known.meter_versions = unsigned("meter", &row, 1)?;
    }
    earlier(connection, &mut points).await?;
    points.retain(|point, _| needs.supply_points.contains(point) || needs.guarded.contains(point));
    facts.supply_points = points;
    Ok(())
}

/// The versions of registrations that live envelopes were admitted by, or that a deposit for a handover would be. Most
/// are the newest ones, which are here already.
async fn earlier(
    connection: &mut SqliteConnection,
    points: &mut BTreeMap<SupplyPoint, SupplyPointFacts>,
) -> Result<(), StoreError> {
    let mut missing = BTreeSet::new();
    for point in points.values() {
        let live = point.envelopes.iter().filter(|e| e.status.is_live());
        let admitted = live.filter_map(|envelope| match &envelope.ground {
            Ground::Registration(version) => Some(version),
            Ground::Grant(_) => None,
        });
        let losing = point.handovers.iter();
        let losing = losing.filter_map(|handover| handover.losing_registration.as_ref());
        let unknown = admitted
            .chain(losing)
            .filter(|version| point.version(version).is_none());
        missing.extend(unknown.map(|version| (version.registration_id.clone(), version.version)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    for registration in bodies::<Registration>(connection, VERSIONS, &json(&missing)).await? {
        point(points, &registration.supply_point)
            .earlier
            .push(registration);
    }
    Ok(())
}

/// What was answered, seen and used before.
async fn history(
    connection: &mut SqliteConnection,
    needs: &Needs,
    beside: &BTreeSet<SupplyPoint>,
    facts: &mut Facts,
) -> Result<(), StoreError> {
    if !needs.idempotency.is_empty() {
        for row in rows(connection, ANSWERS, &json(&needs.idempotency)).await? {
            let key = (row.try_get(0)?, row.try_get(1)?);
            facts.idempotency.insert(key, answer(&row)?);
        }
    }
    if !needs.actors.is_empty() {
        for row in rows(connection, ACTORS, &json(&needs.actors)).await? {
            let chain = (unsigned("actor", &row, 1)?, unsigned("actor", &row, 2)?);
            facts.actors.insert(row.try_get(0)?, chain);
        }
    }
    if !needs.registration_events.is_empty() {
        let known = rows(connection, EVENTS, &json(&needs.registration_events)).await?;
        for row in known {
            let name = (row.try_get(0)?, row.try_get(1)?);
            let content = digest("registration_event", &row, 2)?;
            facts.known_events.insert(name, content);
        }
    }
    if !needs.registrations.is_empty() {
        for row in rows(connection, PLACES, &json(&needs.registrations)).await? {
            let id = parsed("registration", &row, 0)?;
            let supply_point = parsed("registration", &row, 1)?;
            facts.registered_at.insert(id, supply_point);
        }
    }
    if !needs.envelopes.is_empty() {
        for row in rows(connection, ENVELOPE_IDS, &json(&needs.envelopes)).await? {
            facts.known_envelopes.insert(parsed("envelope", &row, 0)?);
        }
    }
    if !needs.scopes.is_empty() {
        let beside = beside.iter().map(SupplyPoint::as_str);
        let scopes: BTreeSet<&str> = beside
            .chain(needs.scopes.iter().map(String::as_str))
            .collect();
        for row in rows(connection, SCOPES, &json(&scopes)).await? {
            facts
                .disclosure_keys
                .insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(())
}

pub(super) async fn directory(connection: &mut SqliteConnection) -> Result<Directory, StoreError> {
    let mut directory = Directory {
        epoch: log::head(connection).await?.directory_epoch,
        ..Directory::default()
    };
    for row in sqlx::query("SELECT party_id, name, status, created_at FROM party")
        .fetch_all(&mut *connection)
        .await?
    {
        let party = Party {
            id: parsed("party", &row, 0)?,
            name: row.try_get(1)?,
            status: match row.try_get(2)? {
                "live" => PartyStatus::Live,
                _ => PartyStatus::Suspended,
            },
            created_at: time("party", &row, 3)?,
        };
        directory.parties.insert(party.id.clone(), party);
    }
    for row in sqlx::query("SELECT mpid, role, party_id, from_at, until_at FROM party_mpid")
        .fetch_all(&mut *connection)
        .await?
    {
        directory.mpids.push(PartyMpid {
            mpid: parsed("party_mpid", &row, 0)?,
            role: parsed("party_mpid", &row, 1)?,
            party: parsed("party_mpid", &row, 2)?,
            from_at: time("party_mpid", &row, 3)?,
            until_at: optional_time("party_mpid", &row, 4)?,
        });
    }
    for row in sqlx::query(SEALING_KEYS).fetch_all(connection).await? {
        let key = sealing_key(&row)?;
        directory
            .sealing_keys
            .entry(key.party.clone())
            .or_default()
            .push(key);
    }
    Ok(directory)
}

fn sealing_key(row: &SqliteRow) -> Result<SealingKey, StoreError> {
    const TABLE: &str = "sealing_key";
    let kem = unsigned(TABLE, row, 2)?;
    Ok(SealingKey {
        party: parsed(TABLE, row, 0)?,
        key_id: KeyId(digest(TABLE, row, 1)?),
        kem: u16::try_from(kem).map_err(|e| StoreError::corrupt(TABLE, e))?,
        public_key: row.try_get(3)?,
        sequence: unsigned(TABLE, row, 4)?,
        not_before: time(TABLE, row, 5)?,
        not_after: time(TABLE, row, 6)?,
        active_at: time(TABLE, row, 7)?,
        retired_at: optional_time(TABLE, row, 8)?,
        statement: row.try_get(9)?,
        entry: unsigned(TABLE, row, 10)?,
    })
}

fn answer(row: &SqliteRow) -> Result<IdempotentAnswer, StoreError> {
    Ok(IdempotentAnswer {
        request: digest("idempotency", row, 2)?,
        created_at: time("idempotency", row, 3)?,
        entry: unsigned("idempotency", row, 4)?,
        answer: row.try_get(5)?,
    })
}

fn point<'a>(
    points: &'a mut BTreeMap<SupplyPoint, SupplyPointFacts>,
    supply_point: &SupplyPoint,
) -> &'a mut SupplyPointFacts {
    points.entry(supply_point.clone()).or_default()
}

fn json<T: serde::Serialize>(values: &BTreeSet<T>) -> String {
    serde_json::to_string(values).expect("sets of text serialise")
}

async fn rows(
    connection: &mut SqliteConnection,
    statement: impl SqlSafeStr,
    asked: &str,
) -> Result<Vec<SqliteRow>, StoreError> {
    Ok(sqlx::query(statement)
        .bind(asked.to_owned())
        .fetch_all(connection)
        .await?)
}

async fn bodies<T: DeserializeOwned>(
    connection: &mut SqliteConnection,
    (table, statement): (&'static str, &'static str),
    asked: &str,
) -> Result<Vec<T>, StoreError> {
    rows(connection, statement, asked)
        .await?
        .iter()
        .map(|row| body(table, row))
        .collect()
}

/// The JSON document in a row's first column.
pub(super) fn body<T: DeserializeOwned>(
    table: &'static str,
    row: &SqliteRow,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(0)?;
    serde_json::from_str(text).map_err(|e| StoreError::corrupt(table, e))
}

pub(super) fn parsed<T: std::str::FromStr>(
    table: &'static str,
    row: &SqliteRow,
    column: usize,
) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|e| StoreError::corrupt(table, e))
}

pub(super) fn digest(
    table: &'static str,
    row: &SqliteRow,
    column: usize,
) -> Result<Digest, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    Digest::from_slice(bytes).map_err(|e| StoreError::corrupt(table, e))
}

pub(super) fn unsigned(
    table: &'static str,
    row: &SqliteRow,
    column: usize,
) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|e| StoreError::corrupt(table, e))
}

pub(super) fn time(
    table: &'static str,
    row: &SqliteRow,
    column: usize,
) -> Result<Timestamp, StoreError> {
    unsigned(table, row, column).map(Timestamp::from_millis)
}

fn optional_time(
    table: &'static str,
    row: &SqliteRow,
    column: usize,
) -> Result<Option<Timestamp>, StoreError> {
    let value: Option<i64> = row.try_get(column)?;
    value.map(|_| time(table, row, column)).transpose()
}

const NEAR: &str = "SELECT near FROM (SELECT COALESCE( \
       (SELECT r.supply_point FROM registration AS r \
        WHERE r.supply_point >= asked.value ORDER BY r.supply_point LIMIT 1), \
       (SELECT r.supply_point FROM registration AS r ORDER BY r.supply_point LIMIT 1)) AS near \
     FROM json_each($1) AS asked) WHERE near IS NOT NULL";
const REGISTRATIONS: (&str, &str) = (
    "registration",
    "SELECT (SELECT newest.body FROM registration AS newest \
             WHERE newest.supply_point = first.supply_point \
             AND newest.registration_id = first.registration_id \
             ORDER BY newest.version DESC LIMIT 1) \
     FROM registration AS first \
     WHERE first.version = 1 AND first.supply_point IN (SELECT value FROM json_each($1)) \
     ORDER BY first.supply_point, first.registration_id",
);
const VERSIONS: (&str, &str) = (
    "registration",
    "SELECT r.body FROM json_each($1) AS asked JOIN registration AS r \
     ON r.registration_id = asked.value ->> 0 AND r.version = asked.value ->> 1",
);
const HANDOVERS: (&str, &str) = (
    "handover",
    "SELECT body FROM handover WHERE supply_point IN (SELECT value FROM json_each($1))",
);
const ENVELOPES: (&str, &str) = (
    "envelope",
    "SELECT facts FROM envelope \
     WHERE status <> 'erased' AND supply_point IN (SELECT value FROM json_each($1)) \
     ORDER BY supply_point, component, generation",
);
const GENERATIONS: &str = "SELECT asked.value, \
     (SELECT max(generation) FROM envelope \
      WHERE supply_point = asked.value AND component = 'credentials') AS credentials, \
     (SELECT max(generation) FROM envelope \
      WHERE supply_point = asked.value AND component = 'read') AS read \
     FROM json_each($1) AS asked";
const GRANTS: (&str, &str) = (
    "release_grant",
    "SELECT body FROM release_grant WHERE supply_point IN (SELECT value FROM json_each($1))",
);
const METERS: &str = "SELECT \
     (SELECT body FROM meter WHERE supply_point = asked.value \
      ORDER BY effective_from DESC, version DESC LIMIT 1) AS body, \
     (SELECT max(version) FROM meter WHERE supply_point = asked.value) \
     FROM json_each($1) AS asked WHERE body IS NOT NULL";
const ANSWERS: &str = "SELECT i.identity, i.key, i.request_digest, i.created_at, i.entry, i.answer \
     FROM json_each($1) AS asked JOIN idempotency AS i \
     ON i.identity = asked.value ->> 0 AND i.key = asked.value ->> 1";
const ACTORS: &str = "SELECT actor, sequence, entry FROM actor \
     WHERE actor IN (SELECT value FROM json_each($1))";
const EVENTS: &str = "SELECT e.source, e.event_id, e.content FROM json_each($1) AS asked \
     JOIN registration_event AS e \
     ON e.source = asked.value ->> 0 AND e.event_id = asked.value ->> 1";
const PLACES: &str = "SELECT registration_id, supply_point FROM registration \
     WHERE version = 1 AND registration_id IN (SELECT value FROM json_each($1))";
const ENVELOPE_IDS: &str = "SELECT envelope_id FROM envelope \
     WHERE envelope_id IN (SELECT value FROM json_each($1))";
const SCOPES: &str = "SELECT scope, wrapped FROM disclosure_key \
     WHERE scope IN (SELECT value FROM json_each($1))";
const SEALING_KEYS: &str = "SELECT party_id, key_id, kem, public_key, sequence, not_before, \
     not_after, active_at, retired_at, statement, entry FROM sealing_key \
     ORDER BY party_id, sequence";
