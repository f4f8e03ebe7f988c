//! What the policies are told, in the words of the schema.

use cedar_policy::{EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use crate::types::{Code, Component, PartyId, Timestamp};

/// For what a release is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To take over the meter of a handover.
    Handover,
    /// To get the registered supplier's own keys back.
    Recovery,
}

/// How the registration behind a handover stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Secured, and in force or about to be.
    Secured,
    /// Not secured.
    NotSecured,
    /// Withdrawn after it was secured.
    Withdrawn,
    /// Void after the fact.
    Annulled,
    /// A later registration is in force.
    Superseded,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Secured => "secured",
            Self::NotSecured => "not_secured",
            Self::Withdrawn => "withdrawn",
            Self::Annulled => "annulled",
            Self::Superseded => "superseded",
        }
    }

    /// Why nothing is done on the ground of such a registration, with the codes of check 6.
    pub fn refusal(self) -> Option<Code> {
        match self {
            Self::Secured => None,
            Self::NotSecured => Some(Code::RegistrationNotSecured),
            Self::Withdrawn => Some(Code::RegistrationWithdrawn),
            Self::Annulled => Some(Code::RegistrationAnnulled),
            Self::Superseded => Some(Code::NotRegisteredSupplier),
        }
    }
}

/// The facts of checks 5 to 11.
#[derive(Clone, Debug)]
pub struct ReleaseFacts {
    /// For what.
    pub purpose: Purpose,
    /// Who asks.
    pub requester: PartyId,
    /// Whether it may act at all.
    pub requester_live: bool,
    /// For which component.
    pub component: Component,
    /// 5: a generation exists that the meter may hold.
    pub package_exists: bool,
    /// 5: one such was deposited by whoever was allowed to, as it was recorded then.
    pub depositor_allowed: bool,
    /// 6: who is the supplier by the registration.
    pub registered: Option<PartyId>,
    /// 6: how the registration stands.
    pub standing: Standing,
    /// 6: whether the feed has spoken recently.
    pub feed_fresh: bool,
    /// 7: the service's time.
    pub now: Timestamp,
    /// 7: from when on.
    pub window_opens_at: Timestamp,
    /// 7: until when.
    pub window_closes_at: Timestamp,
    /// 8: deposit and request name the same meter.
    pub serial_agrees: bool,
    /// 8: and so does the registration, where it names one.
    pub registered_meter_agrees: bool,
    /// 9: the key to seal to is active.
    pub key_active: bool,
    /// 9: whose key it is.
    pub key_owner: Option<PartyId>,
    /// 9: something of what is asked for can be sealed to it, or is.
    pub sealable: bool,
    /// 10: too many releases for this party.
    pub over_threshold: bool,
    /// 11: the closing read is disputed: of the handover or, if a supplier asks for keys that are not its own back, of
    /// the one by which it supplies.
    pub read_disputed: bool,
    /// 11: whether that holds the credentials, by the operator's terms.
    pub dispute_holds: bool,
    /// 11: the handover is held.
    pub on_hold: bool,
}

/// Who may deposit.
#[derive(Clone, Debug)]
pub struct DepositFacts {
    /// Who deposits.
    pub depositor: PartyId,
    /// Whether it may act at all.
    pub depositor_live: bool,
    /// Whether it is the registered supplier now.
    pub registered_now: bool,
    /// Whether it is the one until the switch of the named handover.
    pub registered_before_switch: bool,
    /// Whether it was granted credentials of this supply point.
    pub holds_grant: bool,
}

/// Who may look a supply point up.
#[derive(Clone, Debug)]
pub struct LookupFacts {
    /// Who asks.
    pub requester: PartyId,
    /// Whether it may act at all.
    pub requester_live: bool,
    /// Whether it supplies the point now.
    pub registered: bool,
    /// Whether it has a pending or secured registration for it.
    pub gaining: bool,
    /// Whether it has stated why it asks.
    pub purpose: bool,
}

/// Facts as the schema names them.
pub(super) trait Asked {
    /// The action that is asked for.
    fn action(&self) -> &'static str;
    /// The context.
    fn pairs(&self) -> Vec<(String, RestrictedExpression)>;
}

impl Asked for ReleaseFacts {
    fn action(&self) -> &'static str {
        match self.purpose {
            Purpose::Handover => "release",
            Purpose::Recovery => "recover",
        }
    }

    fn pairs(&self) -> Vec<(String, RestrictedExpression)> {
        let mut pairs = vec![
            pair("component", text(self.component.as_str())),
            pair("package", boolean(self.package_exists)),
            pair("depositorAllowed", boolean(self.depositor_allowed)),
            pair("standing", text(self.standing.as_str())),
            pair("feedFresh", boolean(self.feed_fresh)),
            pair("now", instant(self.now)),
            pair("opensAt", instant(self.window_opens_at)),
            pair("closesAt", instant(self.window_closes_at)),
            pair("sameMeter", boolean(self.serial_agrees)),
            pair("registeredMeter", boolean(self.registered_meter_agrees)),
            pair("keyActive", boolean(self.key_active)),
            pair("sealable", boolean(self.sealable)),
            pair("overThreshold", boolean(self.over_threshold)),
            pair("readDisputed", boolean(self.read_disputed)),
            pair("disputeHolds", boolean(self.dispute_holds)),
            pair("onHold", boolean(self.on_hold)),
        ];
        let reference = |id: &PartyId| RestrictedExpression::new_entity_uid(party(id));
        pairs.extend(
            self.registered
                .iter()
                .map(|id| pair("registered", reference(id))),
        );
        pairs.extend(
            self.key_owner
                .iter()
                .map(|id| pair("keyOwner", reference(id))),
        );
        pairs
    }
}

impl Asked for DepositFacts {
    fn action(&self) -> &'static str {
        "deposit"
    }

    fn pairs(&self) -> Vec<(String, RestrictedExpression)> {
        vec![
            pair("registeredNow", boolean(self.registered_now)),
            pair(
                "registeredBeforeSwitch",
                boolean(self.registered_before_switch),
            ),
            pair("holdsGrant", boolean(self.holds_grant)),
        ]
    }
}

impl Asked for LookupFacts {
    fn action(&self) -> &'static str {
        "lookup"
    }

    fn pairs(&self) -> Vec<(String, RestrictedExpression)> {
        vec![
            pair("registered", boolean(self.registered)),
            pair("gaining", boolean(self.gaining)),
            pair("purpose", boolean(self.purpose)),
        ]
    }
}

pub(super) fn party(id: &PartyId) -> EntityUid {
    uid("Cos::Party", id.as_str())
}

pub(super) fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("the schema's names are valid");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

pub(super) fn boolean(value: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(value)
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn instant(at: Timestamp) -> RestrictedExpression {
    RestrictedExpression::new_datetime(at.to_string())
}

fn pair(name: &str, value: RestrictedExpression) -> (String, RestrictedExpression) {
    (name.to_owned(), value)
}
