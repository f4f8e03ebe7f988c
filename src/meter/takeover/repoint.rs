//! Making the meter report to us.

use super::{Halt, Run, address};
use crate::dlms::axdr::Value;
use crate::dlms::obis::Member;
use crate::dlms::objects::{PushDestination, apn, port};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, LinkError, MeterLink as _};
use crate::meter::released::Repoint;

/// What is written into a meter to repoint it, in this order: what cuts the line comes last.
pub(in crate::meter) fn writes(repoint: &Repoint) -> [(Member, Value); 3] {
    let push = PushDestination::tcp(&repoint.destination).value();
    [
        (Member::PUSH_DESTINATION, push),
        (Member::APN, apn(&repoint.apn)),
        (Member::PORT, port(repoint.port)),
    ]
}

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Writes each setting and reads it back. Doing it twice does no harm.
    pub(super) async fn repoint(&mut self) -> Result<(), Halt> {
        if let Some(repoint) = self.meter.repoint.clone() {
            self.enter_with_held().await?;
            for (attribute, value) in writes(&repoint) {
                self.write(attribute, &value).await?;
            }
        }
        self.commit(State::Repointed).await?;
        self.link.release().await;
        self.link = self
            .takeover
            .dial
            .dial(address(&self.meter, &self.progress));
        Ok(())
    }

    async fn write(&mut self, attribute: Member, value: &Value) -> Result<(), Halt> {
        let refused = || Halt::Stop(StopReason::RepointRefused);
        match self.link.write(attribute, value).await {
            Ok(()) => {}
            Err(LinkError::Denied(_)) => return Err(refused()),
            Err(error) => return Err(self.leave_alone(error).await?),
        }
        match self.link.read(attribute).await {
            Ok(read) if read == *value => Ok(()),
            Ok(_) | Err(LinkError::Denied(_)) => Err(refused()),
            Err(error) => Err(self.leave_alone(error).await?),
        }
    }
}
