//! The ways in which a simulated meter fails.

use std::time::Duration;

use super::hostile::Hostile;

/// What a simulated meter does wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Faults {
    /// Each once, at the transfer of this number, counted from 1.
    pub transfers: Vec<(TransferFault, u32)>,
    /// The counter stays when the encryption key changes.
    pub keeps_counter: bool,
    /// The counter object always shows zero.
    pub hides_counter: bool,
    /// Errors are never answered: the connection just ends.
    pub is_silent: bool,
    /// Errors are never answered, and the connection stays.
    pub is_mute: bool,
    /// How many requests for an association are still refused for now.
    pub refusals: u32,
    /// Nobody is let in while somebody else is in.
    pub is_for_one: bool,
    /// How many times the counter object still shows the highest number there is.
    pub forged_counters: u32,
    /// How many managers are still told that they need the highest counter there is.
    pub forged_exceptions: u32,
    /// It has no broadcast key.
    pub lacks_gbek: bool,
    /// How far its clock is behind.
    pub clock_behind: Duration,
    /// Which answers are mangled before they are protected.
    pub hostile: Option<Hostile>,
    /// After how many failures nobody is let in, and for how long.
    pub lock_out: Option<LockOut>,
    /// The longest message it sends; longer values come in blocks.
    pub max_bytes: u16,
}

/// A meter that has had enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LockOut {
    /// Bad tags and failed proofs until it locks.
    pub failures: u32,
    /// How long it stays locked.
    pub duration: Duration,
}

/// What goes wrong at a transfer of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransferFault {
    /// All keys are taken; the connection dies before the answer.
    DropResponse,
    /// Power is lost before any key is taken.
    CrashBefore,
    /// The first key is taken, then power is lost.
    Partial,
    /// No key is taken; the answer says so.
    Reject,
    /// The first key is taken; the answer says temporary failure, under the mixed keys.
    RejectSecond,
    /// All keys are taken; the answer is already protected with them.
    AnswerNewKey,
    /// The keys count only once the association has ended.
    Defer,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            transfers: Vec::new(),
            keeps_counter: false,
            hides_counter: false,
            is_silent: false,
            is_mute: false,
            refusals: 0,
            is_for_one: false,
            forged_counters: 0,
            forged_exceptions: 0,
            lacks_gbek: false,
            clock_behind: Duration::ZERO,
            hostile: None,
            lock_out: None,
            max_bytes: 1024,
        }
    }
}

impl Faults {
    /// Faults by their names, such as `partial`, `drop-response:2`, `silent`, `busy:3`, `hostile:SEED/FIRST/COUNT` or
    /// `lock-out:3/60`: after 3 failures for 60 seconds.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownFault> {
        let mut faults = Self::default();
        for text in names {
            let unknown = || UnknownFault::new(text);
            let (name, argument) = text.split_once(':').unwrap_or((text, ""));
            let number = || argument.parse().map_err(|_| unknown());
            match name {
                "no-ic-reset" => faults.keeps_counter = true,
                "hidden-ic" => faults.hides_counter = true,
                "silent" => faults.is_silent = true,
                "mute" => faults.is_mute = true,
                "busy" => faults.refusals = number()?,
                "one-association" => faults.is_for_one = true,
                "forged-counter" => faults.forged_counters = number()?,
                "forged-exception" => faults.forged_exceptions = number()?,
                "no-gbek" => faults.lacks_gbek = true,
                "clock-back" => faults.clock_behind = Duration::from_secs(number()?.into()),
                "hostile" => faults.hostile = Some(Hostile::parse(argument).ok_or_else(unknown)?),
                "lock-out" => {
                    let (failures, seconds) = argument.split_once('/').ok_or_else(unknown)?;
                    let seconds = seconds.parse().map_err(|_| unknown())?;
                    faults.lock_out = Some(LockOut {
                        failures: failures.parse().map_err(|_| unknown())?,
                        duration: Duration::from_secs(seconds),
                    });
                }
                transfer => {
                    let (_, fault) = TRANSFER_FAULTS
                        .iter()
                        .find(|(name, _)| *name == transfer)
                        .ok_or_else(unknown)?;
                    let at = if argument.is_empty() { "1" } else { argument };
                    faults
                        .transfers
                        .push((*fault, at.parse().map_err(|_| unknown())?));
                }
            }
        }
        Ok(faults)
    }

    /// Counts one down; whether there was one left.
    pub(super) fn take(left: &mut u32) -> bool {
        let is_due = *left > 0;
        *left = left.saturating_sub(1);
        is_due
    }

    /// The fault at the transfer of this number, once.
    pub(super) fn take_transfer(&mut self, number: u32) -> Option<TransferFault> {
        let found = self.transfers.iter().position(|(_, at)| *at == number);
        found.map(|index| self.transfers.remove(index).0)
    }
}

/// No fault has this name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no fault is called `{0}`")]
pub struct UnknownFault(String);

impl UnknownFault {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

const TRANSFER_FAULTS: [(&str, TransferFault); 7] = [
    ("drop-response", TransferFault::DropResponse),
    ("crash-before", TransferFault::CrashBefore),
    ("partial", TransferFault::Partial),
    ("reject", TransferFault::Reject),
    ("reject-second", TransferFault::RejectSecond),
    ("answer-newkey", TransferFault::AnswerNewKey),
    ("defer", TransferFault::Defer),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_by_name() {
        let faults =
            Faults::parse(["partial", "drop-response:2", "silent", "lock-out:3/60"]).unwrap();
        let transfers = [
            (TransferFault::Partial, 1),
            (TransferFault::DropResponse, 2),
        ];
        assert_eq!(faults.transfers, transfers);
        assert!(faults.is_silent && !faults.keeps_counter);
        assert_eq!(faults.lock_out.unwrap().duration, Duration::from_secs(60));
        let faults = Faults::parse(["busy:2", "clock-back:60", "hostile:7/1/9"]).unwrap();
        assert_eq!(
            (faults.refusals, faults.clock_behind),
            (2, Duration::from_secs(60))
        );
        assert!(faults.hostile.is_some());
        for text in [
            "explode",
            "partial:x",
            "lock-out",
            "lock-out:3",
            "busy",
            "hostile:1/2",
        ] {
            assert_eq!(Faults::parse([text]), Err(UnknownFault::new(text)));
        }
    }
}
