//! How far a takeover has come, and what is believed about the meter.

use std::fmt;
use std::time::Duration;

use crate::meter::escrow::StopReason;
use crate::meter::link::Identity;
use crate::meter::released::RegisterRead;
use crate::meter::secrets::{Level, Role};
use crate::types::Timestamp;

/// The steps, in order. From `Prepared` to `OthersDone` they are taken once a round.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The released meter is in the journal.
    Claimed,
    /// It is the right meter, old keys open it, the change-of-supplier read is taken.
    Inventoried,
    /// New keys are made and durable here and in the escrow.
    Prepared,
    /// New keys may have been sent: nobody knows what the meter has.
    Sent,
    /// The meter has exactly the new keys.
    Proven,
    /// Key encryption key and broadcast key are new as well.
    OthersDone,
    /// The meter reports to us.
    Repointed,
    /// New keys work over the new path, the handed-over ones do not.
    Verified,
    /// The escrow knows how it ended. Nothing follows.
    Reported,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Claimed,
        Self::Inventoried,
        Self::Prepared,
        Self::Sent,
        Self::Proven,
        Self::OthersDone,
        Self::Repointed,
        Self::Verified,
        Self::Reported,
    ];

    /// The word in tables and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Inventoried => "inventoried",
            Self::Prepared => "prepared",
            Self::Sent => "sent",
            Self::Proven => "proven",
            Self::OthersDone => "others_done",
            Self::Repointed => "repointed",
            Self::Verified => "verified",
            Self::Reported => "reported",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which rotation this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Round {
    /// Over the path the meter was released with: locks the losing supplier out, but it may have listened.
    First,
    /// After repointing, key encryption key first: what was listened to opens nothing any more.
    Second,
}

/// The numbers of the key sets that GUEK and GAK are from. Sets are numbered upwards, oldest first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Pair {
    /// The set of the encryption key.
    pub guek: u32,
    /// The set of the authentication key.
    pub gak: u32,
}

impl Pair {
    /// Both keys of one set.
    pub fn of(set: u32) -> Self {
        Self {
            guek: set,
            gak: set,
        }
    }
}

/// The keys that the meter was last proven to have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Held {
    /// Proven by an association and a protected read.
    pub pair: Option<Pair>,
    /// Proven by a key that unwrapped.
    pub kek: Option<u32>,
}

/// A way that leads to no meter that is ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct NoWay {
    /// Its place among the ways.
    pub way: usize,
    /// What was found there.
    pub reason: StopReason,
}

/// Everything about one takeover that must outlive the process, secrets apart.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Progress {
    /// How far it is.
    pub state: State,
    /// Which rotation it is in.
    pub round: Round,
    /// Why it goes no further.
    pub stopped: Option<StopReason>,
    /// Which of the ways to the meter is gone, by its place among them.
    #[serde(default)]
    pub way: usize,
    /// The ways that led nowhere for good.
    #[serde(default)]
    pub no_ways: Vec<NoWay>,
    /// What the meter has.
    pub held: Held,
    /// The pair that opened the meter first: the one that must be refused in the end.
    pub released: Option<Pair>,
    /// What the meter should have if the last transfer went well; `None` once it is known what it has.
    pub expected: Option<Pair>,
    /// The set whose key encryption key wrapped the last transfer.
    pub sent_under: Option<u32>,
    /// The set that the meter shall have after this round.
    pub target: Option<u32>,
    /// The generation that the escrow gave the target.
    pub generation: Option<u32>,
    /// Pairs that the meter refused since the last transfer.
    pub refused: Vec<Pair>,
    /// Pairs that it did not answer clearly, to be tried again after all others.
    pub unclear: Vec<Pair>,
    /// The counter that the meter showed before it last let us in.
    pub counter_seen: u32,
    /// Failed associations since the last good one; counted before they are tried.
    pub failures: u32,
    /// Failed associations in all.
    pub failures_in_all: u32,
    /// How long the last wait was.
    pub back_off: Duration,
    /// Nothing is tried before this time.
    pub wait_until: Timestamp,
    /// What the meter told about itself before anything was changed.
    pub identity: Identity,
    /// The change-of-supplier read.
    pub reads: Vec<RegisterRead>,
    /// Secrets that the meter has besides the manager's.
    pub found: Vec<Role>,
    /// Secrets that could not be changed.
    pub stays_open: Vec<Role>,
    /// Whether the released keys were refused after the new ones worked.
    pub released_refused: bool,
    /// At which levels the released passwords were refused.
    #[serde(default)]
    pub levels_refused: Vec<Level>,
}

impl Progress {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            state: State::Claimed,
            round: Round::First,
            stopped: None,
            way: 0,
            no_ways: Vec::new(),
            held: Held::default(),
            released: None,
            expected: None,
            sent_under: None,
            target: None,
            generation: None,
            refused: Vec::new(),
            unclear: Vec::new(),
            counter_seen: 0,
            failures: 0,
            failures_in_all: 0,
            back_off: Duration::ZERO,
            wait_until: Timestamp::default(),
            identity: Identity::default(),
            reads: Vec::new(),
            found: Vec::new(),
            stays_open: Vec::new(),
            released_refused: false,
            levels_refused: Vec::new(),
        }
    }

    /// Whether the meter has exactly GUEK and GAK of the target.
    pub fn has_target(&self) -> bool {
        self.held.pair.is_some() && self.held.pair == self.target.map(Pair::of)
    }
}
