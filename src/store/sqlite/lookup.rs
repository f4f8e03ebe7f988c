//! Reads outside a batch: work lists, bodies to release, where a handover is.

use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::{
    Handover, HandoverFilter, Page, Sealed, Side, StanzaAddress, StoreError, Wrapped, WrappedKey,
};
use super::Store;
use super::load::{body, parsed, time};
use super::log::millis;
use crate::types::{EnvelopeId, HandoverId, SupplyPoint, Timestamp};

impl Store {
    /// The supply point of a handover, which never changes. Of a handover that does not exist: that of the next one, so
    /// that deciding about it reads as much as deciding about one that does. None if there are no handovers.
    pub async fn supply_point_near(
        &self,
        handover: HandoverId,
    ) -> Result<Option<SupplyPoint>, StoreError> {
        let near: Option<String> = sqlx::query_scalar(
            "SELECT COALESCE( \
               (SELECT supply_point FROM handover WHERE handover_id >= $1 ORDER BY handover_id LIMIT 1), \
               (SELECT supply_point FROM handover ORDER BY handover_id LIMIT 1))",
        )
        .bind(handover.to_string())
        .fetch_one(&self.readers)
        .await?;
        near.map(|text| text.parse())
            .transpose()
            .map_err(|error| StoreError::corrupt("handover", error))
    }

    /// The handovers that a filter shows, by id.
    pub async fn handovers(&self, filter: &HandoverFilter) -> Result<Vec<Handover>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT body FROM handover WHERE ");
        query
            .push(match filter.side {
                Side::Losing => "losing_party = ",
                Side::Gaining => "gaining_party = ",
            })
            .push_bind(filter.party.to_string());
        if let Some(state) = &filter.state {
            query.push(" AND state = ").push_bind(state.clone());
        }
        if let Some(supply_point) = &filter.supply_point {
            query
                .push(" AND supply_point = ")
                .push_bind(supply_point.to_string());
        }
        if let Some(after) = filter.page.after {
            query
                .push(" AND handover_id > ")
                .push_bind(after.to_string());
        }
        query
            .push(" ORDER BY handover_id LIMIT ")
            .push_bind(i64::from(filter.page.limit));
        query
            .build()
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| body("handover", row))
            .collect()
    }

    /// The body and wrapped key of an envelope that has not been erased, both as of one instant.
    pub async fn sealed(&self, envelope: EnvelopeId) -> Result<Option<Sealed>, StoreError> {
        let row = sqlx::query(
            "SELECT s.body, s.wrapped_dek, e.epoch FROM sealed AS s \
             JOIN envelope AS e USING (envelope_id) \
             WHERE s.envelope_id = $1 AND s.body IS NOT NULL AND e.epoch IS NOT NULL",
        )
        .bind(envelope.to_string())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| {
            Ok(Sealed {
                body: row.try_get(0)?,
                key: WrappedKey {
                    bytes: row.try_get(1)?,
                    epoch: row.try_get(2)?,
                },
            })
        })
        .transpose()
    }

    /// A stanza, encrypted under its record, if there is one.
    pub async fn stanza(&self, address: &StanzaAddress) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT sealed FROM stanza WHERE envelope_id = $1 AND party_id = $2 AND key_id = $3 \
             AND made_by = $4 AND sealed IS NOT NULL",
        )
        .bind(address.envelope.to_string())
        .bind(address.party.to_string())
        .bind(address.key_id.0.as_bytes().to_vec())
        .bind(address.made_by.as_str())
        .fetch_optional(&self.readers)
        .await?)
    }

    /// A page of the handovers for which no package has come and that start by `until`, behind `after`: when it starts,
    /// and which it is.
    pub async fn expected_handovers(
        &self,
        until: Timestamp,
        page: &Page<(Timestamp, HandoverId)>,
    ) -> Result<Vec<Handover>, StoreError> {
        let (starts, id) = match &page.after {
            Some((starts, id)) => (millis(*starts), id.to_string()),
            None => (0, String::new()),
        };
        sqlx::query(
            "SELECT body FROM handover WHERE state = 'expected' AND effective_at <= $1 \
             AND (effective_at, handover_id) > ($2, $3) \
             ORDER BY effective_at, handover_id LIMIT $4",
        )
        .bind(millis(until))
        .bind(starts)
        .bind(id)
        .bind(i64::from(page.limit))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| body("handover", row))
        .collect()
    }

    /// Envelopes whose key is wrapped under an epoch before `epoch`, in the order of their places, behind `after`.
    pub async fn wrapped_before(
        &self,
        epoch: u32,
        after: (u32, i64),
        limit: u32,
    ) -> Result<Vec<Wrapped>, StoreError> {
        sqlx::query(
            "SELECT e.facts, s.wrapped_dek, e.epoch, e.rowid FROM envelope AS e \
             JOIN sealed AS s USING (envelope_id) \
             WHERE e.epoch < $1 AND s.wrapped_dek IS NOT NULL AND (e.epoch, e.rowid) > ($2, $3) \
             ORDER BY e.epoch, e.rowid LIMIT $4",
        )
        .bind(i64::from(epoch))
        .bind(i64::from(after.0))
        .bind(after.1)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(Wrapped {
                place: (row.try_get(2)?, row.try_get(3)?),
                wrapped: row.try_get(1)?,
                envelope: body("envelope", row),
            })
        })
        .collect()
    }

    /// Forgets answers that were given under idempotency keys before `before`: nobody repeats a request for so long.
    pub async fn forget_answers(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let forgotten = sqlx::query("DELETE FROM idempotency WHERE created_at < $1")
            .bind(millis(before))
            .execute(&mut *writer)
            .await?;
        Ok(forgotten.rows_affected())
    }

    /// A page of the handovers whose grace is over at `now` and that are not closed, behind `after`: when it ended, and
    /// which they are.
    pub async fn past_grace(
        &self,
        now: Timestamp,
        page: &Page<(Timestamp, HandoverId)>,
    ) -> Result<Vec<(Timestamp, HandoverId, SupplyPoint)>, StoreError> {
        let (ended, id) = match &page.after {
            Some((ended, id)) => (millis(*ended), id.to_string()),
            None => (0, String::new()),
        };
        sqlx::query(
            "SELECT erased_after, handover_id, supply_point FROM handover \
             WHERE state <> 'closed' AND erased_after <= $1 \
             AND (erased_after, handover_id) > ($2, $3) \
             ORDER BY erased_after, handover_id LIMIT $4",
        )
        .bind(millis(now))
        .bind(ended)
        .bind(id)
        .bind(i64::from(page.limit))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let ended = time("handover", row, 0)?;
            Ok((
                ended,
                parsed("handover", row, 1)?,
                parsed("handover", row, 2)?,
            ))
        })
        .collect()
    }
}
