//! What connections and requests take up: places among all, and seats among those of the same identity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::identity::Identity;

/// Places of served connections. When all are taken, the connection that has been idle longest gives its own up.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    wanted: Arc<Notify>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            wanted: Arc::default(),
        }
    }

    /// A place, once there is one.
    pub(super) async fn take(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.free).acquire_owned();
        tokio::pin!(place);
        loop {
            tokio::select! {
                biased;
                place = &mut place => return place.expect("it is never closed"),
                () = self.ask() => {}
            }
        }
    }

    /// Asks one idle connection to go. It may be slow to, or somebody else may get its place: then another is asked.
    async fn ask(&self) {
        self.wanted.notify_one();
        sleep(ASK_AGAIN).await;
    }

    /// Ends when the place of the connection that has waited here longest is wanted.
    pub(super) async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            // Whoever asked may have found another place since.
            if self.free.available_permits() == 0 {
                return;
            }
        }
    }
}

/// How many of something each identity has now.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<Identity, usize>>>);

/// One of an identity's, until it is dropped.
pub(super) struct Seat {
    seats: Seats,
    identity: Identity,
}

impl Seats {
    /// A seat for one more of `identity`, if it has fewer than `max`.
    pub(super) fn take(&self, identity: &Identity, max: usize) -> Option<Seat> {
        let mut taken = self.taken();
        let count = taken.get(identity).copied().unwrap_or_default();
        (count < max).then(|| {
            taken.insert(identity.clone(), count + 1);
            Seat {
                seats: self.clone(),
                identity: identity.clone(),
            }
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Identity, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        match taken.get_mut(&self.identity) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.identity);
            }
        }
    }
}

/// How long an idle connection has to go before another one is asked.
const ASK_AGAIN: Duration = Duration::from_millis(250);
