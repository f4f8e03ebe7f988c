//! A mode C meter of either kind, and what is seen of it.

use std::net::SocketAddr;

use cos_escrow::meter::link::DeviceId;
use cos_escrow::meter::released::{Belief, ReleasedMeter, Repoint, Way};
use cos_escrow::meter::secrets::{Level, PasswordSet, Secrets};
use cos_escrow::meter::simulate::iec62056_21::{Faults, MeterSeed, MeterState, Simulator};
use cos_escrow::types::{Digest, HandoverId, Secret, SystemRandom};

use super::peer::Peer;
use crate::takeover::world::World;

/// Which of the two simulated meters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The one of this crate.
    BuiltIn,
    /// The one in Python.
    Foreign,
}

pub(super) enum Meter {
    BuiltIn(Simulator),
    Foreign(Peer),
}

/// What a meter remembers.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) passwords: [Digest; 3],
    pub(super) passwords_seen: [usize; 3],
    pub(super) most_failures: u32,
    pub(super) failures_in_all: u32,
    pub(super) locks: u32,
    pub(super) logins: u32,
    pub(super) writes: u32,
    pub(super) apn: String,
    pub(super) destination: String,
}

impl Meter {
    pub(super) async fn start(kind: Kind, world: &World, name: &str, faults: &[&str]) -> Self {
        match kind {
            Kind::BuiltIn => {
                let passwords = PASSWORDS.map(|text| Secret::new(text.as_bytes().to_vec()));
                let mut seed = MeterSeed::new("A012345678", passwords);
                seed.outstation = "12345678".to_owned();
                let faults = Faults::parse(faults.iter().copied()).unwrap();
                let bind = SocketAddr::from(([127, 0, 0, 1], 0));
                Self::BuiltIn(Simulator::start(bind, seed, faults).await.unwrap())
            }
            Kind::Foreign => Self::Foreign(Peer::start(world, name, faults).await),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::BuiltIn(meter) => meter.address(),
            Self::Foreign(meter) => meter.address(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        match self {
            Self::BuiltIn(meter) => seen(&meter.state()),
            Self::Foreign(meter) => meter.seen(),
        }
    }

    /// What the gaining supplier gets of it.
    pub(super) fn released(&self) -> ReleasedMeter {
        released_at(self.address(), vec![passwords(PASSWORDS)])
    }
}

fn seen(state: &MeterState) -> Seen {
    Seen {
        passwords: state.passwords,
        passwords_seen: state.passwords_seen,
        most_failures: state.most_failures,
        failures_in_all: state.failures_in_all,
        locks: state.locks,
        logins: state.logins,
        writes: state.writes,
        apn: state.apn.clone(),
        destination: state.destination.clone(),
    }
}

impl Seen {
    /// Whether these are exactly its passwords.
    pub(super) fn holds(&self, secrets: &Secrets) -> bool {
        let set = secrets.passwords().unwrap();
        let levels = [Level::One, Level::Two, Level::Three];
        let mut pairs = levels.into_iter().zip(&self.passwords);
        pairs.all(|(level, own)| {
            set.password(level)
                .is_some_and(|p| Digest::of(p.expose()) == *own)
        })
    }
}

pub(super) fn released_at(address: SocketAddr, candidates: Vec<Secrets>) -> ReleasedMeter {
    ReleasedMeter {
        handover: HandoverId::random(&SystemRandom),
        supply_point: "2499999999991".parse().unwrap(),
        serial: "A01 2345678".parse().unwrap(),
        ways: vec![Way {
            generation: 1,
            address_of: None,
            belief: Belief::Due,
            address,
            profile: "simulated-mode-c".to_owned(),
            device: DeviceId::Outstation("12345678".to_owned()),
            device_name: None,
            firmware: None,
            candidates,
        }],
        supply_start: None,
        closing_read: None,
        repoint: Some(Repoint {
            apn: "gainer.smart".to_owned(),
            destination: "10.9.8.7:5000".to_owned(),
            port: 4060,
            address: None,
        }),
    }
}

/// The passwords of levels 1, 2 and 3.
pub(super) fn passwords(texts: [&str; 3]) -> Secrets {
    let levels = [Level::One, Level::Two, Level::Three];
    let texts: Vec<_> = levels.into_iter().zip(texts).collect();
    some_passwords(&texts)
}

/// The passwords of levels 1 and 2 alone.
pub(super) fn lower_passwords() -> Secrets {
    some_passwords(&[(Level::One, PASSWORDS[0]), (Level::Two, PASSWORDS[1])])
}

/// The password of level 3 alone.
pub(super) fn highest_password() -> Secrets {
    some_passwords(&[(Level::Three, PASSWORDS[2])])
}

fn some_passwords(texts: &[(Level, &str)]) -> Secrets {
    let set = texts
        .iter()
        .map(|(level, text)| (*level, Secret::new(text.as_bytes().to_vec())));
    Secrets::Passwords(PasswordSet::new(set).unwrap())
}

/// What every meter here starts with.
pub(super) const PASSWORDS: [&str; 3] = ["FEDC0001", "FEDC0002", "FEDC0003"];
