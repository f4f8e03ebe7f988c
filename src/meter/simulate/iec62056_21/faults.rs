//! The ways in which a simulated mode C meter fails.

use std::time::Duration;

use crate::meter::simulate::{LockOut, UnknownFault};

/// What a simulated meter does wrong.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Each once, at the write of this number, counted from 1: passwords and settings alike.
    pub writes: Vec<(WriteFault, u32)>,
    /// How many calls it does not answer at all.
    pub silent_calls: u32,
    /// How many calls it breaks off, as a meter does that somebody else reads just now.
    pub busy_calls: u32,
    /// The serial number that it shows, if not its own.
    pub shows_serial: Option<String>,
    /// After how many wrong passwords nobody is let in, and for how long.
    pub lock_out: Option<LockOut>,
}

/// What goes wrong at a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteFault {
    /// It is stored; the connection dies before the answer.
    DropAfter,
    /// Power is lost before it is stored.
    CrashBefore,
    /// It is not stored; the answer says so.
    Refuse,
    /// It is stored; the answer says that it is not.
    DenyAfter,
    /// It counts only once the session has ended.
    Defer,
}

impl Faults {
    /// Faults by their names, such as `drop-after-write`, `crash-before-write:2`, `refuse`, `silent:1`, `busy:2`,
    /// `wrong-serial:X1` or `lock-out:3/60`: after 3 wrong passwords for 60 seconds.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownFault> {
        let mut faults = Self::default();
        for text in names {
            faults.add(text).ok_or_else(|| UnknownFault::new(text))?;
        }
        Ok(faults)
    }

    fn add(&mut self, text: &str) -> Option<()> {
        let (name, argument) = text.split_once(':').unwrap_or((text, ""));
        let number = || {
            if argument.is_empty() {
                Some(1)
            } else {
                argument.parse().ok()
            }
        };
        match name {
            "silent" => self.silent_calls = number()?,
            "busy" => self.busy_calls = number()?,
            "wrong-serial" if !argument.is_empty() => self.shows_serial = Some(argument.to_owned()),
            "lock-out" => {
                let (failures, seconds) = argument.split_once('/')?;
                self.lock_out = Some(LockOut {
                    failures: failures.parse().ok()?,
                    duration: Duration::from_secs(seconds.parse().ok()?),
                });
            }
            write => {
                let (_, fault) = WRITE_FAULTS.iter().find(|(name, _)| *name == write)?;
                self.writes.push((*fault, number()?));
            }
        }
        Some(())
    }

    /// The fault at the write of this number, once.
    pub(super) fn take_write(&mut self, number: u32) -> Option<WriteFault> {
        let found = self.writes.iter().position(|(_, at)| *at == number);
        found.map(|index| self.writes.remove(index).0)
    }

    /// Whether this call is one of those that are not answered.
    pub(super) fn take_silence(&mut self) -> bool {
        take_one(&mut self.silent_calls)
    }

    /// Whether this call is one of those that are broken off.
    pub(super) fn take_business(&mut self) -> bool {
        take_one(&mut self.busy_calls)
    }
}

fn take_one(left: &mut u32) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

const WRITE_FAULTS: [(&str, WriteFault); 5] = [
    ("drop-after-write", WriteFault::DropAfter),
    ("crash-before-write", WriteFault::CrashBefore),
    ("refuse", WriteFault::Refuse),
    ("deny-after-write", WriteFault::DenyAfter),
    ("defer", WriteFault::Defer),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_by_name() {
        let names = [
            "drop-after-write:2",
            "refuse",
            "silent:3",
            "busy",
            "wrong-serial:B7",
            "lock-out:3/60",
        ];
        let faults = Faults::parse(names).unwrap();
        let writes = [(WriteFault::DropAfter, 2), (WriteFault::Refuse, 1)];
        assert_eq!(faults.writes, writes);
        assert_eq!((faults.silent_calls, faults.busy_calls), (3, 1));
        assert_eq!(faults.shows_serial.as_deref(), Some("B7"));
        assert_eq!(faults.lock_out.unwrap().failures, 3);
        for text in [
            "explode",
            "refuse:x",
            "lock-out:3",
            "wrong-serial",
            "silent:-1",
        ] {
            assert_eq!(Faults::parse([text]), Err(UnknownFault::new(text)));
        }
    }
}
