//! What a monitor looks for in entries. Pure: entries go in, alarms come out, and what was understood is kept as data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tlog::OpenEntry;
use crate::types::Timestamp;

/// What somebody should look at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Alarm {
    /// When it was noticed or, of an entry, when that was made.
    pub(super) at: String,
    /// Which rule.
    pub(super) rule: Rule,
    pub(super) severity: Severity,
    /// The entry, if it is about one.
    pub(super) entry: Option<u64>,
    pub(super) detail: String,
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It may be as it should.
    Notice,
    /// It is unusual.
    Warning,
    /// Something is wrong.
    Critical,
}

/// The rules, by the names that alarms carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    /// The log contradicts what was seen of it, or itself.
    Inconsistent,
    /// The service cannot be asked.
    Unreachable,
    /// Witnesses have not cosigned as the policy demands.
    Quorum,
    /// No entry for too long.
    Stale,
    /// A release to a party that its own evidence does not name.
    NotRegistered,
    /// One envelope was granted to two parties.
    GrantedTwice,
    /// Many refusals in a short time.
    Refusals,
    /// Policies or terms have changed.
    Policy,
    /// A sealing key was published or retired, or an MPID has changed hands.
    Key,
    /// The database was restored, or its anchor lost.
    Restored,
    /// An entry that this version does not understand.
    Unknown,
}

/// What has been understood of the log so far.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Watch {
    /// Who has held an MPID, and from when: the newest last.
    holders: BTreeMap<String, Vec<Holding>>,
    /// To whom an envelope was granted first.
    granted: BTreeMap<String, String>,
    /// Refusals of late: when, and how many.
    refusals: VecDeque<(u64, u64)>,
    is_burst: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Holding {
    party: String,
    from: String,
    until: Option<String>,
}

/// When refusals are a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    pub(super) count: u64,
    pub(super) within: Duration,
}

impl Watch {
    /// What an entry gives cause for. `disclosed` is what it hides, where that was asked for and may be seen.
    pub(super) fn see(
        &mut self,
        index: u64,
        leaf: &[u8],
        disclosed: Option<&Value>,
        burst: Burst,
    ) -> Vec<Alarm> {
        let Ok(entry) = OpenEntry::read(leaf) else {
            let at = Timestamp::default();
            let detail = "not an entry of a known version".to_owned();
            return vec![alarm(at, Rule::Unknown, Severity::Warning, index, detail)];
        };
        let at = entry.at();
        let shown = |name: &str| text(entry.shown().get(name));
        let of = |rule, severity, detail| alarm(at, rule, severity, index, detail);
        match entry.kind() {
            "release.granted" => self.grant(index, at, disclosed),
            "release.refused" | "deposit.refused" | "handover.refused" => {
                self.refused(index, at, 1, burst)
            }
            "refusals.summary" => {
                let count = entry.shown().get("count").and_then(Value::as_u64);
                self.refused(index, at, count.unwrap_or(1), burst)
            }
            "policy.changed" => {
                let of_rules = |name: &str| entry.shown().get(name).cloned().unwrap_or_default();
                let detail = differences(&of_rules("before"), &of_rules("after"));
                vec![of(Rule::Policy, Severity::Notice, detail)]
            }
            kind @ ("sealing_key.published" | "sealing_key.retired") => {
                let detail = format!("{kind}: {} of {}", shown("key_id"), shown("party"));
                vec![of(Rule::Key, Severity::Notice, detail)]
            }
            kind @ ("party.mpid_added" | "party.mpid_ended") => {
                let mut severity = Severity::Notice;
                // A meter operator's MPID gives nobody a release; a supplier's gives its new holder all that is there.
                if shown("role") != "M" {
                    if self.is_others(&shown("mpid"), &shown("party")) {
                        severity = Severity::Warning;
                    }
                    self.held(
                        &shown("mpid"),
                        shown("party"),
                        shown("from"),
                        shown("until"),
                    );
                }
                let detail = format!("{kind}: {} by {}", shown("mpid"), shown("party"));
                vec![of(Rule::Key, severity, detail)]
            }
            kind @ ("log.recovered" | "anchor.adopted") => {
                vec![of(Rule::Restored, Severity::Critical, kind.to_owned())]
            }
            _ => Vec::new(),
        }
    }

    /// Whether somebody else holds or held the MPID.
    fn is_others(&self, mpid: &str, party: &str) -> bool {
        let mut holdings = self.holders.get(mpid).into_iter().flatten();
        holdings.any(|held| held.party != party)
    }

    fn held(&mut self, mpid: &str, party: String, from: String, until: String) {
        let holdings = self.holders.entry(mpid.to_owned()).or_default();
        holdings.retain(|held| (&held.party, &held.from) != (&party, &from));
        holdings.push(Holding {
            party,
            from,
            until: Some(until).filter(|until| !until.is_empty()),
        });
    }

