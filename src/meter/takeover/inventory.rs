//! First look: is it the meter that was released, do the released keys open it, what does it show.

use super::{Halt, Run, order};
use crate::dlms::clock;
use crate::dlms::obis::{Member, Obis};
use crate::dlms::objects::ScalerUnit;
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, LinkError, MeterLink as _};
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
        match self.read_publicly(Member::SERIAL).await {
            Ok(serial) => self.check_serial(Some(&serial))?,
            Err(LinkError::Denied(_)) => {}
            Err(error) => return Err(self.leave_alone(error).await?),
        }
        let Some(expected) = self.meter.device_name.clone() else {
            return Ok(());
        };
        match self.link.read(Member::DEVICE_NAME).await {
            Ok(name) if name.as_bytes() == Ok(expected.as_bytes()) => Ok(()),
            Ok(_) => Err(Halt::Stop(StopReason::WrongMeter)),
            Err(error) => Err(self.leave_alone(error).await?),
        }
    }

    /// Every energy register that the meter has.
    async fn closing_read(&mut self) -> Result<Vec<RegisterRead>, Halt> {
        let mut reads = Vec::new();
        for register in Obis::ENERGY {
            match self.register(register).await {
                Ok(read) => reads.push(read),
                Err(LinkError::Denied(_)) => {}
                Err(error) => return Err(self.leave_alone(error).await?),
            }
        }
        Ok(reads)
    }

    async fn register(&mut self, register: Obis) -> Result<RegisterRead, LinkError> {
        let scaler_unit = self.link.read(Member::scaler_unit(register)).await?;
        let value = self.link.read(Member::register(register)).await?;
        let read_at = self.takeover.clock.now();
        let meter_time = match self.link.read(Member::TIME).await {
            Ok(time) => clock::instant(&time).unwrap_or(None),
            Err(LinkError::Denied(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(RegisterRead {
            register,
            value: value.as_integer().map_err(|_| LinkError::Garbled)?,
            scaler_unit: ScalerUnit::parse(&scaler_unit).map_err(|_| LinkError::Garbled)?,
            read_at,
            meter_time,
        })
    }
}
