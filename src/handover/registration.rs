//! Registrations, bitemporal: each event makes a new version of what is known; nothing is overwritten.
//!
//! A registration is one supplier's claim to one supply point from a supply start date on. Its events arrive from the
//! registration service, sometimes twice, sometimes out of order: an older event fills gaps but never takes back what
//! a newer one said.

use serde::{Deserialize, Serialize};

use crate::types::{
    Code, Digest, MeterSerial, Mpid, RegistrationId, SupplyPoint, SupplyStartDate, Timestamp,
};

/// What a registration source says happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegistrationEvent {
    /// Which source says it.
    pub source: String,
    /// The source's own name for the event.
    pub event_id: String,
    /// When it happened, by the source's clock.
    pub occurred_at: Timestamp,
    /// The registration that it is about.
    pub registration_id: RegistrationId,
    /// Where.
    pub supply_point: SupplyPoint,
    /// What happened.
    pub change: Change,
}

impl RegistrationEvent {
    /// The digest of what it says, its name apart: the same event comes again with the same content.
    pub fn content(&self) -> Digest {
        let says = (
            self.occurred_at,
            &self.registration_id,
            &self.supply_point,
            &self.change,
        );
        Digest::of(&serde_json::to_vec(&says).expect("an event is made of texts"))
    }
}

/// What happened to a registration.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A supplier has asked to supply from a date on.
    Pending {
        /// Who.
        supplier: Mpid,
        /// From when.
        supply_start_date: SupplyStartDate,
        /// Whether it gives a supply point back that was switched in error.
        erroneous_return: bool,
    },
    /// The request is well formed, or was not objected to; says nothing new about who or when.
    Progressed,
    /// It can no longer be stopped: at gate closure, the evening before.
    Secured {
        /// Who, where the source says it: the real feed does not.
        supplier: Option<Mpid>,
        /// From when, where the source says it.
        supply_start_date: Option<SupplyStartDate>,
    },
    /// The losing supplier's objection was upheld.
    Rejected,
    /// It was withdrawn.
    Cancelled,
    /// It was found to be void after it took effect.
    Annulled,
    /// A row of a full copy of the registration data.
    Snapshot {
        /// Who.
        supplier: Mpid,
        /// From when.
        supply_start_date: SupplyStartDate,
        /// Until when, exclusive.
        supply_end_date: Option<SupplyStartDate>,
        /// Which meter, where the source knows.
        meter: Option<MeterSerial>,
    },
}

/// Where a registration stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Asked for.
    Pending,
    /// Certain: the supplier supplies from the start date on.
    Secured,
    /// Objected to.
    Rejected,
    /// Withdrawn.
    Cancelled,
    /// Void after the fact.
    Annulled,
}

/// One version of what is known of a registration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Registration {
    /// The source's name for it.
    pub registration_id: RegistrationId,
    /// Where.
    pub supply_point: SupplyPoint,
    /// Who, once an event has said it.
    pub supplier: Option<Mpid>,
    /// From when, once an event has said it.
    pub supply_start_date: Option<SupplyStartDate>,
    /// Until when, exclusive, where a source says so.
    pub supply_end_date: Option<SupplyStartDate>,
    /// Where it stands.
    pub status: Status,
    /// Whether it was ever secured.
    pub was_secured: bool,
    /// Which meter, where a source knows.
    pub meter: Option<MeterSerial>,
    /// Whether it gives back a supply point that was switched in error.
    pub erroneous_return: bool,
    /// One for the first version.
    pub version: u32,
    /// When the event behind the status happened.
    pub status_at: Timestamp,
    /// When the row of a full copy behind end and meter was recorded.
    pub snapshot_at: Timestamp,
    /// The event that made this version.
    pub event_id: String,
    /// Its source.
    pub source: String,
}

/// Names one version of a registration, which never changes.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RegistrationVersion {
    /// Of which registration.
    pub registration_id: RegistrationId,
    /// One for the first.
    pub version: u32,
}

impl Registration {
    /// The name of this version.
    pub fn name(&self) -> RegistrationVersion {
        RegistrationVersion {
            registration_id: self.registration_id.clone(),
            version: self.version,
        }
    }

