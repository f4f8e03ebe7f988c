//! Decides the cases of `policies/tests`, and compares the policies with the same rules written by hand.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cedar_policy::PolicySet;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde_json::{Map, Value};

use cos_escrow::policy::{
    Decision, DepositFacts, Engine, LookupFacts, Purpose, ReleaseFacts, Standing,
};
use cos_escrow::types::{Code, Component, PartyId, Timestamp};

#[test]
fn every_case_is_decided_as_it_says() {
    let engine = Engine::builtin();
    for suite in suites() {
        for case in &suite.cases {
            let decision = suite.decide(&engine, case);
            let verdict = decision.refusal.map_or("permit", Code::as_str);
            assert_eq!(verdict, case.expect, "{}: {}", suite.asks, case.case);
        }
    }
}

#[test]
fn every_policy_decides_some_case() {
    let engine = Engine::builtin();
    let mut unused: BTreeSet<String> = ["release", "deposit", "lookup"]
        .iter()
        .flat_map(|name| ids(&format!("{name}.cedar")))
        .collect();
    for suite in suites() {
        for case in &suite.cases {
            let decision = suite.decide(&engine, case);
            unused.remove(decision.policies.first().unwrap());
        }
    }
    assert!(unused.is_empty(), "no case for {unused:?}");
}

#[test]
fn releases_are_decided_as_the_oracle_decides() {
    let engine = Engine::builtin();
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(20_000)
    });
    let outcome = runner.run(&any_release(), |facts| {
        let expected = release_oracle(&facts);
        let refusal = engine.decide_release(&facts).refusal;
        prop_assert!(expected.contains(&refusal), "{refusal:?}, not {expected:?}");
        seen.borrow_mut().insert(refusal);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(seen.take().len(), 17, "a release has 16 ways to be refused");
}

#[test]
fn deposits_and_lookups_are_decided_as_the_oracle_decides() {
    let engine = Engine::builtin();
    for bits in 0..16_u8 {
        let [live, first, second, third] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let entitled = first || second || third;
        let expected = |otherwise| match (live, entitled) {
            (true, true) => None,
            (true, false) => Some(otherwise),
            (false, _) => Some(Code::PartySuspended),
        };
        let deposit = DepositFacts {
            depositor: party("loser"),
            depositor_live: live,
            registered_now: first,
            registered_before_switch: second,
            holds_grant: third,
        };
        let refusal = engine.decide_deposit(&deposit).refusal;
        assert_eq!(refusal, expected(Code::DepositorNotAllowed), "{deposit:?}");
        let lookup = LookupFacts {
            requester: party("gainer"),
            requester_live: live,
            registered: first,
            gaining: second,
            purpose: third,
        };
        let refusal = engine.decide_lookup(&lookup).refusal;
        assert_eq!(refusal, expected(Code::NotFound), "{lookup:?}");
    }
}

/// Every verdict that the order of checks allows: of the failures of the first check that fails, any may be named.
fn release_oracle(facts: &ReleaseFacts) -> Vec<Option<Code>> {
    let failures = release_failures(facts);
    let Some((first, _)) = failures.first() else {
        return vec![None];
    };
    let of_first = failures.iter().filter(|(check, _)| check == first);
    of_first.map(|(_, code)| Some(*code)).collect()
}

/// All that is wrong, in the order of checks.
fn release_failures(facts: &ReleaseFacts) -> Vec<(&'static str, Code)> {
    let mine = Some(&facts.requester);
    let recovers = facts.purpose == Purpose::Recovery;
    let reads = facts.component == Component::Read;
    let (unfit, standing) = match facts.standing {
        Standing::Secured => (false, Code::RegistrationNotSecured),
        Standing::NotSecured => (true, Code::RegistrationNotSecured),
        Standing::Withdrawn => (true, Code::RegistrationWithdrawn),
        Standing::Annulled => (true, Code::RegistrationAnnulled),
        Standing::Superseded => (true, Code::NotRegisteredSupplier),
    };
    let early = facts.now < facts.window_opens_at;
    let late = facts.now >= facts.window_closes_at;
    let disputed = facts.read_disputed && facts.dispute_holds;
    let other_meter = !facts.serial_agrees || !facts.registered_meter_agrees;
    let no_key = !facts.key_active || facts.key_owner.as_ref() != mine;
    let checks = [
        ("02", !facts.requester_live, Code::PartySuspended),
        ("05a", !facts.package_exists, Code::NoPackage),
        ("05b", !facts.depositor_allowed, Code::DepositorNotAllowed),
        (
            "06a",
            facts.registered.as_ref() != mine,
            Code::NotRegisteredSupplier,
        ),
        ("06b", unfit, standing),
        ("06c", !facts.feed_fresh, Code::RegistrationStale),
        ("07a", early, Code::BeforeWindow),
        ("07b", late && !recovers, Code::AfterWindow),
        ("08", other_meter, Code::MeterMismatch),
        ("09a", no_key, Code::RecipientKeyInactive),
        ("09b", !facts.sealable, Code::SealedToOthers),
        ("10", facts.over_threshold, Code::Quarantined),
        ("11a", disputed && !reads, Code::ReadMismatch),
        ("11b", facts.on_hold, Code::OnHold),
    ];
    let failed = checks.into_iter().filter(|(_, fails, _)| *fails);
    failed.map(|(check, _, code)| (check, code)).collect()
}

/// Facts most of which are right, so that late checks are reached; times so close that bounds are hit.
fn any_release() -> impl Strategy<Value = ReleaseFacts> {
    let party =
        || prop_oneof![12 => Just(Some("gainer")), 1 => Just(Some("loser")), 1 => Just(None)];
    let standing = prop_oneof![
        12 => Just(Standing::Secured),
        1 => Just(Standing::NotSecured),
        1 => Just(Standing::Withdrawn),
        1 => Just(Standing::Annulled),
        1 => Just(Standing::Superseded),
    ];
    let wrong = prop::array::uniform13(prop::bool::weighted(0.06));
    let asked = (any::<bool>(), any::<bool>(), any::<bool>());
    let times = prop_oneof![
        12 => (3..8_u64, 0..5_u64, 6..11_u64),
        1 => Just((5, u64::MAX, 0)), // A registration without a start date has a window that is never open.
    ];
    (wrong, asked, standing, party(), party(), times).prop_map(
        |(wrong, (recovers, reads, holds), standing, registered, owner, (now, opens, closes))| {
            ReleaseFacts {
                purpose: [Purpose::Handover, Purpose::Recovery][usize::from(recovers)],
                requester: self::party("gainer"),
                requester_live: !wrong[0],
                component: [Component::Credentials, Component::Read][usize::from(reads)],
                package_exists: !wrong[1],
                depositor_allowed: !wrong[2],
                registered: registered.map(self::party),
                standing,
                feed_fresh: !wrong[3],
                now: Timestamp::from_millis(now),
                window_opens_at: Timestamp::from_millis(opens),
                window_closes_at: Timestamp::from_millis(closes),
                serial_agrees: !wrong[4],
                registered_meter_agrees: !wrong[5],
                key_active: !wrong[6],
                key_owner: owner.map(self::party),
                sealable: !wrong[12],
                over_threshold: wrong[7],
                read_disputed: wrong[8] || wrong[9],
                dispute_holds: holds,
                on_hold: wrong[10] || wrong[11],
            }
        },
    )
}

fn party(id: &str) -> PartyId {
    id.parse().unwrap()
}

/// One file of cases: facts, and by how much each case differs from them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    asks: String,
    given: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    but: Map<String, Value>,
    expect: String,
}

