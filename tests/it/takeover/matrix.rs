//! Everything that goes wrong in a takeover, at two meters that share no code, in one table.

use std::fmt;
use std::time::Duration;

use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::{Report, StopReason};
use cos_escrow::meter::journal::State;
use cos_escrow::meter::link::{Dial as _, LinkError, MeterLink as _};
use cos_escrow::meter::profile::KeyTransfer;
use cos_escrow::meter::released::ReleasedMeter;
use cos_escrow::meter::secrets::KeySet;
use cos_escrow::meter::takeover::{Outcome, Settings};
use cos_escrow::types::{Clock as _, SystemRandom};
use futures_util::{StreamExt as _, stream};

use super::loser::{self, Loser};
use super::once;
use super::peer::Peer;
use super::proxy::{Flaw, Proxy};
use super::subject::{Ending, Kind, Subject, assert_taken_over, assert_untouched, drive};
use super::world::{Kill, World, profile_with, released_keys};

/// One row: what the meter does, what is wrong around it, and how keys are sent.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    faults: &'static [&'static str],
    around: Around,
    transfer: KeyTransfer,
}

/// What goes wrong outside the meter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Around {
    Nothing,
    /// The client dies at this point, and a new one goes on.
    Killed(Kill),
    /// The client dies when the meter has the keys and has not answered.
    KilledAfterSend,
    /// The client dies after the send, and its clock goes back by a year.
    ClockBack,
    WrongSerial,
    WrongKeys,
    /// The losing supplier polls the meter all the time.
    LoserPolls,
    /// The losing supplier is in, and stays until the first try has failed.
    LoserStays,
}

/// How a row must end.
fn expected(case: &Case) -> Option<StopReason> {
    match case.around {
        Around::WrongSerial => Some(StopReason::WrongMeter),
        Around::WrongKeys => Some(StopReason::WrongKeys),
        _ => None,
    }
}

/// Rows that are played with both keys in one request and with one request each.
const BOTH_WAYS: [(&str, &[&str], Around); 13] = [
    ("nothing", &[], Around::Nothing),
    (
        "response lost after commit",
        &["drop-response"],
        Around::Nothing,
    ),
    (
        "power lost before commit",
        &["crash-before"],
        Around::Nothing,
    ),
    ("only the first key applied", &["partial"], Around::Nothing),
    ("refused", &["reject"], Around::Nothing),
    (
        "first key applied, error answered",
        &["reject-second"],
        Around::Nothing,
    ),
    (
        "answered under the new key",
        &["answer-newkey"],
        Around::Nothing,
    ),
    ("active after the association", &["defer"], Around::Nothing),
    (
        "two losses in a row",
        &["drop-response:1", "drop-response:2"],
        Around::Nothing,
    ),
    (
        "first key applied, then a loss",
        &["partial", "drop-response:2"],
        Around::Nothing,
    ),
    (
        "client killed before send",
        &[],
        Around::Killed(Kill::BeforeChange(1)),
    ),
    ("client killed after send", &[], Around::KilledAfterSend),
    (
        "client killed after acknowledgement",
        &[],
        Around::Killed(Kill::AfterChange(1)),
    ),
];

