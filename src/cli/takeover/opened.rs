//! What a release holds, opened item by item: one that is of no use leaves the others.

use crate::envelope::package::Package;
use crate::envelope::read::Read;
use crate::envelope::{Header, Item, OpenError, Release, SealingKeyPair};
use crate::meter::released::LeftOut;
use crate::types::{Component, HandoverId, MeterSerial, PartyId, Secret, SupplyPoint};

/// A release, opened.
pub struct Opened {
    /// Under which handover.
    pub handover: HandoverId,
    /// To whom it was given.
    pub recipient: PartyId,
    /// Secrets that the meter may have been left with: those that bear a signature first, the newest of them first.
    pub generations: Vec<Generation>,
    /// Closing reads of others than the recipient, newest first.
    pub(super) reads: Vec<(u32, Read)>,
    /// What is not used.
    pub left_out: Vec<LeftOut>,
}

/// One generation of secrets, with all else that its depositor says of the meter.
pub struct Generation {
    /// Its number.
    pub number: u32,
    /// Who deposited it.
    pub depositor: PartyId,
    /// Whether it bears a signature.
    pub is_signed: bool,
    /// What was sealed.
    pub package: Package,
}

impl Opened {
    /// Opens a release with the key that it is sealed to. Signatures are verified apart.
    pub fn release(release: &Release, key: &SealingKeyPair) -> Self {
        let issue = release.issue();
        let mut opened = Self {
            handover: issue.handover,
            recipient: issue.recipient.clone(),
            generations: Vec::new(),
            reads: Vec::new(),
            left_out: Vec::new(),
        };
        for (item, content) in release.open(key) {
            if let Err(reason) = opened.take(item, content) {
                opened.left_out.push(left_out(item, reason));
            }
        }
        opened.generations.sort_by_key(|known| !known.is_signed);
        opened
    }

    fn take(&mut self, item: &Item, content: Result<Secret, OpenError>) -> Result<(), String> {
        let content = content.map_err(|error| error.to_string())?;
        let header = item.body.header();
        match header.component {
            Component::Credentials => {
                let package =
                    Package::parse(content.expose()).map_err(|error| error.to_string())?;
                agrees(header, &package.supply_point, &package.meter.serial)?;
                self.generations.push(Generation {
                    number: item.generation,
                    depositor: header.depositor.clone(),
                    is_signed: item.body.signature().is_some(),
                    package,
                });
            }
            Component::Read => {
                let read = Read::parse(content.expose()).map_err(|error| error.to_string())?;
                agrees(header, &read.supply_point, &read.meter_serial)?;
                if header.depositor != self.recipient {
                    self.reads.push((item.generation, read));
                }
            }
        }
        Ok(())
    }

    /// Uses an item no longer.
    pub fn leave_out(&mut self, item: &Item, reason: String) {
        let number = item.generation;
        let before = self.generations.len() + self.reads.len();
        match item.body.header().component {
            Component::Credentials => self.generations.retain(|known| known.number != number),
            Component::Read => self.reads.retain(|(known, _)| *known != number),
        }
        if self.generations.len() + self.reads.len() < before {
            self.left_out.push(left_out(item, reason));
        }
    }

    /// The losing supplier's closing read.
    pub fn read(&self) -> Option<&Read> {
        self.reads.first().map(|(_, read)| read)
    }

    /// The total import of that read, in watt-hours.
    pub fn closing_watt_hours(&self) -> Option<i64> {
        self.read().map(super::escrow::imported)
    }
}

/// The service released what the header says. What was sealed must be about the same meter.
fn agrees(header: &Header, point: &SupplyPoint, serial: &MeterSerial) -> Result<(), String> {
    match header.supply_point == *point && header.meter_serial == *serial {
        true => Ok(()),
        false => Err("its content is about another meter than its header".to_owned()),
    }
}

fn left_out(item: &Item, reason: String) -> LeftOut {
    let header = item.body.header();
    LeftOut {
        component: header.component,
        generation: item.generation,
        depositor: header.depositor.clone(),
        reason,
    }
}
