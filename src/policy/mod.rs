//! Decides who may do what, and says why: the Cedar policies in `policies/`, compiled in.
//!
//! Permits are compiled in; an operator can only add `forbid`s, so that no operator can widen a release. Each forbid
//! carries its place in the order of checks and a stable code: of several that hold, the first gives the refusal.

mod facts;

use std::collections::BTreeMap;
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Effect, Entities, Entity, Policy, PolicyId, PolicySet, Request, Schema,
    ValidationMode, Validator,
};

pub use facts::{DepositFacts, LookupFacts, Purpose, ReleaseFacts, Standing};

use crate::types::{Code, Digest, PartyId};
use facts::Asked;

/// A set of policies, ready to decide.
pub struct Engine {
    authorizer: Authorizer,
    policies: PolicySet,
    schema: Schema,
    digest: Digest,
    /// Check and code of each forbid.
    refusals: BTreeMap<PolicyId, (String, Code)>,
}

/// What was decided, and by which policies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Why not; none if it may be done.
    pub refusal: Option<Code>,
    /// The policies that decided: the permits, or every forbid that holds.
    pub policies: Vec<String>,
}

impl Engine {
    /// The compiled-in policies alone.
    pub fn builtin() -> Self {
        Self::with_operator(&[]).expect("the compiled-in policies are valid: tests load them")
    }

    /// The compiled-in policies, and an operator's forbids: each a name and a text.
    pub fn with_operator(operator: &[(String, String)]) -> Result<Self, PolicyError> {
        let schema = Schema::from_str(SCHEMA).map_err(|error| PolicyError::new("schema", error))?;
        let mut policies = PolicySet::new();
        let mut refusals = BTreeMap::new();
        let mut pieces: Vec<&[u8]> = vec![SCHEMA.as_bytes()];
        for (name, text) in BUILTIN {
            pieces.push(text.as_bytes());
            for policy in parse(name, text)? {
                add(&mut policies, &mut refusals, name, &policy)?;
            }
        }
        for (name, text) in operator {
            pieces.extend([name.as_bytes(), text.as_bytes()]);
            for policy in parse(name, text)? {
                if policy.effect() == Effect::Permit {
                    return Err(PolicyError::new(name, "an operator's policies only forbid"));
                }
                // An operator must not hide which check failed by coming before it.
                if policy.annotation("check").is_some() || policy.annotation("code").is_some() {
                    return Err(PolicyError::new(
                        name,
                        "`@check` and `@code` are not an operator's",
                    ));
                }
                add(&mut policies, &mut refusals, name, &policy)?;
            }
        }
        let report = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        if let Some(error) = report.validation_errors().next() {
            return Err(PolicyError::new("validation", error));
        }
        Ok(Self {
            authorizer: Authorizer::new(),
            policies,
            digest: Digest::of_pieces(&pieces),
            schema,
            refusals,
        })
    }

    /// Digest of every text that decides.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a package may be released, or given back.
    pub fn decide_release(&self, facts: &ReleaseFacts) -> Decision {
        self.decide(&facts.requester, facts.requester_live, facts)
    }

    /// Whether a party may deposit.
    pub fn decide_deposit(&self, facts: &DepositFacts) -> Decision {
        self.decide(&facts.depositor, facts.depositor_live, facts)
    }

    /// Whether a party may look a supply point up.
    pub fn decide_lookup(&self, facts: &LookupFacts) -> Decision {
        self.decide(&facts.requester, facts.requester_live, facts)
    }

    fn decide(&self, principal: &PartyId, live: bool, asked: &impl Asked) -> Decision {
        match self.evaluate(principal, live, asked) {
            Ok(decision) => decision,
            // Fail closed. Facts are typed, so this is a fault of this program.
            Err(error) => Decision {
                refusal: Some(Code::Unavailable),
                policies: vec![error.to_string()],
            },
        }
    }

