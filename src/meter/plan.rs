//! What a takeover would send, for people to read before it does. Keys are not made for it, and none is shown.

use std::fmt;

use super::link::{Item, Said, Setting, SettingName, words};
use super::profile::{Profile, Protocol};
use super::released::{ReleasedMeter, Repoint, Way};
use super::secrets::{Level, Role, Secrets};
use super::takeover::inventory::IDENTITY;
use super::takeover::others::requests;
use super::takeover::repoint::{last_write, writes};
use super::takeover::{Rounds, Settings};
use crate::dlms::keys::KeyRole;

/// One thing that a takeover does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlannedStep {
    /// Something is said to the meter.
    Meter {
        /// As it is sent, secrets redacted.
        sent: String,
        /// What is to be known about it.
        note: &'static str,
    },
    /// Something is said to the escrow.
    Escrow(&'static str),
}

impl fmt::Display for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meter { sent, note: "" } => f.write_str(sent),
            Self::Meter { sent, note } => write!(f, "{sent} [{note}]"),
            Self::Escrow(what) => f.write_str(what),
        }
    }
}

/// What a takeover of `meter` does on the likeliest way if nothing goes wrong and no other client is found than those that were handed over.
/// Releases of associations are left out.
pub fn plan(meter: &ReleasedMeter, profile: &Profile, settings: &Settings) -> Vec<PlannedStep> {
    let Some(way) = meter.ways.first() else {
        return Vec::new();
    };
    let Some(newest) = way.candidates.first() else {
        return Vec::new();
    };
    let mut plan = Plan {
        profile,
        newest,
        steps: Vec::new(),
    };
    plan.inventory(meter, way);
    plan.escrow("ACCEPT or DISPUTE the closing read");
    plan.escrow("DEPOSIT new secrets");
    plan.enter(RELEASED);
    plan.transfer("under the released KEK");
    plan.others("under the released KEK", settings.rounds == Rounds::Once);
    if let Some(repoint) = &meter.repoint {
        plan.repoint(repoint);
    }
    if settings.rounds == Rounds::Twice {
        plan.escrow("DEPOSIT new secrets");
        plan.enter(NEW);
        plan.kek("under the KEK of the first round");
        plan.transfer("under the KEK of the second round");
        plan.enter_for_others();
        plan.rest(true);
    }
    plan.refusals();
    plan.enter(NEW);
    if let Some(last) = meter
        .repoint
        .as_ref()
        .and_then(|to| last_write(to, profile))
    {
        plan.say(&Said::Setting(last.name()), "");
        plan.write(&last);
    }
    plan.escrow("REPORT");
    plan.steps
}

struct Plan<'a> {
    profile: &'a Profile,
    newest: &'a Secrets,
    steps: Vec<PlannedStep>,
}

