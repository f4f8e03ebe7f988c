//! Looking at many takeovers: pages and counts, so that nobody has to hold all of them.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{QueryBuilder, Row as _};

use super::rows::{Job, millis};
use super::{Journal, JournalError, Progress, RunId, State};
use crate::meter::escrow::StopReason;
use crate::meter::released::LeftOut;
use crate::types::{HandoverId, MeterSerial, PartyId, SupplyPoint, Timestamp};

/// One line of the list of takeovers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The handover.
    pub handover: HandoverId,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// The serial number of the meter.
    pub serial: MeterSerial,
    /// The network that it is reached through, empty if that is not known.
    pub network: String,
    /// How far it is.
    pub state: State,
    /// Why it goes no further.
    pub stopped: Option<StopReason>,
    /// Nothing is tried before this time.
    pub wait_until: Timestamp,
    /// How its last run ended, if one did.
    pub note: Option<Note>,
    /// At whose address the meter was entered, and of which generation; none before that, and where the address is ours.
    pub address_of: Option<(PartyId, u32)>,
    /// What of the release is not used.
    pub left_out: Vec<LeftOut>,
}

impl Status {
    /// Whether the escrow knows how it ended.
    pub fn is_over(&self) -> bool {
        self.state == State::Reported
    }
}

/// How a run of one takeover ended, in words of the caller's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// One word.
    pub outcome: String,
    /// Why.
    pub reason: String,
}

/// Of which takeovers.
#[derive(Clone, Copy, Debug, Default)]
pub enum Scope {
    /// All in the journal.
    #[default]
    All,
    /// Those of one run.
    Run(RunId),
}

/// Which takeovers to list.
#[derive(Clone, Debug)]
pub struct Query {
    /// Of which.
    pub scope: Scope,
    /// In these states; in any if none is named.
    pub states: Vec<State>,
    /// Those whose last run ended like this; however if none is named.
    pub outcomes: Vec<String>,
    /// Those behind this one.
    pub after: Option<HandoverId>,
    /// How many at most.
    pub limit: u32,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            scope: Scope::All,
            states: Vec::new(),
            outcomes: Vec::new(),
            after: None,
            limit: u32::MAX,
        }
    }
}

/// How many takeovers are where.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// By state.
    pub states: BTreeMap<State, usize>,
    /// Not over, and to be left alone until later.
    pub waiting: usize,
    /// Not over, and for people.
    pub stopped: usize,
}

/// A takeover that may run now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// Its handover.
    pub handover: HandoverId,
    /// How far it is.
    pub state: State,
}

impl Journal {
    /// Takeovers, by handover.
    pub async fn list(&self, query: &Query) -> Result<Vec<Status>, JournalError> {
        let columns = "SELECT handover, job, network, progress, outcome, reason FROM takeovers";
        let mut sql = scoped(columns, query.scope);
        if let Some(after) = query.after {
            sql.push(" AND handover > ").push_bind(after.to_string());
        }
        if !query.states.is_empty() {
            let states = query.states.iter().map(|state| state.as_str());
            one_of(&mut sql, "state", states);
        }
        if !query.outcomes.is_empty() {
            one_of(
                &mut sql,
                "outcome",
                query.outcomes.iter().map(String::as_str),
            );
        }
        sql.push(" ORDER BY handover LIMIT ").push_bind(query.limit);
        let rows = sql.build().fetch_all(&self.readers).await?;
        rows.iter().map(status).collect()
    }

    /// How many takeovers are where, as of now.
    pub async fn tally(&self, scope: Scope, now: Timestamp) -> Result<Tally, JournalError> {
        let mut sql = QueryBuilder::new(
            "SELECT state, count(*), sum(stopped IS NOT NULL), sum(stopped IS NULL AND wait_until > ",
        );
        sql.push_bind(millis(now)).push(") FROM takeovers");
        limit_to(&mut sql, scope);
        sql.push(" GROUP BY state");
        let mut tally = Tally::default();
        for row in sql.build().fetch_all(&self.readers).await? {
            let state: State = parse_state(row.try_get(0)?)?;
            let count = |at: usize| -> Result<usize, JournalError> {
                let count: i64 = row.try_get(at)?;
                usize::try_from(count).map_err(|error| JournalError::Damaged(error.to_string()))
            };
            tally.states.insert(state, count(1)?);
            if state != State::Reported {
                tally.stopped += count(2)?;
                tally.waiting += count(3)?;
            }
        }
        Ok(tally)
    }

