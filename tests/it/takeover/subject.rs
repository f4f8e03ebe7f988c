//! A meter to be taken over, whichever it is, and how a takeover of it ended.

use std::net::SocketAddr;
use std::time::Duration;

use cos_escrow::dlms::keys::{KeyRole, Suite};
use cos_escrow::meter::escrow::Report;
use cos_escrow::meter::released::ReleasedMeter;
use cos_escrow::meter::secrets::{KeySet, Role, Secrets};
use cos_escrow::meter::simulate::Simulator;
use cos_escrow::meter::takeover::{Outcome, Settings};
use cos_escrow::types::{Clock as _, HandoverId, Secret};

use super::peer::Peer;
use super::world::{OURS, World, seed};

/// Which meter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The simulator of this crate.
    Ours,
    /// `tests/peers/meter/metersim.py`, which shares no code with us.
    Foreign,
}

pub(super) enum Subject {
    Ours(Simulator),
    Foreign(Box<Peer>),
}

/// What a meter remembers of those that came.
#[derive(Debug)]
pub(super) struct Seen {
    /// Of our attempts to log in, whether they went well, in order.
    pub(super) attempts: Vec<bool>,
    pub(super) nonce_reuses: u64,
    /// How many different keys it was ever given, by role: GUEK, GBEK, GAK, KEK.
    pub(super) keys_seen: [u64; 4],
    pub(super) last_counter: Option<u32>,
}

impl Subject {
    pub(super) async fn start(kind: Kind, world: &World, suite: Suite, faults: &[&str]) -> Self {
        match kind {
            Kind::Ours => Self::Ours(world.meter(seed(suite), faults).await),
            Kind::Foreign => Self::Foreign(Box::new(Peer::start(world, suite, faults).await)),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(meter) => meter.address(),
            Self::Foreign(meter) => meter.address(),
        }
    }

    /// Whether these are exactly its keys.
    pub(super) fn holds(&self, set: &KeySet) -> bool {
        match self {
            Self::Ours(meter) => meter.state().holds(set),
            Self::Foreign(meter) => meter.holds(set),
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        match self {
            Self::Ours(meter) => meter.state().is_locked,
            Self::Foreign(meter) => meter.is_locked(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        match self {
            Self::Ours(meter) => {
                let state = meter.state();
                let ours = state.attempts.iter().filter(|(title, _)| *title == OURS);
                Seen {
                    attempts: ours.map(|(_, went_well)| *went_well).collect(),
                    nonce_reuses: state.nonce_reuses.into(),
                    keys_seen: state.keys_seen.map(|count| count.try_into().unwrap()),
                    last_counter: state.last_counter,
                }
            }
            Self::Foreign(meter) => meter.seen(),
        }
    }
}

/// How a takeover ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    /// How often it waited before.
    pub(super) waits: usize,
    /// Our failed associations in all, as the meter counts them.
    pub(super) failures: usize,
    /// The most of them in a row that no wait and no success came between.
    pub(super) most_in_a_row: usize,
}

/// Runs a claimed takeover until it ends, whenever it wants to be run, on a clock that skips the waits.
pub(super) async fn drive(
    world: &World,
    subject: &Subject,
    handover: HandoverId,
    settings: Settings,
) -> Ending {
    let mut most_in_a_row = 0;
    let mut causes = Vec::new();
    for waits in 0..MAX_WAITS {
        let before = subject.seen().attempts.len();
        let run = tokio::time::timeout(LONGEST_RUN, world.run(handover, settings));
        let outcome = run.await.expect("a run comes to an end");
        let attempts = subject.seen().attempts;
        let streaks = attempts[before..].split(|went_well| *went_well);
        most_in_a_row = streaks.map(<[bool]>::len).fold(most_in_a_row, usize::max);
        let Outcome::Waiting { until, cause } = outcome else {
            return Ending {
                outcome,
                waits,
                failures: attempts.iter().filter(|went_well| !**went_well).count(),
                most_in_a_row,
            };
        };
        let wait = until.since(world.clock.now());
        assert!(
            wait <= Duration::from_secs(24 * 60 * 60),
            "a wait of {wait:?}"
        );
        world.clock.set(until);
        causes.push(cause);
        while subject.is_locked() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("no end after {MAX_WAITS} waits: {causes:?}");
}

/// What must be true of every meter that was taken over, whatever happened on the way.
pub(super) async fn assert_taken_over(
    world: &World,
    subject: &Subject,
    released: &ReleasedMeter,
    ending: &Ending,
    case: &str,
) {
    let rotated = matches!(ending.outcome, Outcome::Done(Report::Rotated { .. }));
    assert!(rotated, "{case}: {ending:?}");
    let newest = world
        .journal
        .newest_secrets(released.handover)
        .await
        .unwrap();
    let theirs = taken(&ending.outcome, newest.keys().unwrap());
    assert!(subject.holds(&theirs), "{case}: other keys than ours");
    let seen = subject.seen();
    assert_eq!(seen.nonce_reuses, 0, "{case}: a nonce was used twice");
    assert_eq!(world.escrow.deposits(), 1, "{case}: one key set");
    assert!(
        seen.keys_seen.iter().all(|keys| *keys <= 1),
        "{case}: {seen:?}"
    );
    assert!(ending.most_in_a_row <= BUDGET, "{case}: {ending:?}");
    let above = seen.last_counter.unwrap_or(0);
    assert!(
        opens(world, subject, &newest, above).await,
        "{case}: the new keys must work"
    );
    for old in &released.ways[0].candidates {
        let old_keys = world.try_secrets(subject.address(), old, above + 100).await;
        assert!(old_keys.is_err(), "{case}: the old keys must not work");
    }
}

/// Whether these open the meter, as soon as it does nothing hostile any more.
async fn opens(world: &World, subject: &Subject, secrets: &Secrets, above: u32) -> bool {
    for _ in 0..=MOST_HOSTILE_ANSWERS {
        if world
            .try_secrets(subject.address(), secrets, above)
            .await
            .is_ok()
        {
            return true;
        }
    }
    false
}

/// What the meter must have of a set: all of it, but for a broadcast key that it has no use for.
fn taken(outcome: &Outcome, set: &KeySet) -> KeySet {
    let copy = |key: &Secret| Secret::new(key.expose().to_vec());
    let [guek, gak, kek] = [set.guek(), set.gak(), set.kek()].map(copy);
    let without = KeySet::new(set.suite(), guek, gak, kek).unwrap();
    let gbek = Role::Key(KeyRole::Gbek);
    match (outcome, set.key(KeyRole::Gbek)) {
        (Outcome::Done(Report::Rotated { stays_open, .. }), Some(key))
            if !stays_open.contains(&gbek) =>
        {
            without.with_gbek(copy(key)).unwrap()
        }
        _ => without,
    }
}

/// What must be true of every meter that was left alone.
pub(super) fn assert_untouched(subject: &Subject, original: &KeySet, ending: &Ending, case: &str) {
    assert!(subject.holds(original), "{case}: the meter was changed");
    let seen = subject.seen();
    assert_eq!((seen.nonce_reuses, seen.keys_seen), (0, [0; 4]), "{case}");
    assert!(ending.most_in_a_row <= BUDGET, "{case}: {ending:?}");
}

/// Failed associations before a meter is left alone for a while.
const BUDGET: usize = 3;
const MAX_WAITS: usize = 60;
/// How many answers of a hostile meter are mangled at most.
pub(super) const MOST_HOSTILE_ANSWERS: usize = 12;
const LONGEST_RUN: Duration = Duration::from_secs(120);