    /// A release must name, as its evidence, a registration of a supplier whose MPID its requester held then.
    fn grant(&mut self, index: u64, at: Timestamp, disclosed: Option<&Value>) -> Vec<Alarm> {
        let of = |rule, severity, detail| alarm(at, rule, severity, index, detail);
        let Some(disclosed) = disclosed else {
            let detail = "a release whose evidence is not disclosed".to_owned();
            return vec![of(Rule::NotRegistered, Severity::Warning, detail)];
        };
        let actor = text(disclosed.get("actor"));
        let party = actor.rsplit(':').next().unwrap_or_default().to_owned();
        let supplier = text(disclosed.pointer("/evidence/supplier"));
        let mut alarms = Vec::new();
        if !self.holds(&supplier, &party, at) {
            let detail = format!("released to `{party}`; its evidence names supplier `{supplier}`");
            alarms.push(of(Rule::NotRegistered, Severity::Critical, detail));
        }
        let envelopes = disclosed.get("envelopes").and_then(Value::as_array);
        for envelope in envelopes.into_iter().flatten() {
            let id = text(Some(envelope.get("id").unwrap_or(envelope)));
            let first = self.granted.entry(id).or_insert_with(|| party.clone());
            if *first != party {
                let detail = format!("granted to `{first}` before, and now to `{party}`");
                alarms.push(of(Rule::GrantedTwice, Severity::Warning, detail));
            }
        }
        alarms
    }

    fn holds(&self, mpid: &str, party: &str, at: Timestamp) -> bool {
        let holdings = self.holders.get(mpid).into_iter().flatten();
        let began = |held: &Holding| held.from.parse().is_ok_and(|from: Timestamp| from <= at);
        let ended = |held: &Holding| {
            let until = held.until.as_ref().and_then(|until| until.parse().ok());
            until.is_some_and(|until: Timestamp| until <= at)
        };
        let mut held = holdings.filter(|held| held.party == party);
        held.any(|held| began(held) && !ended(held))
    }

    fn refused(&mut self, index: u64, at: Timestamp, count: u64, burst: Burst) -> Vec<Alarm> {
        self.refusals.push_back((at.as_millis(), count));
        let since = at.before(burst.within).as_millis();
        while self
            .refusals
            .front()
            .is_some_and(|(when, _)| *when <= since)
        {
            self.refusals.pop_front();
        }
        let total: u64 = self.refusals.iter().map(|(_, count)| count).sum();
        let was_burst = std::mem::replace(&mut self.is_burst, total > burst.count);
        // Once a burst, not once a refusal.
        if was_burst || !self.is_burst {
            return Vec::new();
        }
        let detail = format!("{total} refusals within {} s", burst.within.as_secs());
        vec![alarm(at, Rule::Refusals, Severity::Warning, index, detail)]
    }
}

fn alarm(at: Timestamp, rule: Rule, severity: Severity, entry: u64, detail: String) -> Alarm {
    Alarm {
        at: at.to_string(),
        rule,
        severity,
        entry: Some(entry),
        detail,
    }
}

/// What is other in `after` than in `before`, by the path of each value.
fn differences(before: &Value, after: &Value) -> String {
    let (mut was, mut is) = (BTreeMap::new(), BTreeMap::new());
    leaves("", before, &mut was);
    leaves("", after, &mut is);
    let paths: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let none = "nothing".to_owned();
    let changed = paths
        .into_iter()
        .filter(|path| was.get(*path) != is.get(*path));
    let told = changed.map(|path| {
        let of = |side: &BTreeMap<String, String>| side.get(path).unwrap_or(&none).clone();
        format!("{path} from {} to {}", of(&was), of(&is))
    });
    told.collect::<Vec<_>>().join(", ")
}

fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&format!("{path}{dot}{name}"), value, found);
            }
        }
        Value::Null => {}
        leaf => {
            found.insert(path.to_owned(), text(Some(leaf)));
        }
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tlog::Draft;
    use crate::types::SystemRandom;

    const BURST: Burst = Burst {
        count: 3,
        within: Duration::from_secs(60),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_790_000_000 + seconds)
    }

    fn leaf(draft: Draft) -> Vec<u8> {
        draft.finish(&SystemRandom).unwrap().leaf
    }

    /// Rule and severity of what an entry gives cause for.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without borrows"
    )]
    fn seen(watch: &mut Watch, draft: Draft, disclosed: Option<Value>) -> Vec<(Rule, Severity)> {
        let alarms = watch.see(7, &leaf(draft), disclosed.as_ref(), BURST);
        assert!(alarms.iter().all(|alarm| alarm.entry == Some(7)));
        alarms
            .iter()
            .map(|alarm| (alarm.rule, alarm.severity))
            .collect()
    }

    fn holding(from: u64, until: Option<u64>) -> Draft {
        let draft = Draft::new("party.mpid_added", at(0))
            .show("party", "south")
            .show("mpid", "GAIN")
            .show("from", at(from).to_string());
        match until {
            Some(until) => draft.show("until", at(until).to_string()),
            None => draft,
        }
    }

    fn grant(when: u64) -> Draft {
        Draft::new("release.granted", at(when)).show("release", "digest")
    }

    fn evidence(party: &str, supplier: &str, envelope: &str) -> Option<Value> {
        Some(json!({
            "actor": format!("urn:cos-escrow:party:{party}"),
            "evidence": { "supplier": supplier },
            "envelopes": [envelope],
        }))
    }

    #[test]
    fn a_release_to_who_is_not_registered_is_critical() {
        let mut watch = Watch::default();
        seen(&mut watch, holding(10, Some(100)), None);
        let not_registered = [(Rule::NotRegistered, Severity::Critical)];
        for (when, party, supplier, is_fine) in [
            (50, "south", "GAIN", true),
            (50, "north", "GAIN", false),
            (50, "south", "LOSE", false),
            (5, "south", "GAIN", false),
            (100, "south", "GAIN", false),
        ] {
            let disclosed = evidence(party, supplier, &format!("{when}{party}{supplier}"));
            let expected: &[_] = if is_fine { &[] } else { &not_registered };
            assert_eq!(
                seen(&mut watch, grant(when), disclosed),
                expected,
                "{when} {party} {supplier}"
            );
        }
        let nothing = json!({ "actor": "urn:cos-escrow:party:south", "evidence": null });
        assert_eq!(seen(&mut watch, grant(50), Some(nothing)), not_registered);
        let hidden = seen(&mut watch, grant(50), None);
        assert_eq!(hidden, [(Rule::NotRegistered, Severity::Warning)]);
    }

    #[test]
    fn one_envelope_for_two_parties_is_a_warning_and_for_one_is_none() {
        let mut watch = Watch::default();
        seen(&mut watch, holding(0, None), None);
        let again = evidence("south", "GAIN", "e1");
        assert_eq!(seen(&mut watch, grant(50), again.clone()), []);
        assert_eq!(seen(&mut watch, grant(51), again), []);
        let other = seen(&mut watch, grant(52), evidence("north", "LOSE", "e1"));
        assert!(other.contains(&(Rule::GrantedTwice, Severity::Warning)));
    }

    #[test]
    fn a_burst_of_refusals_is_told_once() {
        let mut watch = Watch::default();
        let refused = |when| Draft::new("release.refused", at(when)).show("code", "meter_mismatch");
        let told: Vec<_> = (0..10)
            .map(|when| seen(&mut watch, refused(when), None).len())
            .collect();
        assert_eq!(told, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        // Far apart they are none; counted ones count for as many as they are.
        assert_eq!(seen(&mut watch, refused(1_000), None), []);
        let summary = Draft::new("refusals.summary", at(2_000)).show("count", 50);
        assert_eq!(
            seen(&mut watch, summary, None),
            [(Rule::Refusals, Severity::Warning)]
        );
    }

    #[test]
    fn changes_of_rules_keys_and_history_are_told() {
        let mut watch = Watch::default();
        for (kind, expected) in [
            ("policy.changed", Some((Rule::Policy, Severity::Notice))),
            ("sealing_key.published", Some((Rule::Key, Severity::Notice))),
            ("sealing_key.retired", Some((Rule::Key, Severity::Notice))),
            ("party.mpid_ended", Some((Rule::Key, Severity::Notice))),
            ("log.recovered", Some((Rule::Restored, Severity::Critical))),
            ("anchor.adopted", Some((Rule::Restored, Severity::Critical))),
            ("package.deposited", None),
            ("release.delivered", None),
        ] {
            let told = seen(&mut watch, Draft::new(kind, at(0)), None);
            assert_eq!(told.first().copied(), expected, "{kind}");
        }
        let unknown = watch.see(3, b"{}", None, BURST);
        assert_eq!(unknown[0].rule, Rule::Unknown);
    }

    #[test]
    fn a_change_of_rules_says_which() {
        let mut watch = Watch::default();
        let before = json!({ "policy": "p1", "terms": { "grace_hours": 72, "window": 60 } });
        let after = json!({ "policy": "p1", "terms": { "grace_hours": 48, "window": 60 } });
        let draft = Draft::new("policy.changed", at(0)).show("before", before);
        let told = watch.see(0, &leaf(draft.show("after", after)), None, BURST);
        assert_eq!(told[0].detail, "terms.grace_hours from 72 to 48");
    }

    #[test]
    fn an_mpid_that_changes_hands_is_more_than_a_notice() {
        let mut watch = Watch::default();
        let added = |party: &str| {
            Draft::new("party.mpid_added", at(0))
                .show("party", party)
                .show("mpid", "ZHTL")
                .show("role", "X")
                .show("from", at(0).to_string())
        };
        for (party, severity) in [("south", Severity::Notice), ("west", Severity::Warning)] {
            assert_eq!(
                seen(&mut watch, added(party), None),
                [(Rule::Key, severity)]
            );
        }
    }

    #[test]
    fn what_was_understood_survives_as_text() {
        let mut watch = Watch::default();
        seen(&mut watch, holding(0, None), None);
        seen(&mut watch, grant(50), evidence("south", "GAIN", "e1"));
        let text = serde_json::to_string(&watch).unwrap();
        let mut again: Watch = serde_json::from_str(&text).unwrap();
        let told = seen(&mut again, grant(51), evidence("north", "GAIN", "e1"));
        assert_eq!(told.len(), 2);
    }
}