    /// What is known after an event; none if the event says nothing new.
    ///
    /// An event that contradicts what is known of supplier or supply point is a `registration_conflict`.
    pub fn apply(known: Option<&Self>, event: &RegistrationEvent) -> Result<Option<Self>, Code> {
        let before = known.cloned().unwrap_or_else(|| Self::unheard_of(event));
        let mut after = before.clone();
        if before.supply_point != event.supply_point {
            return Err(Code::RegistrationConflict);
        }
        after.learn(event)?;
        let newest = event.occurred_at >= before.status_at || known.is_none();
        if let (true, Some(status)) = (newest, event.change.status()) {
            after.status = status;
            after.status_at = event.occurred_at;
        }
        after.was_secured |= event.change.status() == Some(Status::Secured);
        if known.is_some() && after == before {
            return Ok(None);
        }
        after.version = before.version + 1;
        after.event_id.clone_from(&event.event_id);
        after.source.clone_from(&event.source);
        Ok(Some(after))
    }

    /// When supply starts, if known.
    pub fn effective_at(&self) -> Option<Timestamp> {
        self.supply_start_date.map(SupplyStartDate::effective_at)
    }

    fn unheard_of(event: &RegistrationEvent) -> Self {
        Self {
            registration_id: event.registration_id.clone(),
            supply_point: event.supply_point.clone(),
            supplier: None,
            supply_start_date: None,
            supply_end_date: None,
            status: Status::Pending,
            was_secured: false,
            meter: None,
            erroneous_return: false,
            version: 0,
            status_at: Timestamp::default(),
            snapshot_at: Timestamp::default(),
            event_id: String::new(),
            source: String::new(),
        }
    }

    /// Fills gaps, and refuses contradictions. Of end and meter the newest copy has the last word: none is its word on
    /// the end, while a meter that it does not name is not known to it.
    fn learn(&mut self, event: &RegistrationEvent) -> Result<(), Code> {
        let (supplier, date) = match &event.change {
            Change::Pending {
                supplier,
                supply_start_date,
                erroneous_return,
            } => {
                self.erroneous_return |= erroneous_return;
                (Some(*supplier), Some(*supply_start_date))
            }
            Change::Secured {
                supplier,
                supply_start_date,
            } => (*supplier, *supply_start_date),
            Change::Snapshot {
                supplier,
                supply_start_date,
                supply_end_date,
                meter,
            } => {
                let newest = event.occurred_at >= self.snapshot_at;
                if newest {
                    self.snapshot_at = event.occurred_at;
                    self.supply_end_date = *supply_end_date;
                }
                if meter.is_some() && (newest || self.meter.is_none()) {
                    self.meter.clone_from(meter);
                }
                (Some(*supplier), Some(*supply_start_date))
            }
            Change::Progressed | Change::Rejected | Change::Cancelled | Change::Annulled => {
                (None, None)
            }
        };
        fill(&mut self.supplier, supplier)?;
        fill(&mut self.supply_start_date, date)
    }

    /// Whether by this version its supplier supplies at `at`, if no later registration does.
    pub fn in_force_at(&self, at: Timestamp) -> bool {
        self.status == Status::Secured
            && self.supplier.is_some()
            && self.effective_at().is_some_and(|start| start <= at)
            && self
                .supply_end_date
                .is_none_or(|end| at < end.effective_at())
    }
}

