//! Commands of programming mode.
//!
//! ```text
//! SOH letter digit [STX data-set] ETX bcc
//! ```

use zeroize::Zeroizing;

use super::data::DataSet;
use super::{ETX, Malformed, SOH, STX, bcc};

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// `P0`: the meter asks for a password, and says what a transformed one has to be made with.
    Seed,
    /// `P1`: the password, as it is.
    Password,
    /// `P2`: what the maker's algorithm makes of password and seed.
    Transformed,
    /// `R1`: read a register.
    Read,
    /// `W1`: write a register.
    Write,
    /// `B0`: the end of it.
    Break,
}

impl Verb {
    fn characters(self) -> [u8; 2] {
        *match self {
            Self::Seed => b"P0",
            Self::Password => b"P1",
            Self::Transformed => b"P2",
            Self::Read => b"R1",
            Self::Write => b"W1",
            Self::Break => b"B0",
        }
    }

    fn of(characters: &[u8]) -> Option<Self> {
        let known = [
            Self::Seed,
            Self::Password,
            Self::Transformed,
            Self::Read,
            Self::Write,
            Self::Break,
        ];
        known
            .into_iter()
            .find(|verb| verb.characters() == characters)
    }
}

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Command<'a> {
    /// What is to be done.
    pub verb: Verb,
    /// With what; a break has nothing.
    pub set: Option<DataSet<'a>>,
}

impl<'a> Command<'a> {
    /// The end of it.
    pub const BREAK: Self = Self {
        verb: Verb::Break,
        set: None,
    };

    /// A command about a data set.
    pub fn new(verb: Verb, set: DataSet<'a>) -> Self {
        Self {
            verb,
            set: Some(set),
        }
    }

    /// What stands in a block between SOH and ETX. `None` for commands that nothing here knows.
    pub(super) fn parse(text: &'a str) -> Result<Option<Self>, Malformed> {
        let (characters, rest) = text.split_at_checked(2).ok_or(Malformed::Form)?;
        let set = match rest.strip_prefix(char::from(STX)) {
            Some(set) => Some(set),
            None if rest.is_empty() => None,
            None => return Err(Malformed::Form),
        };
        let Some(verb) = Verb::of(characters.as_bytes()) else {
            return Ok(None);
        };
        let set = set.map(DataSet::parse).transpose()?;
        Ok(Some(Self { verb, set }))
    }

    /// The bytes that go out.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Long enough for every command, so that no reallocation leaves a copy of a password behind.
        let mut out = Zeroizing::new(Vec::with_capacity(256));
        out.push(SOH);
        out.extend_from_slice(&self.verb.characters());
        if let Some(set) = &self.set {
            out.push(STX);
            set.write(&mut out);
        }
        out.push(ETX);
        let check = bcc(&out[1..]);
        out.push(check);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_bytes_of_the_standard() {
        let password = DataSet::new("", "FEDC0003", None).unwrap();
        let read = DataSet::of("1.8.0").unwrap();
        let write = DataSet::new("C003.1", "new", None).unwrap();
        for (command, bytes) in [
            (Command::BREAK, &b"\x01B0\x03q"[..]),
            (
                Command::new(Verb::Password, password),
                b"\x01P1\x02(FEDC0003)\x03\x66",
            ),
            (Command::new(Verb::Read, read), b"\x01R1\x021.8.0()\x03Z"),
            (
                Command::new(Verb::Write, write),
                b"\x01W1\x02C003.1(new)\x03u",
            ),
        ] {
            assert_eq!(command.encode()[..], *bytes, "{command:?}");
            let text = str::from_utf8(&bytes[1..bytes.len() - 2]).unwrap();
            assert_eq!(Command::parse(text), Ok(Some(command)));
        }
    }

    #[test]
    fn a_command_of_another_kind_is_told_from_damage() {
        assert_eq!(Command::parse("R5\x021.8.0()"), Ok(None));
        for text in ["", "R", "R11.8.0()", "R1\x021.8.0", "R1\x02\x02()"] {
            assert_eq!(Command::parse(text), Err(Malformed::Form), "{text:?}");
        }
    }
}
