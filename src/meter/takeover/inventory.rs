//! First look: is it the meter that was released, do the released secrets open it, what does it show.

use super::{Halt, Run, order};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, Item, MeterLink as _};
use crate::meter::released::RegisterRead;

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Changes nothing in the meter.
    pub(super) async fn inventory(&mut self) -> Result<(), Halt> {
        self.stay_out_while_waiting()?;
        self.check_identity().await?;
        let order = order::of_released(self.sets.keys().copied());
        let Some(pair) = self.enter_with_any(&order).await? else {
            return Err(Halt::Stop(StopReason::WrongKeys));
        };
        self.progress.released = Some(pair);
        self.progress.reads = self.closing_read().await?;
        self.commit(State::Inventoried).await
    }

    /// What the meter tells anybody. A lie would come out at the protected read; an honest mistake costs no attempt.
    async fn check_identity(&mut self) -> Result<(), Halt> {
        let wanted = [Item::Serial, Item::DeviceName];
        let told = match self.ask_as_anybody(&wanted).await {
            Ok(told) => told,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        self.check_serial(&told)?;
        match (&self.meter.device_name, &told.device_name) {
            (Some(expected), Some(told)) if told != expected => {
                Err(Halt::Stop(StopReason::WrongMeter))
            }
            _ => Ok(()),
        }
    }

    /// Every register that the meter has of those that its profile names.
    async fn closing_read(&mut self) -> Result<Vec<RegisterRead>, Halt> {
        let shown = match self.link.registers().await {
            Ok(shown) => shown,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        let read_at = self.takeover.clock.now();
        let read = shown.into_iter().map(|shown| RegisterRead {
            register: shown.register,
            value: shown.value,
            scaler_unit: shown.scaler_unit,
            read_at,
            meter_time: shown.meter_time,
        });
        Ok(read.collect())
    }
}