/// Rows that are played once.
const ONCE: [(&str, &[&str], Around); 23] = [
    (
        "response lost, counter not reset",
        &["drop-response", "no-ic-reset"],
        Around::Nothing,
    ),
    (
        "silent, partial, client killed",
        &["partial", "silent"],
        Around::Killed(Kill::BeforeChange(1)),
    ),
    (
        "silent, power lost",
        &["crash-before", "silent"],
        Around::Nothing,
    ),
    ("mute, partial", &["partial", "mute"], Around::Nothing),
    ("counter not shown", &["hidden-ic"], Around::Nothing),
    (
        "counter forged high",
        &["forged-counter:5"],
        Around::Nothing,
    ),
    (
        "counter forged high in a refusal",
        &["forged-exception:5"],
        Around::Nothing,
    ),
    (
        "counter forged high, response lost",
        &["forged-exception:2", "drop-response"],
        Around::Nothing,
    ),
    ("busy", &["busy:5"], Around::Nothing),
    (
        "busy with the loser's association",
        &["one-association"],
        Around::LoserStays,
    ),
    ("loser polls", &[], Around::LoserPolls),
    (
        "loser polls, response lost",
        &["drop-response"],
        Around::LoserPolls,
    ),
    ("loser polls, partial", &["partial"], Around::LoserPolls),
    (
        "loser polls, one at a time",
        &["one-association"],
        Around::LoserPolls,
    ),
    (
        "locks at the first failure, power lost",
        &["lock-out:1/1", "crash-before"],
        Around::Nothing,
    ),
    (
        "locks at the second failure, partial",
        &["lock-out:2/1", "partial", "silent"],
        Around::Nothing,
    ),
    (
        "meter's clock back",
        &["clock-back:34560000"],
        Around::Nothing,
    ),
    ("our clock back", &[], Around::ClockBack),
    ("no broadcast key", &["no-gbek"], Around::Nothing),
    ("wrong serial", &[], Around::WrongSerial),
    ("wrong old keys", &[], Around::WrongKeys),
    ("wrong old keys, silent", &["silent"], Around::WrongKeys),
    (
        "wrong old keys, locks at the first failure",
        &["lock-out:1/1"],
        Around::WrongKeys,
    ),
];

fn cases() -> Vec<Case> {
    let case = |(name, faults, around), transfer| Case {
        name,
        faults,
        around,
        transfer,
    };
    let both = [KeyTransfer::Together, KeyTransfer::OneByOne];
    let twice = BOTH_WAYS
        .into_iter()
        .flat_map(|row| both.map(|transfer| case(row, transfer)));
    let once = ONCE.into_iter().map(|row| case(row, KeyTransfer::Together));
    twice.chain(once).collect()
}

#[tokio::test]
async fn whatever_goes_wrong_the_meter_ends_with_exactly_the_new_keys_or_untouched() {
    let endings = play_all(Kind::Ours).await;
    show("the simulator of this crate", &endings);
}

#[tokio::test]
async fn a_meter_that_shares_no_code_with_us_ends_the_same_whatever_goes_wrong() {
    let endings = play_all(Kind::Foreign).await;
    show("metersim.py", &endings);
}

#[tokio::test]
async fn a_foreign_meter_is_repointed_in_every_suite() {
    for suite in [Suite::Zero, Suite::One, Suite::Two] {
        let world = World::new().await;
        let meter = Peer::start(&world, suite, &[]).await;
        let mut released = world.released_at(meter.address(), vec![released_keys(suite)]);
        released.repoint = Some(super::repoint());
        let outcome = world.take_over(&released, Settings::default()).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{suite:?}: {outcome:?}"
        );
        assert!(meter.holds(&world.newest_keys(released.handover).await));
        assert_eq!(meter.text("apn"), "gainer.smart");
        assert_eq!(meter.seen().nonce_reuses, 0);
    }
}

async fn play_all(kind: Kind) -> Vec<(Case, Ending)> {
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|case| kind == Kind::Ours || !case.faults.contains(&"hidden-ic"))
        .collect();
    let plays = cases
        .into_iter()
        .map(|case| async move { (case, play(case, kind).await) });
    stream::iter(plays).buffered(AT_ONCE).collect().await
}

