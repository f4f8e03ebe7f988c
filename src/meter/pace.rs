//! How fast connections are made: mobile networks and their gateways stand less than our side can do.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::link::{
    Change, Dial, Identity, Item, LinkError, Login, MeterLink, Setting, SettingName, Shown, Station,
};
use super::secrets::Role;
use crate::types::Timestamp;

/// Turns at even distances, one after the other.
pub(super) struct Pace {
    distance: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many turns a second.
    pub(super) fn per_second(turns: NonZeroU32) -> Self {
        Self {
            distance: Duration::from_secs(1) / turns.get(),
            next: Mutex::new(None),
        }
    }

    /// Waits for the next turn.
    async fn turn(&self) {
        sleep_until(self.take(Instant::now())).await;
    }

    /// When the next turn is, which is then taken. What was not used earlier is lost: no burst follows a pause.
    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.distance);
        turn
    }
}

/// Makes links that connect no faster than a pace allows.
pub(super) struct PacedDial<'a, D> {
    pub(super) inner: &'a D,
    pub(super) pace: Option<&'a Pace>,
}

impl<'a, D: Dial> Dial for PacedDial<'a, D> {
    type Link = PacedLink<'a, D::Link>;

    fn dial(&self, station: Station) -> Self::Link {
        PacedLink {
            inner: self.inner.dial(station),
            pace: self.pace,
        }
    }
}

/// A link that waits for its turn before it connects.
pub(super) struct PacedLink<'a, L> {
    inner: L,
    pace: Option<&'a Pace>,
}

impl<L: MeterLink> MeterLink for PacedLink<'_, L> {
    async fn enter(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        if let Some(pace) = self.pace {
            pace.turn().await;
        }
        self.inner.enter(login).await
    }

    async fn identity(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        self.inner.identity(wanted).await
    }

    async fn registers(&mut self, as_of: Option<Timestamp>) -> Result<Vec<Shown>, LinkError> {
        self.inner.registers(as_of).await
    }

    async fn setting(&mut self, name: SettingName) -> Result<Setting, LinkError> {
        self.inner.setting(name).await
    }

    async fn set(&mut self, setting: &Setting) -> Result<(), LinkError> {
        self.inner.set(setting).await
    }

    async fn other_secrets(&mut self) -> Result<Vec<Role>, LinkError> {
        self.inner.other_secrets().await
    }

    async fn change(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        self.inner.change(change).await
    }

    async fn leave(&mut self) {
        self.inner.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_keep_their_distance_and_a_pause_saves_none_up() {
        let pace = Pace::per_second(NonZeroU32::new(10).unwrap());
        let began = Instant::now();
        let after = |millis| began + Duration::from_millis(millis);
        let turns = [0, 0, 0, 250, 900, 900].map(|millis| pace.take(after(millis)));
        assert_eq!(turns, [0, 100, 200, 300, 900, 1_000].map(after));
    }
}
