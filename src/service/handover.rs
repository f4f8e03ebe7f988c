//! Work lists: what each supplier has to do.

use serde::{Deserialize, Serialize};

use super::supplier::is_involved;
use super::{Caller, Escrow, Failure, Receipt};
use crate::handover::State;
use crate::store::{Handover, HandoverFilter, Page, ReadState, Side};
use crate::types::{
    Code, HandoverId, Mpid, PartyId, RegistrationId, SupplyPoint, SupplyStartDate, Timestamp,
};

/// Which handovers to list.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct HandoverQuery {
    /// On which side: `losing` or `gaining`.
    #[param(value_type = String)]
    pub role: Side,
    /// Only in this state.
    #[param(value_type = Option<String>)]
    pub state: Option<State>,
    /// Only at this supply point.
    #[param(value_type = Option<String>)]
    pub supply_point: Option<SupplyPoint>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    pub after: Option<HandoverId>,
    /// At most this many, up to 1,000; 100 if not given.
    pub limit: Option<u32>,
}

/// A page of a work list.
#[derive(Clone, Debug, Serialize)]
pub struct HandoverPage {
    /// The handovers.
    pub handovers: Vec<HandoverView>,
    /// Where the next page begins, if there is one.
    pub next: Option<HandoverId>,
}

/// A handover as its two suppliers see it; nobody else sees it at all.
#[derive(Clone, Debug, Serialize)]
pub struct HandoverView {
    /// Its id.
    pub id: HandoverId,
    /// Where.
    pub supply_point: SupplyPoint,
    /// The registration that causes it.
    pub registration_id: RegistrationId,
    /// From which date the gaining supplier supplies.
    pub supply_start_date: SupplyStartDate,
    /// The instant of that date.
    pub effective_at: Timestamp,
    /// Who supplies until then.
    pub losing: Counterparty,
    /// Who supplies from then on.
    pub gaining: Counterparty,
    /// Where it stands.
    pub state: State,
    /// The strong ETag.
    pub version: u64,
    /// When the losing supplier's package came.
    pub deposited_at: Option<Timestamp>,
    /// When the package was first released.
    pub released_at: Option<Timestamp>,
    /// When the gaining supplier confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// With what outcome.
    pub outcome: Option<String>,
    /// Whether the closing read is agreed.
    pub read: ReadState,
    /// Whether it gives a supply point back that was switched in error.
    pub erroneous_return: bool,
    /// Proof of the newest release, for the supplier that loses the point, where one handover is shown: that it is in the
    /// log, not what the gaining supplier was shown of it.
    pub release_receipt: Option<Receipt>,
}

/// One of the two suppliers.
#[derive(Clone, Debug, Serialize)]
pub struct Counterparty {
    /// The party, if it takes part.
    pub party: Option<PartyId>,
    /// The MPID that it is registered under.
    pub mpid: Option<Mpid>,
}

impl From<Handover> for HandoverView {
    fn from(handover: Handover) -> Self {
        Self {
            id: handover.id,
            supply_point: handover.supply_point,
            registration_id: handover.registration_id,
            supply_start_date: handover.supply_start_date,
            effective_at: handover.effective_at,
            losing: Counterparty {
                party: handover.losing_party,
                mpid: handover.losing_mpid,
            },
            gaining: Counterparty {
                party: handover.gaining_party,
                mpid: Some(handover.gaining_mpid),
            },
            state: handover.state,
            version: handover.version,
            deposited_at: handover.deposited_at,
            released_at: handover.released_at,
            confirmed_at: handover.confirmed_at,
            outcome: handover.outcome,
            read: handover.read,
            erroneous_return: handover.erroneous_return,
            release_receipt: None,
        }
    }
}

impl Escrow {
    /// The caller's handovers on one side.
    pub async fn handovers(
        &self,
        caller: &Caller,
        query: &HandoverQuery,
    ) -> Result<HandoverPage, Failure> {
        let limit = query.limit.unwrap_or(100).clamp(1, MAX_PAGE);
        let filter = HandoverFilter {
            party: caller.party()?.clone(),
            side: query.role,
            state: query.state.map(|state| state.as_str().to_owned()),
            supply_point: query.supply_point.clone(),
            page: Page {
                after: query.after,
                limit,
            },
        };
        let handovers = self.shared.store.handovers(&filter).await?;
        let next = (handovers.len() == limit as usize)
            .then(|| handovers.last().map(|h| h.id))
            .flatten();
        Ok(HandoverPage {
            handovers: handovers.into_iter().map(HandoverView::from).collect(),
            next,
        })
    }

    /// One handover of the caller's.
    pub async fn handover(&self, caller: &Caller, id: HandoverId) -> Result<HandoverView, Failure> {
        let party = caller.party()?;
        self.limited(party, self.shown(party, id)).await
    }

    async fn shown(&self, party: &PartyId, id: HandoverId) -> Result<HandoverView, Failure> {
        let supply_point = self.shared.supply_point_of(id).await?;
        let facts = self
            .shared
            .facts(|needs| {
                needs.guarded.insert(supply_point.clone());
            })
            .await?;
        let point = facts.supply_points.get(&supply_point);
        let shown = point.and_then(|point| {
            let handover = point.handovers.iter().find(|h| h.id == id)?;
            let now = self.shared.clock.now();
            let grants = point.grants.iter().filter(|grant| grant.handover == id);
            let released = grants.map(|grant| grant.entry).max();
            is_involved(party, &facts.directory, point, handover, now)
                .then(|| (HandoverView::from(handover.clone()), released))
        });
        let (mut view, released) = shown.ok_or_else(|| Failure::refused(Code::NotFound))?;
        if let Some(entry) = released
            && view.losing.party.as_ref() == Some(party)
        {
            view.release_receipt = self.shared.proof_of(entry).await?;
        }
        Ok(view)
    }
}

/// Handovers on one page.
const MAX_PAGE: u32 = 1_000;
