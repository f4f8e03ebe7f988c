//! Which way to the meter: each depositor's secrets go where that depositor says that the meter is, and nowhere else.
//!
//! Ways are tried until one of them leads into the meter; from then on there is no other. One that leads nowhere for good
//! (another meter, wrong secrets) is not tried again. One that leads nowhere for now keeps no other of the same belief
//! waiting, but all that are believed less.

use super::{Halt, Run, station};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::{Held, NoWay};
use crate::meter::link::{Dial, LinkError, MeterLink as _};
use crate::meter::released::Way;
use crate::types::Timestamp;

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// The way that is gone.
    pub(super) fn way(&self) -> &Way {
        let way = self.meter.ways.get(self.progress.way);
        way.expect("every way that is turned to is one of the meter's")
    }

    /// The sets that may be said there, oldest first.
    pub(super) fn sets_of_way(&self) -> Vec<u32> {
        let sets = self.of_ways.get(self.progress.way);
        sets.cloned().unwrap_or_default()
    }

    /// Finds the way into the meter, and looks around there.
    pub(super) async fn inventory(&mut self) -> Result<(), Halt> {
        self.stay_out_while_waiting().await?;
        let (mut tried, mut waits) = (Vec::new(), None);
        loop {
            let way = self.progress.way;
            match self.look_around().await {
                Ok(()) => return Ok(()),
                Err(Halt::Stop(reason)) => self.progress.no_ways.push(NoWay { way, reason }),
                // Not if we guessed as often as is safe: the same meter may be behind every address.
                Err(Halt::Wait(until, Some(cause))) if cause != LinkError::KeysRefused => {
                    waits = Some((until, cause));
                }
                Err(halt) => return Err(halt),
            }
            tried.push(way);
            if let Some(next) = self.next_way(&tried) {
                self.turn_to(next).await?;
                continue;
            }
            let (Some(first), Some((until, cause))) = (self.next_way(&[]), waits) else {
                return Err(Halt::Stop(self.no_way()));
            };
            self.turn_to(first).await?;
            self.progress.wait_until = until;
            self.save().await?;
            return Err(Halt::Wait(until, Some(cause)));
        }
    }

    /// The likeliest of those that are believed most and do not lead nowhere, apart from those that were tried just now.
    fn next_way(&self, tried: &[usize]) -> Option<usize> {
        let no_ways = &self.progress.no_ways;
        let open = |(at, _): &(usize, &Way)| no_ways.iter().all(|no| no.way != *at);
        let open = || self.meter.ways.iter().enumerate().filter(open);
        let most = open().map(|(_, way)| way.belief).min()?;
        open()
            .find(|(at, way)| way.belief == most && !tried.contains(at))
            .map(|(at, _)| at)
    }

    /// Why the likeliest way led nowhere.
    fn no_way(&self) -> StopReason {
        let first = self.progress.no_ways.iter().min_by_key(|no| no.way);
        first.map_or(StopReason::WrongMeter, |no| no.reason)
    }

    /// What was believed of the meter was told on another way. What was refused or unclear stays: sets are of one way each.
    async fn turn_to(&mut self, way: usize) -> Result<(), Halt> {
        let progress = &mut self.progress;
        progress.way = way;
        progress.held = Held::default();
        progress.released = None;
        progress.wait_until = Timestamp::default();
        self.save().await?;
        self.link.leave().await;
        self.profile = self.takeover.profile(self.way())?;
        let station = station((&self.meter, self.way()), &self.profile, &self.progress);
        self.link = self.takeover.dial.dial(station);
        Ok(())
    }
}
