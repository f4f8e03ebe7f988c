//! One conversation with a simulated mode C meter: who calls, at what level, what is answered.

use zeroize::Zeroizing;

use super::meter::{Answer, Meter, NOBODY, Written};
use crate::iec62056_21::command::{Command, Verb};
use crate::iec62056_21::data::{DataSet, block, readout};
use crate::iec62056_21::sign_on::{Identification, Mode, OptionSelect};
use crate::iec62056_21::stream::{Block, Message};
use crate::iec62056_21::{ACK, Malformed, NAK};

pub(super) enum Reply {
    /// Bytes; none are silence.
    Say(Zeroizing<Vec<u8>>),
    HangUp,
}

pub(super) struct Session {
    stage: Stage,
    wrong_passwords: u32,
    /// What counts once the session has ended.
    later: Vec<(String, Zeroizing<String>)>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Stage {
    /// Nobody has called.
    Quiet,
    /// It has said its name.
    Named,
    /// Commands are taken, at this level; 0 is nobody.
    Programming(u8),
    /// The last thing was said; nothing more is heard.
    Over,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Quiet,
            wrong_passwords: 0,
            later: Vec::new(),
        }
    }

    pub(super) fn end(&mut self, meter: &mut Meter) {
        for (address, value) in self.later.drain(..) {
            meter.store(&address, &value);
        }
        *self = Self::new();
    }

    pub(super) fn hear(&mut self, meter: &mut Meter, heard: Result<Message, Malformed>) -> Reply {
        match (heard, self.stage) {
            (Ok(Message::Line(line)), Stage::Quiet) => self.called(meter, &line),
            (Ok(Message::Option(option)), Stage::Named) => self.begin(meter, option),
            (Ok(Message::Command(command)), Stage::Programming(level)) => {
                self.command(meter, level, &command)
            }
            // Damaged on the way: say it again.
            (Err(Malformed::Checksum), Stage::Programming(_)) => say(&[NAK]),
            _ => Reply::HangUp,
        }
    }

    fn called(&mut self, meter: &mut Meter, line: &Block) -> Reply {
        let Ok(call) = line.sign_on() else {
            return Reply::HangUp;
        };
        // Another meter on the line is meant.
        if meter.faults.take_silence() || !call.calls(&meter.seed.outstation) {
            return say(&[]);
        }
        let (manufacturer, baud, name) = &meter.seed.identification;
        self.stage = Stage::Named;
        match Identification::new(manufacturer, *baud, name) {
            Ok(identification) => say(&identification.encode()),
            Err(_) => Reply::HangUp,
        }
    }

    fn begin(&mut self, meter: &mut Meter, option: OptionSelect) -> Reply {
        if meter.faults.take_business() || meter.is_locked() {
            return self.break_off();
        }
        match option.mode {
            Mode::Readout => {
                let shown = meter.readout();
                let sets = shown.iter().filter_map(|(address, (value, unit))| {
                    DataSet::new(address, value, unit.as_deref()).ok()
                });
                self.stage = Stage::Over;
                Reply::Say(readout(sets))
            }
            Mode::Programming => {
                self.stage = Stage::Programming(0);
                let seed = DataSet::new("", &meter.seed.seed, None);
                match seed {
                    Ok(seed) => Reply::Say(Command::new(Verb::Seed, seed).encode()),
                    Err(_) => Reply::HangUp,
                }
            }
            Mode::Other(_) => Reply::HangUp,
        }
    }

    fn command(&mut self, meter: &mut Meter, level: u8, command: &Block) -> Reply {
        let Ok(Some(command)) = command.command() else {
            return say(&[NAK]);
        };
        match (command.verb, command.set) {
            (Verb::Break, _) => Reply::HangUp,
            (Verb::Password, Some(set)) => self.log_in(meter, set.value()),
            (Verb::Read | Verb::Write, Some(_)) if level == 0 => refuse(NOBODY),
            (Verb::Read, Some(set)) => read(meter, set.address()),
            (Verb::Write, Some(set)) => self.write(meter, level, set),
            _ => say(&[NAK]),
        }
    }

    fn log_in(&mut self, meter: &mut Meter, password: &str) -> Reply {
        if let Some(level) = meter.log_in(password) {
            self.stage = Stage::Programming(level);
            return say(&[ACK]);
        }
        self.stage = Stage::Programming(0);
        self.wrong_passwords += 1;
        match self.wrong_passwords < MAX_WRONG_PASSWORDS && !meter.is_locked() {
            true => say(&[NAK]),
            false => self.break_off(),
        }
    }

    fn write(&mut self, meter: &mut Meter, level: u8, set: DataSet<'_>) -> Reply {
        match meter.write(level, set.address(), set.value()) {
            Written::Said(Answer::Done) => say(&[ACK]),
            Written::Said(Answer::No(code)) => refuse(code),
            Written::Dead => Reply::HangUp,
            Written::Later => {
                let value = Zeroizing::new(set.value().to_owned());
                self.later.push((set.address().to_owned(), value));
                say(&[ACK])
            }
        }
    }

    fn break_off(&mut self) -> Reply {
        self.stage = Stage::Over;
        Reply::Say(Command::BREAK.encode())
    }
}

