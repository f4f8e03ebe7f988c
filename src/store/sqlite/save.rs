//! Writes what a batch changed: one multi-row statement a table.

use serde::Serialize;
use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::super::{Changes, StoreError};
use super::log::{millis, signed};

/// Writes everything and moves the head, in the transaction that has read it: nobody else can have moved it since.
pub(super) async fn changes(
    connection: &mut SqliteConnection,
    changes: Changes,
) -> Result<(), StoreError> {
    directory(connection, &changes).await?;
    registrations(connection, &changes).await?;
    packages(connection, &changes).await?;
    log(connection, &changes).await?;
    sqlx::query(
        "UPDATE log_head SET size = $1, root = $2, frontier = $3, last_at = $4, \
         directory_epoch = $5, feed_at = $6, numbered_above = $7 WHERE id = 1",
    )
    .bind(signed(changes.head.size))
    .bind(changes.head.root.to_vec())
    .bind(changes.head.frontier)
    .bind(millis(changes.head.last_at))
    .bind(signed(changes.head.directory_epoch))
    .bind(millis(changes.head.feed_at))
    .bind(signed(changes.head.numbered_above))
    .execute(connection)
    .await?;
    Ok(())
}

async fn directory(connection: &mut SqliteConnection, changes: &Changes) -> Result<(), StoreError> {
    insert(
        "INSERT INTO party (party_id, name, status, created_at) ",
        changes.parties.values(),
        |mut row, party| {
            row.push_bind(party.id.to_string())
                .push_bind(party.name.clone())
                .push_bind(party.status.as_str())
                .push_bind(millis(party.created_at));
        },
        " ON CONFLICT (party_id) DO UPDATE SET name = excluded.name, status = excluded.status",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO party_mpid (mpid, role, party_id, from_at, until_at) ",
        &changes.mpids,
        |mut row, held| {
            row.push_bind(held.mpid.to_string())
                .push_bind(held.role.as_str())
                .push_bind(held.party.to_string())
                .push_bind(millis(held.from_at))
                .push_bind(held.until_at.map(millis));
        },
        " ON CONFLICT (mpid, role, from_at) DO UPDATE SET until_at = excluded.until_at",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO sealing_key (party_id, key_id, kem, public_key, sequence, not_before, \
         not_after, active_at, retired_at, statement, entry) ",
        &changes.sealing_keys,
        |mut row, key| {
            row.push_bind(key.party.to_string())
                .push_bind(key.key_id.0.as_bytes().to_vec())
                .push_bind(i64::from(key.kem))
                .push_bind(key.public_key.clone())
                .push_bind(signed(key.sequence))
                .push_bind(millis(key.not_before))
                .push_bind(millis(key.not_after))
                .push_bind(millis(key.active_at))
                .push_bind(key.retired_at.map(millis))
                .push_bind(key.statement.clone())
                .push_bind(signed(key.entry));
        },
        " ON CONFLICT (party_id, key_id) DO UPDATE SET retired_at = excluded.retired_at",
    )
    .run(connection)
    .await
}

