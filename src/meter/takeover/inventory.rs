//! First look: is it the meter that was released, do the released secrets open it, what does it show.

use super::{Halt, Run, order};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, Identity, Item, MeterLink as _};
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
        self.check_as_manager().await?;
        self.progress.reads = self.closing_read().await?;
        self.commit(State::Inventoried).await
    }

    /// What the meter tells anybody. A lie would come out at the protected read; an honest mistake costs no attempt.
    async fn check_identity(&mut self) -> Result<(), Halt> {
        let wanted = [Item::Serial, Item::DeviceName, Item::Firmware, Item::Clock];
        let told = match self.ask_as_anybody(&wanted).await {
            Ok(told) => told,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        self.check(&told)?;
        self.progress.identity = told;
        Ok(())
    }

    /// What anybody is not told, a manager may be.
    async fn check_as_manager(&mut self) -> Result<(), Halt> {
        let known = &self.progress.identity;
        let missing = [
            (Item::DeviceName, known.device_name.is_none()),
            (Item::Firmware, known.firmware.is_none()),
            (Item::Clock, known.clock.is_none()),
        ];
        let wanted = missing.into_iter().filter(|(_, missing)| *missing);
        let wanted: Vec<_> = wanted.map(|(item, _)| item).collect();
        let told = match self.link.identity(&wanted).await {
            Ok(told) => told,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        self.check(&told)?;
        let known = &mut self.progress.identity;
        known.device_name = known.device_name.take().or(told.device_name);
        known.firmware = known.firmware.take().or(told.firmware);
        known.clock = known.clock.or(told.clock);
        Ok(())
    }

    /// Stops if what the meter tells is not what was released.
    fn check(&self, told: &Identity) -> Result<(), Halt> {
        self.check_serial(told)?;
        let differs = |released: &Option<String>, told: &Option<String>| matches!((released, told), (Some(released), Some(told)) if released != told);
        if differs(&self.meter.device_name, &told.device_name) {
            return Err(Halt::Stop(StopReason::WrongMeter));
        }
        if differs(&self.meter.firmware, &told.firmware) {
            return Err(Halt::Stop(StopReason::WrongFirmware));
        }
        Ok(())
    }

    /// Every register that the meter has of those that its profile names.
    async fn closing_read(&mut self) -> Result<Vec<RegisterRead>, Halt> {
        let shown = match self.link.registers(self.meter.supply_start).await {
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