fn fill<T: Copy + PartialEq>(known: &mut Option<T>, said: Option<T>) -> Result<(), Code> {
    match (*known, said) {
        (Some(known), Some(said)) if known != said => Err(Code::RegistrationConflict),
        (None, Some(_)) => {
            *known = said;
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Change {
    fn status(&self) -> Option<Status> {
        match self {
            Self::Pending { .. } => Some(Status::Pending),
            Self::Progressed => None,
            Self::Secured { .. } | Self::Snapshot { .. } => Some(Status::Secured),
            Self::Rejected => Some(Status::Rejected),
            Self::Cancelled => Some(Status::Cancelled),
            Self::Annulled => Some(Status::Annulled),
        }
    }
}

/// The registration in force at `at`: of the secured ones that have started, the one that started last.
pub fn supplier_at(registrations: &[Registration], at: Timestamp) -> Option<&Registration> {
    registrations
        .iter()
        .filter(|registration| registration.in_force_at(at))
        .max_by_key(|registration| (registration.effective_at(), registration.status_at))
}

/// The registration in force on the day before `registration` starts.
pub fn previous_supplier<'r>(
    registrations: &'r [Registration],
    registration: &Registration,
) -> Option<&'r Registration> {
    let eve = registration.supply_start_date?.previous().effective_at();
    let others = registrations
        .iter()
        .filter(|other| other.registration_id != registration.registration_id);
    others
        .filter(|other| other.in_force_at(eve))
        .max_by_key(|other| (other.effective_at(), other.status_at))
}

/// What check 6 makes of a registration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Secured, and in force or about to be.
    Secured,
    /// Not secured: pending, or objected to before it was.
    NotSecured,
    /// Withdrawn after it was secured.
    Withdrawn,
    /// Void after the fact.
    Annulled,
    /// It has started, and another one is in force, or none any more.
    Superseded,
}