async fn registrations(
    connection: &mut SqliteConnection,
    changes: &Changes,
) -> Result<(), StoreError> {
    insert(
        "INSERT INTO registration (supply_point, registration_id, version, recorded_at, body) ",
        &changes.registrations,
        |mut row, (registration, recorded_at)| {
            row.push_bind(registration.supply_point.to_string())
                .push_bind(registration.registration_id.to_string())
                .push_bind(i64::from(registration.version))
                .push_bind(millis(*recorded_at))
                .push_bind(json(registration));
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO registration_event (source, event_id, content) ",
        &changes.registration_events,
        |mut row, (source, event, content)| {
            row.push_bind(source.clone())
                .push_bind(event.clone())
                .push_bind(content.as_bytes().to_vec());
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO meter \
         (supply_point, version, recorded_at, recorded_by, effective_from, body) ",
        &changes.meters,
        |mut row, meter| {
            row.push_bind(meter.supply_point.to_string())
                .push_bind(signed(meter.version))
                .push_bind(millis(meter.recorded_at))
                .push_bind(meter.recorded_by.to_string())
                .push_bind(meter.effective_from.to_string())
                .push_bind(json(meter));
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO handover (handover_id, supply_point, registration_id, losing_party, \
         gaining_party, state, effective_at, erased_after, version, body) ",
        changes.handovers.values(),
        |mut row, handover| {
            row.push_bind(handover.id.to_string())
                .push_bind(handover.supply_point.to_string())
                .push_bind(handover.registration_id.to_string())
                .push_bind(handover.losing_party.as_ref().map(ToString::to_string))
                .push_bind(handover.gaining_party.as_ref().map(ToString::to_string))
                .push_bind(handover.state.as_str())
                .push_bind(millis(handover.effective_at))
                .push_bind(handover.erased_after.map(millis))
                .push_bind(signed(handover.version))
                .push_bind(json(handover));
        },
        " ON CONFLICT (handover_id) DO UPDATE SET losing_party = excluded.losing_party, \
          gaining_party = excluded.gaining_party, state = excluded.state, \
          effective_at = excluded.effective_at, erased_after = excluded.erased_after, \
          version = excluded.version, body = excluded.body",
    )
    .run(connection)
    .await
}

async fn packages(connection: &mut SqliteConnection, changes: &Changes) -> Result<(), StoreError> {
    insert(
        "INSERT INTO envelope (envelope_id, supply_point, component, generation, handover_id, \
         status, depositor, deposited_at, epoch, facts) ",
        &changes.envelopes,
        |mut row, (facts, key, _)| {
            row.push_bind(facts.id.to_string())
                .push_bind(facts.supply_point.to_string())
                .push_bind(facts.component.as_str())
                .push_bind(i64::from(facts.generation))
                .push_bind(facts.handover.map(|id| id.to_string()))
                .push_bind(facts.status.as_str())
                .push_bind(facts.depositor.to_string())
                .push_bind(millis(facts.deposited_at))
                .push_bind(i64::from(key.epoch))
                .push_bind(json(facts));
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO sealed (envelope_id, wrapped_dek, body) ",
        &changes.envelopes,
        |mut row, (facts, key, body)| {
            row.push_bind(facts.id.to_string())
                .push_bind(key.bytes.clone())
                .push_bind(body.clone());
        },
        "",
    )
    .run(connection)
    .await?;
    changed_envelopes(connection, changes).await?;
    insert(
        "INSERT INTO stanza (envelope_id, party_id, key_id, made_by, sealed) ",
        &changes.stanzas,
        |mut row, (address, sealed)| {
            row.push_bind(address.envelope.to_string())
                .push_bind(address.party.to_string())
                .push_bind(address.key_id.0.as_bytes().to_vec())
                .push_bind(address.made_by.as_str())
                .push_bind(sealed.clone());
        },
        " ON CONFLICT (envelope_id, party_id, key_id, made_by) DO NOTHING",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO release_grant (grant_id, handover_id, supply_point, party_id, key_id, \
         envelopes, release_digest, granted_at, entry, body) ",
        &changes.grants,
        |mut row, grant| {
            row.push_bind(grant.id.to_string())
                .push_bind(grant.handover.to_string())
                .push_bind(grant.supply_point.to_string())
                .push_bind(grant.party.to_string())
                .push_bind(grant.key_id.0.as_bytes().to_vec())
                .push_bind(grant.contents().as_bytes().to_vec())
                .push_bind(grant.release.as_bytes().to_vec())
                .push_bind(millis(grant.granted_at))
                .push_bind(signed(grant.entry))
                .push_bind(json(grant));
        },
        "",
    )
    .run(connection)
    .await
}

/// Envelopes that were there before: each is a statement of its own, as they are few.
async fn changed_envelopes(
    connection: &mut SqliteConnection,
    changes: &Changes,
) -> Result<(), StoreError> {
    for (envelope, key) in &changes.rewrapped {
        sqlx::query("UPDATE envelope SET epoch = $1 WHERE envelope_id = $2")
            .bind(i64::from(key.epoch))
            .bind(envelope.to_string())
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE sealed SET wrapped_dek = $1 WHERE envelope_id = $2")
            .bind(key.bytes.clone())
            .bind(envelope.to_string())
            .execute(&mut *connection)
            .await?;
    }
    for facts in changes.statuses.values() {
        sqlx::query("UPDATE envelope SET status = $1, facts = $2 WHERE envelope_id = $3")
            .bind(facts.status.as_str())
            .bind(json(facts))
            .bind(facts.id.to_string())
            .execute(&mut *connection)
            .await?;
    }
    for envelope in &changes.erased {
        for erase in [
            "UPDATE envelope SET epoch = NULL WHERE envelope_id = $1",
            "UPDATE sealed SET wrapped_dek = NULL, body = NULL WHERE envelope_id = $1",
            "UPDATE stanza SET sealed = NULL WHERE envelope_id = $1",
        ] {
            let erase = sqlx::query(erase).bind(envelope.to_string());
            erase.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

async fn log(connection: &mut SqliteConnection, changes: &Changes) -> Result<(), StoreError> {
    insert(
        "INSERT INTO log_entry (idx, hash, leaf) ",
        &changes.entries,
        |mut row, entry| {
            row.push_bind(signed(entry.index))
                .push_bind(entry.hash.to_vec())
                .push_bind(entry.leaf.clone());
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO disclosure_key (scope, wrapped) ",
        &changes.disclosure_keys,
        |mut row, (scope, wrapped)| {
            row.push_bind(scope.clone()).push_bind(wrapped.clone());
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO disclosure (idx, scope, sealed) ",
        changes
            .entries
            .iter()
            .filter(|entry| !entry.disclosures.is_empty()),
        |mut row, entry| {
            row.push_bind(signed(entry.index))
                .push_bind(entry.scope.clone())
                .push_bind(entry.disclosures.clone());
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO entry_index (idx, at, kind, party, subject, code) ",
        &changes.entries,
        |mut row, entry| {
            row.push_bind(signed(entry.index))
                .push_bind(millis(entry.at))
                .push_bind(entry.kind.clone())
                .push_bind(entry.party.clone())
                .push_bind(entry.subject.map(|subject| subject.to_vec()))
                .push_bind(entry.code);
        },
        "",
    )
    .run(connection)
    .await?;
    nodes_and_chains(connection, changes).await
}

async fn nodes_and_chains(
    connection: &mut SqliteConnection,
    changes: &Changes,
) -> Result<(), StoreError> {
    insert(
        "INSERT INTO log_node (level, idx, hash) ",
        &changes.nodes,
        |mut row, node| {
            row.push_bind(i64::from(node.level))
                .push_bind(signed(node.index))
                .push_bind(node.hash.to_vec());
        },
        "",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO actor (actor, sequence, entry) ",
        &changes.actors,
        |mut row, (actor, (sequence, entry))| {
            row.push_bind(actor.clone())
                .push_bind(signed(*sequence))
                .push_bind(signed(*entry));
        },
        " ON CONFLICT (actor) DO UPDATE SET sequence = excluded.sequence, entry = excluded.entry",
    )
    .run(connection)
    .await?;
    insert(
        "INSERT INTO idempotency (identity, key, request_digest, created_at, entry, answer) ",
        &changes.idempotency,
        |mut row, ((identity, key), answer)| {
            row.push_bind(identity.clone())
                .push_bind(key.clone())
                .push_bind(answer.request.as_bytes().to_vec())
                .push_bind(millis(answer.created_at))
                .push_bind(signed(answer.entry))
                .push_bind(answer.answer.clone());
        },
        "",
    )
    .run(connection)
    .await
}

/// Statements that are built before anything is awaited.
struct Insert(Vec<QueryBuilder<Sqlite>>);

/// One `INSERT … VALUES (…), (…) …` per stretch of rows; none for no rows.
fn insert<T>(
    into: &'static str,
    rows: impl IntoIterator<Item = T>,
    bind: impl Fn(Separated<'_, Sqlite, &'static str>, T),
    after: &'static str,
) -> Insert {
    let mut rows = rows.into_iter().peekable();
    let mut statements = Vec::new();
    while rows.peek().is_some() {
        let mut query = QueryBuilder::<Sqlite>::new(into);
        query.push_values(rows.by_ref().take(MAX_ROWS), &bind);
        query.push(after);
        statements.push(query);
    }
    Insert(statements)
}

impl Insert {
    async fn run(self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        for mut statement in self.0 {
            let query = statement.build().persistent(false);
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("rows of text and numbers serialise")
}

/// Rows a statement: below SQLite's 32,766 variables for the widest table.
const MAX_ROWS: usize = 1_000;
