//! First look: is it the meter that was released, do the released secrets open it, what does it show.

use super::{Halt, Run, order};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, Identity, Item, MeterLink as _};
use crate::meter::released::RegisterRead;

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Changes nothing in the meter.
    pub(super) async fn look_around(&mut self) -> Result<(), Halt> {
        self.check_identity().await?;
        let order = order::of_released(self.sets_of_way().into_iter());
        let Some(pair) = self.enter_with_any(&order).await? else {
            return Err(Halt::Stop(StopReason::WrongKeys));
        };
        self.progress.released = Some(pair);
        self.check_as_manager().await?;
        self.progress.reads = self.closing_read().await?;
        self.progress.found = match self.link.other_secrets().await {
            Ok(found) => found,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
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

    /// The same, protected: what anybody may read, anybody may have answered.
    async fn check_as_manager(&mut self) -> Result<(), Halt> {
        let told = match self.link.identity(&IDENTITY).await {
            Ok(told) => told,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        self.check(&told)?;
        let known = std::mem::take(&mut self.progress.identity);
        self.progress.identity = Identity {
            device_name: told.device_name.or(known.device_name),
            serial: told.serial.or(known.serial),
            firmware: told.firmware.or(known.firmware),
            clock: told.clock.or(known.clock),
            counter: None,
        };
        Ok(())
    }

    /// Stops if what the meter tells is not what was released.
    fn check(&self, told: &Identity) -> Result<(), Halt> {
        self.check_serial(told)?;
        let differs = |released: &Option<String>, told: &Option<String>| matches!((released, told), (Some(released), Some(told)) if released != told);
        if differs(&self.way().device_name, &told.device_name) {
            return Err(Halt::Stop(StopReason::WrongMeter));
        }
        if differs(&self.way().firmware, &told.firmware) {
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

/// What is compared with what was released, and kept.
pub(in crate::meter) const IDENTITY: [Item; 4] =
    [Item::Serial, Item::DeviceName, Item::Firmware, Item::Clock];