    fn evaluate(
        &self,
        principal: &PartyId,
        live: bool,
        asked: &impl Asked,
    ) -> Result<Decision, PolicyError> {
        let party = facts::party(principal);
        let resource = facts::uid("Cos::SupplyPoint", "it");
        let context = Context::from_pairs(asked.pairs())
            .map_err(|error| PolicyError::new("context", error))?;
        let action = facts::uid("Cos::Action", asked.action());
        let request = Request::new(party.clone(), action, resource, context, Some(&self.schema))
            .map_err(|error| PolicyError::new("request", error))?;
        let attributes = [("live".to_owned(), facts::boolean(live))].into();
        let entity = Entity::new(party, attributes, [].into())
            .map_err(|error| PolicyError::new("principal", error))?;
        let entities = Entities::from_entities([entity], None)
            .map_err(|error| PolicyError::new("principal", error))?;
        let response = self
            .authorizer
            .is_authorized(&request, &self.policies, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(PolicyError::new("evaluation", error));
        }
        let mut reasons: Vec<&PolicyId> = response.diagnostics().reason().collect();
        reasons.sort_by_key(|id| (self.refusals.get(*id).map(|(check, _)| check), *id));
        let refusal = match response.decision() {
            cedar_policy::Decision::Allow => None,
            cedar_policy::Decision::Deny => Some(
                reasons
                    .first()
                    .and_then(|id| self.refusals.get(*id))
                    .map_or(Code::Forbidden, |(_, code)| *code),
            ),
        };
        Ok(Decision {
            refusal,
            policies: reasons.iter().map(ToString::to_string).collect(),
        })
    }
}

fn parse(name: &str, text: &str) -> Result<Vec<Policy>, PolicyError> {
    let set = PolicySet::from_str(text).map_err(|error| PolicyError::new(name, error))?;
    Ok(set.policies().cloned().collect())
}

/// Adds a policy under the id that its annotation gives.
fn add(
    policies: &mut PolicySet,
    refusals: &mut BTreeMap<PolicyId, (String, Code)>,
    name: &str,
    policy: &Policy,
) -> Result<(), PolicyError> {
    let id = policy
        .annotation("id")
        .ok_or_else(|| PolicyError::new(name, "every policy needs an `@id`"))?;
    let id = PolicyId::new(id);
    if policy.effect() == Effect::Forbid {
        let code = match policy.annotation("code") {
            None => Code::Forbidden,
            Some(word) => Code::ALL
                .iter()
                .copied()
                .find(|code| code.as_str() == word)
                .ok_or_else(|| PolicyError::new(name, format!("no such code: `{word}`")))?,
        };
        let check = policy.annotation("check").unwrap_or(LAST).to_owned();
        refusals.insert(id.clone(), (check, code));
    }
    policies
        .add(policy.new_id(id))
        .map_err(|error| PolicyError::new(name, error))
}

/// A text is not a policy that can be used here.
#[derive(Debug, thiserror::Error)]
#[error("policy `{name}`: {reason}")]
pub struct PolicyError {
    name: String,
    reason: String,
}

impl PolicyError {
    fn new(name: &str, reason: impl std::fmt::Display) -> Self {
        Self {
            name: name.to_owned(),
            reason: reason.to_string(),
        }
    }
}