/// How `registration` stands at `at` among all registrations of its supply point.
pub fn standing(
    registrations: &[Registration],
    registration: &Registration,
    at: Timestamp,
) -> Standing {
    match registration.status {
        Status::Annulled => Standing::Annulled,
        Status::Cancelled | Status::Rejected if registration.was_secured => Standing::Withdrawn,
        Status::Pending | Status::Cancelled | Status::Rejected => Standing::NotSecured,
        Status::Secured if registration.effective_at().is_none_or(|start| at < start) => {
            Standing::Secured
        }
        // Once it has started, only the registration in force is one: not a rival of the same date, not one that ended.
        Status::Secured => match supplier_at(registrations, at) {
            Some(current) if current.registration_id == registration.registration_id => {
                Standing::Secured
            }
            _ => Standing::Superseded,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, hour: u64, change: Change) -> RegistrationEvent {
        RegistrationEvent {
            source: "css".to_owned(),
            event_id: id.to_owned(),
            occurred_at: Timestamp::from_seconds(1_735_700_000 + hour * 3600),
            registration_id: "R1".parse().unwrap(),
            supply_point: "2499999999991".parse().unwrap(),
            change,
        }
    }

    fn pending(hour: u64) -> RegistrationEvent {
        let change = Change::Pending {
            supplier: "GAIN".parse().unwrap(),
            supply_start_date: "2025-03-30".parse().unwrap(),
            erroneous_return: false,
        };
        event("pending", hour, change)
    }

    fn secured(hour: u64) -> RegistrationEvent {
        let change = Change::Secured {
            supplier: None,
            supply_start_date: None,
        };
        event("secured", hour, change)
    }

    fn after(events: &[RegistrationEvent]) -> Registration {
        let mut known = None;
        for event in events {
            if let Some(next) = Registration::apply(known.as_ref(), event).unwrap() {
                known = Some(next);
            }
        }
        known.unwrap()
    }

    fn snapshot(id: &str, supplier: &str, date: &str) -> Registration {
        let change = Change::Snapshot {
            supplier: supplier.parse().unwrap(),
            supply_start_date: date.parse().unwrap(),
            supply_end_date: None,
            meter: None,
        };
        let event = RegistrationEvent {
            registration_id: id.parse().unwrap(),
            ..event(id, 0, change)
        };
        after(&[event])
    }

    #[test]
    fn a_secured_event_without_supplier_joins_its_pending_one_in_either_order() {
        for events in [[pending(1), secured(2)], [secured(2), pending(1)]] {
            let known = after(&events);
            assert_eq!(known.status, Status::Secured);
            assert_eq!(known.supplier, Some("GAIN".parse().unwrap()));
            assert_eq!(known.version, 2);
        }
    }

    #[test]
    fn the_newest_copy_has_the_last_word_on_meter_and_end_in_either_order() {
        let copy = |hour, meter: Option<&str>, end: Option<&str>| {
            let change = Change::Snapshot {
                supplier: "GAIN".parse().unwrap(),
                supply_start_date: "2025-03-30".parse().unwrap(),
                supply_end_date: end.map(|end| end.parse().unwrap()),
                meter: meter.map(|meter| meter.parse().unwrap()),
            };
            event(&format!("copy-{hour}"), hour, change)
        };
        let old = copy(1, Some("OLD1"), Some("2025-06-01"));
        let new = copy(2, Some("NEW1"), None);
        for events in [[old.clone(), new.clone()], [new, old.clone()]] {
            let known = after(&events);
            assert_eq!(known.meter, Some("NEW1".parse().unwrap()));
            assert_eq!(known.supply_end_date, None);
        }
        // A copy that does not know the meter does not take it away.
        let silent = copy(2, None, None);
        for events in [[old.clone(), silent.clone()], [silent, old]] {
            assert_eq!(after(&events).meter, Some("OLD1".parse().unwrap()));
        }
    }

    #[test]
    fn a_repeated_event_says_nothing_new() {
        let known = after(&[pending(1), secured(2)]);
        for event in [pending(1), secured(2)] {
            assert_eq!(Registration::apply(Some(&known), &event), Ok(None));
        }
    }

    #[test]
    fn another_supplier_or_supply_point_is_a_conflict() {
        let known = after(&[pending(1)]);
        let change = Change::Secured {
            supplier: Some("EVIL".parse().unwrap()),
            supply_start_date: None,
        };
        let event = event("secured", 2, change);
        let conflict = Err(Code::RegistrationConflict);
        assert_eq!(Registration::apply(Some(&known), &event), conflict);
        let elsewhere = RegistrationEvent {
            supply_point: "1312345678907".parse().unwrap(),
            ..secured(2)
        };
        assert_eq!(Registration::apply(Some(&known), &elsewhere), conflict);
    }

    #[test]
    fn a_withdrawal_after_securing_is_told_from_an_objection_before() {
        let withdrawn = after(&[pending(1), secured(2), event("c", 3, Change::Cancelled)]);
        let objected = after(&[pending(1), event("r", 2, Change::Rejected)]);
        let at = Timestamp::from_seconds(1_800_000_000);
        for (registration, expected) in [
            (withdrawn, Standing::Withdrawn),
            (objected, Standing::NotSecured),
        ] {
            let all = [registration.clone()];
            assert_eq!(standing(&all, &registration, at), expected);
            assert_eq!(supplier_at(&all, at), None);
        }
    }

    #[test]
    fn once_it_has_started_only_the_registration_in_force_stands() {
        let at = "2025-06-10T00:00:00Z".parse().unwrap();
        let before = "2025-05-01T00:00:00Z".parse().unwrap();
        let mut first = snapshot("A", "AAAA", "2025-06-02");
        let mut rival = snapshot("B", "BBBB", "2025-06-02");
        rival.status_at = first.status_at.after(std::time::Duration::from_secs(1));
        let all = [first.clone(), rival.clone()];
        assert_eq!(standing(&all, &first, at), Standing::Superseded);
        assert_eq!(standing(&all, &rival, at), Standing::Secured);
        assert_eq!(standing(&all, &first, before), Standing::Secured);
        first.supply_end_date = Some("2025-06-05".parse().unwrap());
        let alone = [first.clone()];
        assert_eq!(standing(&alone, &first, at), Standing::Superseded);
    }

    #[test]
    fn of_two_switches_in_a_week_each_supplier_has_its_days() {
        let all = [
            snapshot("A", "AAAA", "2020-01-01"),
            snapshot("B", "BBBB", "2025-06-02"),
            snapshot("C", "CCCC", "2025-06-05"),
        ];
        let on = |date: &str| {
            let at = date.parse::<SupplyStartDate>().unwrap().effective_at();
            supplier_at(&all, at).and_then(|r| r.supplier).unwrap()
        };
        assert_eq!(on("2025-06-01").as_str(), "AAAA");
        assert_eq!(on("2025-06-02").as_str(), "BBBB");
        assert_eq!(on("2025-06-04").as_str(), "BBBB");
        assert_eq!(on("2025-06-05").as_str(), "CCCC");
        assert_eq!(previous_supplier(&all, &all[1]), Some(&all[0]));
        assert_eq!(previous_supplier(&all, &all[2]), Some(&all[1]));
        let later = "2025-06-06"
            .parse::<SupplyStartDate>()
            .unwrap()
            .effective_at();
        assert_eq!(standing(&all, &all[1], later), Standing::Superseded);
    }
}