fn read(meter: &Meter, address: &str) -> Reply {
    let (value, unit) = match meter.read(address) {
        Ok(shown) => shown,
        Err(code) => return refuse(code),
    };
    match DataSet::new(address, &value, unit.as_deref()) {
        Ok(set) => Reply::Say(block([set])),
        Err(_) => Reply::HangUp,
    }
}

fn refuse(code: &str) -> Reply {
    let set = DataSet::new("", code, None);
    Reply::Say(block(set))
}

fn say(bytes: &[u8]) -> Reply {
    Reply::Say(Zeroizing::new(bytes.to_vec()))
}

/// In one session, however many the lock allows.
const MAX_WRONG_PASSWORDS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::{Faults, MeterSeed};
    use super::*;
    use crate::iec62056_21::stream::{Decoder, Sender};
    use crate::types::Secret;

    fn meter(faults: &[&str]) -> Meter {
        let passwords = ["READER01", "FITTER02", "MASTER03"];
        let passwords = passwords.map(|text| Secret::new(text.as_bytes().to_vec()));
        let seed = MeterSeed::new("A1", passwords);
        Meter::new(seed, Faults::parse(faults.iter().copied()).unwrap())
    }

    /// What the meter says to these bytes, until it hangs up.
    fn said(meter: &mut Meter, bytes: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new(Sender::Client);
        let mut session = Session::new();
        let mut said = Vec::new();
        for byte in bytes {
            let heard = match decoder.take(*byte) {
                Ok(None) => continue,
                Ok(Some(message)) => Ok(message),
                Err(error) => Err(error),
            };
            match session.hear(meter, heard) {
                Reply::Say(bytes) => said.extend_from_slice(&bytes),
                Reply::HangUp => break,
            }
        }
        session.end(meter);
        said
    }

    fn command(verb: Verb, address: &str, value: &str) -> Vec<u8> {
        let set = DataSet::new(address, value, None).unwrap();
        Command::new(verb, set).encode().to_vec()
    }

    fn programming(commands: &[Vec<u8>]) -> Vec<u8> {
        [&b"/?A1!\r\n\x06051\r\n"[..], &commands.concat()].concat()
    }

    const GREETING: &[u8] = b"/SIM5MC100\r\n\x01P0\x02(00000000)\x03\x60";

    fn answers(meter: &mut Meter, commands: &[Vec<u8>]) -> Vec<u8> {
        let said = said(meter, &programming(commands));
        said.strip_prefix(GREETING)
            .expect("the meter greets")
            .to_vec()
    }

    #[test]
    fn nobody_reads_without_a_password_and_every_level_does_what_it_may() {
        let mut meter = meter(&[]);
        let read = command(Verb::Read, "1.8.0", "");
        assert_eq!(
            answers(&mut meter, std::slice::from_ref(&read)),
            *block(DataSet::new("", "ERR2", None))
        );
        for (level, password) in [(1, "READER01"), (2, "FITTER02"), (3, "MASTER03")] {
            let commands = [
                command(Verb::Password, "", password),
                read.clone(),
                command(Verb::Write, "0.9.1", "120000"),
                command(Verb::Write, "C090.APN", "ours"),
                command(Verb::Read, "C003.1", ""),
            ];
            let told = answers(&mut meter, &commands);
            let refusals = told.windows(4).filter(|text| text == b"ERR3").count();
            assert_eq!(refusals, 4 - level, "level {level}");
            assert!(told.windows(10).any(|text| text == b"0012345.67"));
        }
        assert_eq!(meter.state().apn, "ours");
    }

    #[test]
    fn a_session_ends_at_the_third_wrong_password_and_the_lock_keeps_everybody_out() {
        let mut meter = meter(&["lock-out:4/60"]);
        let wrong = command(Verb::Password, "", "WRONG");
        let right = command(Verb::Password, "", "MASTER03");
        let told = answers(
            &mut meter,
            &[wrong.clone(), wrong.clone(), wrong.clone(), right.clone()],
        );
        assert_eq!(told, [&[NAK, NAK][..], &Command::BREAK.encode()].concat());
        answers(&mut meter, &[wrong]);
        let state = meter.state();
        assert_eq!(
            (state.failures_in_all, state.most_failures, state.locks),
            (4, 4, 1)
        );
        let told = said(&mut meter, &programming(&[right]));
        assert!(told.ends_with(&Command::BREAK.encode()) && meter.state().logins == 0);
    }

    #[test]
    fn a_write_is_lost_refused_or_late_as_the_fault_says() {
        let write = [
            command(Verb::Password, "", "MASTER03"),
            command(Verb::Write, "C003.1", "NEWPASS1"),
            command(Verb::Read, "0.0.0", ""),
        ];
        let address = block(DataSet::new("0.0.0", "A1", None));
        let refusal = block(DataSet::new("", "ERR3", None));
        for (fault, stored, told) in [
            ("busy:0", true, [&[ACK, ACK][..], &address].concat()),
            ("drop-after-write", true, vec![ACK]),
            ("crash-before-write", false, vec![ACK]),
            ("refuse", false, [&[ACK][..], &refusal, &address].concat()),
            (
                "deny-after-write",
                true,
                [&[ACK][..], &refusal, &address].concat(),
            ),
            ("defer", true, [&[ACK, ACK][..], &address].concat()),
        ] {
            let mut meter = meter(&[fault]);
            assert_eq!(answers(&mut meter, &write), told, "{fault}");
            assert_eq!(meter.state().has(1, b"NEWPASS1"), stored, "{fault}");
        }
    }

    #[test]
    fn what_is_damaged_is_asked_for_again_and_what_is_nonsense_ends_it() {
        let mut meter = meter(&[]);
        let mut damaged = command(Verb::Password, "", "MASTER03");
        *damaged.last_mut().unwrap() ^= 1;
        let whole = command(Verb::Password, "", "MASTER03");
        assert_eq!(answers(&mut meter, &[damaged, whole]), [NAK, ACK]);
        assert_eq!(answers(&mut meter, &[b"hello".to_vec()]), b"");
        assert_eq!(said(&mut meter, b"/?B2!\r\n"), b"");
        let total = DataSet::new("1.8.0", "0012345.67", Some("kWh")).unwrap();
        let serial = DataSet::new("C.1.0", "A1", None).unwrap();
        let shown = [&b"/SIM5MC100\r\n"[..], &readout([total, serial])].concat();
        assert_eq!(said(&mut meter, b"/?!\r\n\x06050\r\n"), shown);
    }

    #[test]
    fn a_busy_or_silent_meter_counts_no_password() {
        let mut meter = meter(&["silent", "busy"]);
        let call = programming(&[]);
        assert_eq!(said(&mut meter, b"/?A1!\r\n"), b"");
        assert!(said(&mut meter, &call).ends_with(&Command::BREAK.encode()));
        assert_eq!(said(&mut meter, &call), GREETING);
        assert_eq!(meter.state().failures_in_all, 0);
    }
}