impl Plan<'_> {
    fn inventory(&mut self, meter: &ReleasedMeter, way: &Way) {
        self.say(&Said::Anybody, "");
        self.say(&Said::Told(&IDENTITY), "must be the released meter");
        self.enter(match way.candidates.len() {
            1 => RELEASED,
            _ => "with the released secrets, the newest set first",
        });
        self.say(&Said::Identity(&IDENTITY), "must be the released meter");
        self.say(&Said::Registers(meter.supply_start), "");
        self.say(&Said::OtherSecrets, "");
    }

    /// The secrets that open the meter, and the look at what it has then.
    fn transfer(&mut self, under: &'static str) {
        let mut roles = self.newest.opening();
        let requests = match self.profile.changes_one_by_one() {
            true => {
                roles.reverse();
                roles.into_iter().map(|role| vec![role]).collect()
            }
            false => vec![roles],
        };
        for roles in requests {
            self.change(&roles, under);
            self.look();
            self.enter(NEW);
        }
    }

    fn others(&mut self, under: &'static str, is_last_round: bool) {
        self.enter_for_others();
        self.kek(under);
        self.rest(is_last_round);
    }

    fn kek(&mut self, under: &'static str) {
        if self.newest.keys().is_none() {
            return;
        }
        let kek = [Role::Key(KeyRole::Kek)];
        self.change(&kek, under);
        self.enter(NEW);
        self.change(&kek, "under itself: who takes it has it");
    }

    /// Lower passwords are changed in a session each.
    fn enter_for_others(&mut self) {
        if self.newest.keys().is_some() {
            self.enter(NEW);
        }
    }

    fn rest(&mut self, is_last_round: bool) {
        if let Protocol::ModeC(mode_c) = &self.profile.protocol {
            let levels = mode_c.passwords.registers().into_keys();
            for level in levels.filter(|level| *level != Level::Three) {
                let role = Role::Password(level);
                self.enter(NEW);
                self.change(&[role], "");
                self.say(&Said::Other(role), "with the new password");
                self.say(&Said::Identity(&[Item::Serial]), "");
            }
            return;
        }
        let mut others = self.newest.others();
        let broadcast = Role::Key(KeyRole::Gbek);
        if self.newest.keys().is_some() && !others.contains(&broadcast) {
            others.insert(0, broadcast);
        }
        for roles in requests(others.clone(), self.profile.changes_one_by_one()) {
            self.change(&roles, "");
        }
        for role in others.into_iter().filter(|_| is_last_round) {
            if let Role::Client(_) = role {
                self.say(&Said::Other(role), "with the new password");
            }
        }
    }

    /// What was released is tried once more.
    fn refusals(&mut self) {
        let Protocol::ModeC(mode_c) = &self.profile.protocol else {
            self.look();
            self.say(&Said::Manager, MUST_BE_REFUSED);
            return;
        };
        let released = self.newest.passwords().into_iter();
        let changed = mode_c.passwords.registers();
        for level in released.flat_map(|passwords| passwords.levels()) {
            if changed.contains_key(&level) {
                self.enter(NEW);
                self.say(&Said::Other(Role::Password(level)), MUST_BE_REFUSED);
            }
        }
    }

    fn repoint(&mut self, repoint: &Repoint) {
        self.enter(NEW);
        for setting in writes(repoint, self.profile, &[]) {
            if let Setting::AutoConnect(_) = setting {
                self.say(&Said::Setting(setting.name()), "");
                let push = SettingName::PushDestination;
                self.say(&Said::Setting(push), "if that list is empty");
                self.say(&Said::Set(&setting), "what is there now stays second");
                self.say(&Said::Setting(setting.name()), READ_BACK);
            } else {
                self.write(&setting);
            }
        }
    }

    fn write(&mut self, setting: &Setting) {
        self.say(&Said::Set(setting), "");
        self.say(&Said::Setting(setting.name()), READ_BACK);
    }

    /// Comes in as the manager, after a look at the meter as anybody.
    fn enter(&mut self, with: &'static str) {
        self.look();
        self.say(&Said::Manager, with);
        self.say(&Said::Identity(&[Item::Serial]), "");
    }

    fn look(&mut self) {
        if self.profile.shows(Item::Counter) {
            self.say(&Said::Anybody, "");
            self.say(&Said::Told(&[Item::Counter]), "");
        }
    }

    fn change(&mut self, roles: &[Role], note: &'static str) {
        self.say(&Said::Change(roles), note);
    }

    fn say(&mut self, said: &Said<'_>, note: &'static str) {
        let sent = words(self.profile, said).into_iter();
        self.steps
            .extend(sent.map(|sent| PlannedStep::Meter { sent, note }));
    }

    fn escrow(&mut self, what: &'static str) {
        self.steps.push(PlannedStep::Escrow(what));
    }
}

const RELEASED: &str = "with the released secrets";
const NEW: &str = "with the new secrets";
const MUST_BE_REFUSED: &str = "with what was released: must be refused";
const READ_BACK: &str = "read back";