const SCHEMA: &str = include_str!("../../policies/cos.cedarschema");
const BUILTIN: [(&str, &str); 3] = [
    ("release", include_str!("../../policies/release.cedar")),
    ("deposit", include_str!("../../policies/deposit.cedar")),
    ("lookup", include_str!("../../policies/lookup.cedar")),
];
/// Where a forbid without a place stands in the order of checks.
const LAST: &str = "11z";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Component, Timestamp};

    fn good() -> ReleaseFacts {
        let gainer: PartyId = "gainer".parse().unwrap();
        ReleaseFacts {
            purpose: Purpose::Handover,
            requester: gainer.clone(),
            requester_live: true,
            component: Component::Credentials,
            package_exists: true,
            depositor_allowed: true,
            registered: Some(gainer.clone()),
            standing: Standing::Secured,
            feed_fresh: true,
            now: Timestamp::from_seconds(1_000),
            window_opens_at: Timestamp::from_seconds(1_000),
            window_closes_at: Timestamp::from_seconds(2_000),
            serial_agrees: true,
            registered_meter_agrees: true,
            key_active: true,
            key_owner: Some(gainer),
            sealable: true,
            over_threshold: false,
            read_disputed: false,
            dispute_holds: true,
            on_hold: false,
        }
    }

    /// Ways to fail a check, in the order of checks.
    type Failure = (Code, fn(&mut ReleaseFacts));

    const FAILURES: [Failure; 13] = [
        (Code::PartySuspended, |f| f.requester_live = false),
        (Code::NoPackage, |f| f.package_exists = false),
        (Code::DepositorNotAllowed, |f| f.depositor_allowed = false),
        (Code::NotRegisteredSupplier, |f| f.registered = None),
        (Code::RegistrationWithdrawn, |f| {
            f.standing = Standing::Withdrawn
        }),
        (Code::RegistrationNotSecured, |f| {
            f.standing = Standing::NotSecured
        }),
        (Code::RegistrationStale, |f| f.feed_fresh = false),
        (Code::BeforeWindow, |f| f.now = Timestamp::from_seconds(999)),
        (Code::MeterMismatch, |f| f.serial_agrees = false),
        (Code::RecipientKeyInactive, |f| f.key_active = false),
        (Code::SealedToOthers, |f| f.sealable = false),
        (Code::Quarantined, |f| f.over_threshold = true),
        (Code::ReadMismatch, |f| f.read_disputed = true),
    ];

    #[test]
    fn the_registered_supplier_gets_the_package_in_its_window() {
        let decision = Engine::builtin().decide_release(&good());
        assert_eq!(decision.refusal, None);
        assert_eq!(decision.policies, ["release-to-registered"]);
    }

    #[test]
    fn each_check_refuses_with_its_code() {
        let engine = Engine::builtin();
        for (code, fail) in FAILURES {
            let mut facts = good();
            fail(&mut facts);
            assert_eq!(engine.decide_release(&facts).refusal, Some(code));
        }
        for (code, standing) in [
            (Code::RegistrationAnnulled, Standing::Annulled),
            (Code::NotRegisteredSupplier, Standing::Superseded),
        ] {
            let facts = ReleaseFacts { standing, ..good() };
            assert_eq!(engine.decide_release(&facts).refusal, Some(code));
        }
    }

    #[test]
    fn of_several_failures_the_first_in_order_gives_the_code() {
        let engine = Engine::builtin();
        for (at, (code, _)) in FAILURES.iter().enumerate() {
            let mut facts = good();
            // A later failure of the same field must not undo the one that is tested.
            for (_, fail) in FAILURES[at..].iter().rev() {
                fail(&mut facts);
            }
            assert_eq!(engine.decide_release(&facts).refusal, Some(*code));
        }
    }

    #[test]
    fn a_dispute_holds_the_credentials_but_never_the_read() {
        let facts = ReleaseFacts {
            read_disputed: true,
            component: Component::Read,
            ..good()
        };
        assert_eq!(Engine::builtin().decide_release(&facts).refusal, None);
    }

    #[test]
    fn a_supplier_recovers_its_own_keys_long_after_the_window() {
        let facts = ReleaseFacts {
            purpose: Purpose::Recovery,
            now: Timestamp::from_seconds(9_000),
            ..good()
        };
        let engine = Engine::builtin();
        assert_eq!(engine.decide_release(&facts).policies, ["recover-own"]);
        let stranger = ReleaseFacts {
            registered: Some("other".parse().unwrap()),
            ..facts
        };
        assert_eq!(
            engine.decide_release(&stranger).refusal,
            Some(Code::NotRegisteredSupplier)
        );
    }

    #[test]
    fn an_operator_can_forbid_and_never_permit() {
        let text = |text: &str| [("night".to_owned(), text.to_owned())];
        let permit = r#"@id("x") permit (principal, action, resource);"#;
        assert!(Engine::with_operator(&text(permit)).is_err());
        let unknown = r#"@id("x") forbid (principal, action == Cos::Action::"release", resource) when { context.nowhere };"#;
        assert!(Engine::with_operator(&text(unknown)).is_err());
        let forbid = r#"@id("x") forbid (principal, action == Cos::Action::"release", resource) when { context.component == "credentials" };"#;
        let engine = Engine::with_operator(&text(forbid)).unwrap();
        assert_eq!(
            engine.decide_release(&good()).refusal,
            Some(Code::Forbidden)
        );
        assert_ne!(engine.digest(), Engine::builtin().digest());
    }
}
