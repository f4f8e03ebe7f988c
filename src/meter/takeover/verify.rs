//! The end of it: the new keys work where the meter is now, and the released ones do not.

use super::enter::Failure;
use super::{Halt, Run};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::{Pair, State};
use crate::meter::link::{Dial, LinkError};

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// The released keys are tried first and the new ones after them: that the meter answers then shows that it refused
    /// the keys, and was not merely silent.
    pub(super) async fn verify(&mut self) -> Result<(), Halt> {
        if self.set(self.target()?)?.passwords().is_some() {
            return self.verify_passwords().await;
        }
        self.stay_out_while_waiting().await?;
        if let Some(released) = self
            .progress
            .released
            .filter(|_| !self.progress.released_refused)
        {
            self.expect_refusal(released).await?;
        }
        self.enter_with_held().await?;
        if !self.progress.has_target() {
            return Err(super::damaged("the meter has not the keys it should").into());
        }
        self.forget_old_destination().await?;
        self.progress.released_refused = true;
        self.commit(State::Verified).await
    }

    /// One failed association that is wanted; it is not counted, and the good one after it makes the meter forget it.
    async fn expect_refusal(&mut self, released: Pair) -> Result<(), Halt> {
        let mut counter = self.look().await?;
        for _ in 0..STALE_TRIES {
            match self.log_in(released, counter).await {
                Ok(_) => return Err(Halt::Stop(StopReason::OldKeysWork)),
                Err(Failure::Link(error))
                    if error.is_failed_login() || error == LinkError::TimedOut =>
                {
                    let is_second = self.progress.unclear.contains(&released);
                    self.note_refusal(released, &error);
                    let progress = &mut self.progress;
                    progress.released_refused = is_second || progress.refused.contains(&released);
                    // Asked again and again, a meter that locks at once would never let the new keys in.
                    self.save().await?;
                    if self.progress.released_refused {
                        return Ok(());
                    }
                    // A line that broke, or silence, is no refusal: once more, if the meter still talks.
                    counter = self.look().await?;
                }
                Err(Failure::Link(LinkError::StaleCounter(Some(lowest)))) if lowest > counter => {
                    counter = lowest.saturating_sub(1);
                }
                Err(Failure::Link(error)) => return Err(self.leave_alone(error).await?),
                Err(Failure::Ours(error)) => return Err(error.into()),
            }
        }
        Err(self.leave_alone(LinkError::StaleCounter(None)).await?)
    }
}

const STALE_TRIES: usize = 3;