async fn play(case: Case, kind: Kind) -> Ending {
    let name = case.to_string();
    let original = released_keys(Suite::Zero);
    let world = World::impatient().await;
    let subject = Subject::start(kind, &world, Suite::Zero, case.faults).await;
    let proxy = Proxy::start(subject.address(), flaw(case.around)).await;
    let mut released = world.released_at(proxy.address(), vec![released_keys(Suite::Zero)]);
    released.ways[0].profile = profile_with(case.transfer).to_owned();
    match case.around {
        Around::WrongSerial => released.serial = "B0000000001".parse().unwrap(),
        Around::WrongKeys => {
            released.ways[0].candidates = vec![KeySet::random(Suite::Zero, &SystemRandom).into()]
        }
        _ => {}
    }
    world.claim(&released).await;
    let world = die(world, &released, case, &proxy).await;
    let end = drive(&world, &subject, released.handover, once());
    let ending = match case.around {
        Around::LoserPolls => {
            let loser = Loser::default();
            let station = world.station(subject.address());
            let polling = async {
                loser.poll_while_it_can(station).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                ending = end => ending,
                () = polling => unreachable!("it never ends"),
            }
        }
        Around::LoserStays => {
            wait_for_the_loser(&world, &subject, &released, case).await;
            end.await
        }
        _ => end.await,
    };
    match expected(&case) {
        None => assert_taken_over(&world, &subject, &released, &ending, &name).await,
        Some(reason) => {
            let rejected = Outcome::Done(Report::Rejected(reason));
            assert_eq!(ending.outcome, rejected, "{name}");
            assert_untouched(&subject, &original, &ending, &name);
        }
    }
    ending
}

/// While the loser is in, nobody else is: we wait, and nothing is held against the keys.
async fn wait_for_the_loser(
    world: &World,
    subject: &Subject,
    released: &ReleasedMeter,
    case: Case,
) {
    let loser = Loser::default();
    let dial = loser.dial();
    let mut link = dial.dial(world.station(subject.address()));
    loser::enter(&mut link).await.unwrap();
    let outcome = world.run(released.handover, once()).await;
    let Outcome::Waiting { until, cause } = outcome else {
        panic!("{case}: {outcome:?}");
    };
    assert_eq!(cause, Some(LinkError::Busy));
    assert!(subject.seen().attempts.is_empty());
    link.leave().await;
    world.clock.set(until);
}

/// Lets a first client die, where the case says so; what goes on is a new one with the same journal.
async fn die(world: World, released: &ReleasedMeter, case: Case, proxy: &Proxy) -> World {
    let handover = released.handover;
    match case.around {
        Around::Killed(kill) => {
            let reached = world.run_until(handover, once(), kill).await;
            assert!(reached, "{case}");
        }
        Around::KilledAfterSend => world.run_until_sent(handover, once(), proxy).await,
        Around::ClockBack => {
            let sent = Kill::AfterState(State::Sent);
            assert!(world.run_until(handover, once(), sent).await);
        }
        _ => return world,
    }
    let world = world.after_crash().await;
    if case.around == Around::ClockBack {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        world.clock.set(world.clock.now().before(year));
    }
    world
}

fn flaw(around: Around) -> Flaw {
    match around {
        Around::KilledAfterSend => Flaw::HoldTransfer,
        _ => Flaw::None,
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.transfer {
            KeyTransfer::Together => "",
            KeyTransfer::OneByOne => ", one by one",
        };
        write!(f, "{}{way}", self.name)
    }
}

#[expect(clippy::print_stdout, reason = "a test may show what it found")]
fn show(meter: &str, endings: &[(Case, Ending)]) {
    println!("{meter}: {} faults", endings.len());
    println!(
        "{:52} {:22} {:>6} {:>5}",
        "fault", "outcome", "failed", "waits"
    );
    for (case, ending) in endings {
        let outcome = match &ending.outcome {
            Outcome::Done(Report::Rotated { .. }) => "rotated".to_owned(),
            Outcome::Done(Report::Rejected(reason)) => format!("rejected: {reason}"),
            other => format!("{other:?}"),
        };
        let Ending {
            failures, waits, ..
        } = ending;
        println!(
            "{:52} {outcome:22} {failures:6} {waits:5}",
            case.to_string()
        );
    }
}

/// Most of a case is waiting for the disk.
const AT_ONCE: usize = 6;