impl Suite {
    fn decide(&self, engine: &Engine, case: &Case) -> Decision {
        let mut facts = self.given.clone();
        facts.extend(case.but.clone());
        let facts = Value::Object(facts);
        match self.asks.as_str() {
            "release" => engine.decide_release(&ReleaseWords::deserialize(facts).unwrap()),
            "deposit" => engine.decide_deposit(&DepositWords::deserialize(facts).unwrap()),
            "lookup" => engine.decide_lookup(&LookupWords::deserialize(facts).unwrap()),
            other => panic!("nobody asks for a `{other}`"),
        }
    }
}

fn suites() -> Vec<Suite> {
    let files = ["release.json", "deposit.json", "lookup.json"];
    files
        .map(|file| serde_json::from_str(&read(&format!("tests/{file}"))).unwrap())
        .into()
}

fn ids(file: &str) -> Vec<String> {
    let policies: PolicySet = read(file).parse().unwrap();
    let ids = policies
        .policies()
        .map(|policy| policy.annotation("id").unwrap().to_owned());
    ids.collect()
}

fn read(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    fs::read_to_string(folder.join(file)).unwrap()
}

// The facts as cases spell them; the engine's own types are made from stored evidence only, and do not parse.

#[derive(Deserialize)]
#[serde(remote = "Purpose", rename_all = "snake_case")]
enum PurposeWord {
    Handover,
    Recovery,
}

#[derive(Deserialize)]
#[serde(remote = "Standing", rename_all = "snake_case")]
enum StandingWord {
    Secured,
    NotSecured,
    Withdrawn,
    Annulled,
    Superseded,
}

#[derive(Deserialize)]
#[serde(remote = "ReleaseFacts", deny_unknown_fields)]
struct ReleaseWords {
    #[serde(with = "PurposeWord")]
    purpose: Purpose,
    requester: PartyId,
    requester_live: bool,
    component: Component,
    package_exists: bool,
    depositor_allowed: bool,
    registered: Option<PartyId>,
    #[serde(with = "StandingWord")]
    standing: Standing,
    feed_fresh: bool,
    now: Timestamp,
    window_opens_at: Timestamp,
    window_closes_at: Timestamp,
    serial_agrees: bool,
    registered_meter_agrees: bool,
    key_active: bool,
    key_owner: Option<PartyId>,
    sealable: bool,
    over_threshold: bool,
    read_disputed: bool,
    dispute_holds: bool,
    on_hold: bool,
}

#[derive(Deserialize)]
#[serde(remote = "DepositFacts", deny_unknown_fields)]
struct DepositWords {
    depositor: PartyId,
    depositor_live: bool,
    registered_now: bool,
    registered_before_switch: bool,
    holds_grant: bool,
}

#[derive(Deserialize)]
#[serde(remote = "LookupFacts", deny_unknown_fields)]
struct LookupWords {
    requester: PartyId,
    requester_live: bool,
    registered: bool,
    gaining: bool,
    purpose: bool,
}