    /// The networks of takeovers that are not over.
    pub async fn networks(&self, scope: Scope) -> Result<Vec<String>, JournalError> {
        let mut sql = scoped("SELECT DISTINCT network FROM takeovers", scope);
        sql.push(" AND state <> 'reported' ORDER BY network");
        Ok(sql.build_query_scalar().fetch_all(&self.readers).await?)
    }

    /// The next takeovers of a network that are not over and need not wait, by handover.
    pub async fn due(
        &self,
        scope: Scope,
        network: &str,
        now: Timestamp,
        (after, limit): (Option<HandoverId>, u32),
    ) -> Result<Vec<Due>, JournalError> {
        let mut sql = scoped("SELECT handover, state FROM takeovers", scope);
        sql.push(" AND state <> 'reported' AND wait_until <= ")
            .push_bind(millis(now));
        sql.push(" AND network = ").push_bind(network);
        if let Some(after) = after {
            sql.push(" AND handover > ").push_bind(after.to_string());
        }
        sql.push(" ORDER BY handover LIMIT ").push_bind(limit);
        let due = |row: &SqliteRow| {
            Ok(Due {
                handover: row.try_get::<&str, _>(0)?.parse()?,
                state: parse_state(row.try_get(1)?)?,
            })
        };
        let rows = sql.build().fetch_all(&self.readers).await?;
        rows.iter().map(due).collect()
    }

    /// When the first takeover that waits may be run again.
    pub async fn next_due(&self, scope: Scope) -> Result<Option<Timestamp>, JournalError> {
        let mut sql = scoped("SELECT min(wait_until) FROM takeovers", scope);
        sql.push(" AND state <> 'reported' AND stopped IS NULL");
        let next: Option<i64> = sql.build_query_scalar().fetch_one(&self.readers).await?;
        Ok(next
            .and_then(|millis| u64::try_from(millis).ok())
            .map(Timestamp::from_millis))
    }

    /// Makes every takeover that is not over part of this run.
    pub async fn adopt(&self, run: RunId) -> Result<(), JournalError> {
        let adopted = self.writer.write(move |batch| {
            async move {
                sqlx::query("UPDATE takeovers SET run = $1 WHERE state <> 'reported'")
                    .bind(run.0.to_vec())
                    .execute(&mut batch.connection)
                    .await?;
                Ok(())
            }
            .boxed()
        });
        adopted.await
    }

    /// Notes how a run ended, for those who look later. It decides nothing.
    pub async fn note(&self, handover: HandoverId, note: Note) -> Result<(), JournalError> {
        let noted = self.writer.write(move |batch| {
            async move {
                sqlx::query("UPDATE takeovers SET outcome = $2, reason = $3 WHERE handover = $1")
                    .bind(handover.to_string())
                    .bind(note.outcome)
                    .bind(note.reason)
                    .execute(&mut batch.connection)
                    .await?;
                Ok(())
            }
            .boxed()
        });
        noted.await
    }
}

fn scoped(select: &'static str, scope: Scope) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(select);
    limit_to(&mut sql, scope);
    sql
}

fn limit_to(sql: &mut QueryBuilder<Sqlite>, scope: Scope) {
    match scope {
        Scope::All => sql.push(" WHERE true"),
        Scope::Run(run) => sql.push(" WHERE run = ").push_bind(run.0.to_vec()),
    };
}

fn one_of<'a>(
    sql: &mut QueryBuilder<Sqlite>,
    column: &'static str,
    words: impl Iterator<Item = &'a str>,
) {
    sql.push(" AND ").push(column).push(" IN (");
    let mut list = sql.separated(", ");
    for word in words {
        list.push_bind(word.to_owned());
    }
    sql.push(")");
}

fn status(row: &SqliteRow) -> Result<Status, JournalError> {
    let job: Job = serde_json::from_str(row.try_get("job")?)?;
    let progress: Progress = serde_json::from_str(row.try_get("progress")?)?;
    let outcome: Option<String> = row.try_get("outcome")?;
    let reason: Option<String> = row.try_get("reason")?;
    let address_of = (progress.released).and_then(|_| job.address_of(progress.way));
    Ok(Status {
        address_of,
        left_out: job.left_out,
        handover: row.try_get::<&str, _>("handover")?.parse()?,
        supply_point: job.supply_point,
        serial: job.serial,
        network: row.try_get("network")?,
        state: progress.state,
        stopped: progress.stopped,
        wait_until: progress.wait_until,
        note: outcome.map(|outcome| Note {
            outcome,
            reason: reason.unwrap_or_default(),
        }),
    })
}

fn parse_state(word: &str) -> Result<State, JournalError> {
    let state = State::ALL.into_iter().find(|state| state.as_str() == word);
    state.ok_or_else(|| JournalError::Damaged(format!("`{word}` is no state")))
}
