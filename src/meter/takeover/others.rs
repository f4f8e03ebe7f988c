//! The secrets besides those that open the meter for changes, and the doors besides ours.

use super::{Halt, Rounds, Run, TakeoverError};
use crate::dlms::keys::KeyRole;
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::{Round, State};
use crate::meter::link::{Dial, LinkError, Login, MeterLink as _};
use crate::meter::secrets::Role;

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Comes in once more with the new secrets, changes all others, and lists what stays open.
    pub(super) async fn others(&mut self) -> Result<(), Halt> {
        if self.set(self.target()?)?.passwords().is_some() {
            self.progress.stays_open = self.change_lower_passwords().await?;
            return self.commit(State::OthersDone).await;
        }
        self.enter_with_held().await?;
        self.change_kek().await?;
        let mut open = self.progress.found.clone();
        let one_by_one = self.profile.changes_one_by_one();
        for roles in requests(self.set(self.target()?)?.others(), one_by_one) {
            open.retain(|found| !roles.contains(found));
            if !self.change_other(&roles).await? {
                open.extend(roles);
            }
        }
        if self.is_last_round() {
            self.prove_clients(&mut open).await?;
        }
        self.progress.stays_open = open;
        self.commit(State::OthersDone).await
    }

    fn is_last_round(&self) -> bool {
        let once = self.takeover.settings.rounds == Rounds::Once;
        once || self.progress.round == Round::Second
    }

    /// Comes in as each client whose password was changed: only then the old one is known not to work any more.
    async fn prove_clients(&mut self, open: &mut Vec<Role>) -> Result<(), Halt> {
        let target = self.target()?;
        for role in self.set(target)?.others() {
            if !matches!(role, Role::Client(_)) || open.contains(&role) {
                continue;
            }
            let Some(set) = self.sets.get(&target) else {
                return Err(super::damaged("a set is missing").into());
            };
            match self.link.enter(Login::Other(role, set)).await {
                Ok(()) => {}
                // A client of a kind that this side cannot be: the meter's protected word for it has to do.
                Err(LinkError::NotOffered | LinkError::AssociationRefused(_)) => {}
                Err(error) if error.is_failed_login() => open.push(role),
                Err(error) => return Err(self.leave_alone(error).await?),
            }
        }
        Ok(())
    }

    /// Gives the meter the key encryption key of the target, and proves it in an association of its own: the key wrapped
    /// under itself is taken by a meter that has it and refused by one that has not, and neither does harm.
    pub(super) async fn change_kek(&mut self) -> Result<(), Halt> {
        let target = self.target()?;
        if self.set(target)?.keys().is_none() {
            return Ok(());
        }
        let Some(before) = self.progress.held.kek else {
            return Err(super::damaged("no key encryption key is proven").into());
        };
        if before == target {
            return Ok(());
        }
        for _ in 0..MAX_ATTEMPTS {
            // Whatever comes of it: the proof is what counts.
            let _ = self.send(&[KEK], before).await?;
            self.enter_with_held().await?;
            let mut proof = self.send(&[KEK], target).await?;
            if proof == Sent::Lost {
                self.enter_with_held().await?;
                proof = self.send(&[KEK], target).await?;
            }
            match proof {
                Sent::Taken => {
                    self.progress.held.kek = Some(target);
                    self.save().await?;
                    return Ok(());
                }
                Sent::Denied => {}
                Sent::Lost => self.enter_with_held().await?,
            }
        }
        Err(Halt::Stop(StopReason::KekRefused))
    }

    /// Changes secrets that do not matter for getting in. Whether the meter took them: not every meter has every one.
    async fn change_other(&mut self, roles: &[Role]) -> Result<bool, Halt> {
        let sets = self.sets_to_send_under(roles)?;
        for under in sets.iter().cycle().take(MAX_ATTEMPTS * sets.len()) {
            match self.send(roles, *under).await? {
                Sent::Taken => return Ok(true),
                Sent::Denied => {}
                Sent::Lost => self.enter_with_held().await?,
            }
        }
        Ok(false)
    }

    /// Under which sets a change may go, likeliest first. The manager's key encryption key is new by now; that of
    /// another client may still be that of any earlier set.
    fn sets_to_send_under(&self, roles: &[Role]) -> Result<Vec<u32>, TakeoverError> {
        let target = self.target()?;
        let Some(Role::ClientKey(client, _)) = roles.first() else {
            return Ok(vec![target]);
        };
        let kek = Role::ClientKey(*client, KeyRole::Kek);
        let has = |number: &u32| {
            self.sets
                .get(number)
                .is_some_and(|set| set.secret(kek).is_some())
        };
        let earlier = self
            .sets
            .keys()
            .rev()
            .copied()
            .filter(|number| *number != target);
        Ok(earlier.filter(has).chain([target]).collect())
    }

    /// Sends secrets of the target, under the set `under`.
    async fn send(&mut self, roles: &[Role], under: u32) -> Result<Sent, Halt> {
        // ORDER: that the lease is still ours is known before the meter is told anything.
        self.save().await?;
        Ok(match self.change(roles, under).await? {
            Ok(()) => Sent::Taken,
            Err(LinkError::Denied(_) | LinkError::NotOffered) => Sent::Denied,
            Err(_) => Sent::Lost,
        })
    }
}

/// What is changed in one request each, in this order: the keys of a client's set-up before the key that wraps them.
pub(in crate::meter) fn requests(roles: Vec<Role>, one_by_one: bool) -> Vec<Vec<Role>> {
    let mut requests: Vec<Vec<Role>> = Vec::new();
    for role in roles {
        match (requests.last_mut(), role) {
            (Some(last), Role::ClientKey(client, KeyRole::Gak))
                if !one_by_one && last[..] == [Role::ClientKey(client, KeyRole::Guek)] =>
            {
                last.push(role);
            }
            _ => requests.push(vec![role]),
        }
    }
    requests
}

/// What the meter said to a secret that changes nothing for the association it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    Taken,
    Denied,
    /// Nothing that can be relied upon.
    Lost,
}

const KEK: Role = Role::Key(KeyRole::Kek);
/// Enough for every answer to be lost once; beyond that, it is the meter.
const MAX_ATTEMPTS: usize = 3;
