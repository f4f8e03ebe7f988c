//! How a conversation begins: who is called, who answers, and how to go on.
//!
//! ```text
//! / ? address ! CR LF
//! / manufacturer baud [\ escape]… identification CR LF
//! ACK protocol baud mode CR LF
//! ```

use super::{ACK, Malformed, is_plain};

/// Calls a meter. An empty address calls the only one on the line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignOn {
    address: String,
}

impl SignOn {
    /// A call: at most 32 characters, none of them `/`, `?` or `!`.
    pub fn new(address: &str) -> Result<Self, Malformed> {
        let address = address.to_owned();
        is_plain(&address, 32, b"/?!")
            .then_some(Self { address })
            .ok_or(Malformed::Form)
    }

    /// Who is called.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the meter with this address is meant. Zeros in front mean nothing.
    pub fn calls(&self, address: &str) -> bool {
        let bare = |text: &str| text.trim_start_matches('0').to_owned();
        self.address.is_empty() || bare(&self.address) == bare(address)
    }

    /// The bytes that go out.
    pub fn encode(&self) -> Vec<u8> {
        format!("/?{}!\r\n", self.address).into_bytes()
    }

    pub(super) fn parse(line: &str) -> Result<Self, Malformed> {
        let address = line.strip_prefix("/?").and_then(|l| l.strip_suffix('!'));
        Self::new(address.ok_or(Malformed::Form)?)
    }
}

/// What a meter answers to a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identification {
    manufacturer: String,
    baud: char,
    name: String,
}

impl Identification {
    /// An answer: three letters of the FLAG association, the speed that it proposes, its own name for itself.
    pub fn new(manufacturer: &str, baud: char, name: &str) -> Result<Self, Malformed> {
        let is_right = manufacturer.len() == 3
            && manufacturer.bytes().all(|byte| byte.is_ascii_alphabetic())
            && baud.is_ascii_alphanumeric()
            && is_plain(name, 32, b"/!");
        let identification = Self {
            manufacturer: manufacturer.to_owned(),
            baud,
            name: name.to_owned(),
        };
        is_right.then_some(identification).ok_or(Malformed::Form)
    }

    /// Who made it: three letters.
    pub fn manufacturer(&self) -> &str {
        &self.manufacturer
    }

    /// The speed that it proposes, to be repeated in the answer. Over TCP it means nothing.
    pub fn baud(&self) -> char {
        self.baud
    }

    /// What it calls itself, escape sequences included.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes that go out.
    pub fn encode(&self) -> Vec<u8> {
        let Self {
            manufacturer,
            baud,
            name,
        } = self;
        format!("/{manufacturer}{baud}{name}\r\n").into_bytes()
    }

    pub(super) fn parse(line: &str) -> Result<Self, Malformed> {
        let rest = line.strip_prefix('/').ok_or(Malformed::Form)?;
        let (manufacturer, rest) = rest.split_at_checked(3).ok_or(Malformed::Form)?;
        let baud = rest.chars().next().ok_or(Malformed::Form)?;
        Self::new(manufacturer, baud, &rest[baud.len_utf8()..])
    }
}

/// How the client wants to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionSelect {
    /// The speed, as the meter proposed it.
    pub baud: char,
    /// What to do.
    pub mode: Mode,
}

/// What a conversation is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The meter tells what it tells everybody.
    Readout,
    /// Commands.
    Programming,
    /// Something of the maker's.
    Other(char),
}

impl OptionSelect {
    /// The bytes that go out.
    pub fn encode(&self) -> Vec<u8> {
        let mode = match self.mode {
            Mode::Readout => '0',
            Mode::Programming => '1',
            Mode::Other(other) => other,
        };
        format!("{}0{}{mode}\r\n", char::from(ACK), self.baud).into_bytes()
    }

    /// What follows ACK. Only the normal protocol procedure is known.
    pub(super) fn parse(rest: &[u8]) -> Result<Self, Malformed> {
        let [b'0', baud, mode, b'\r', b'\n'] = *rest else {
            return Err(Malformed::Form);
        };
        if !baud.is_ascii_alphanumeric() || !mode.is_ascii_alphanumeric() {
            return Err(Malformed::Form);
        }
        let mode = match mode {
            b'0' => Mode::Readout,
            b'1' => Mode::Programming,
            other => Mode::Other(other.into()),
        };
        let baud = baud.into();
        Ok(Self { baud, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_bytes_of_the_standard() {
        let call = SignOn::new("12345678").unwrap();
        assert_eq!(call.encode(), b"/?12345678!\r\n");
        assert_eq!(SignOn::parse("/?12345678!"), Ok(call));
        assert_eq!(SignOn::parse("/?!").unwrap().address(), "");
        for line in ["?1!", "/1!", "/?1", "/?!!", "/?é!"] {
            assert_eq!(SignOn::parse(line), Err(Malformed::Form), "{line}");
        }
    }

    #[test]
    fn zeros_in_front_of_an_address_mean_nothing() {
        for (called, own, answers) in [
            ("00123", "123", true),
            ("123", "00123", true),
            ("", "123", true),
            ("1230", "123", false),
        ] {
            assert_eq!(SignOn::new(called).unwrap().calls(own), answers, "{called}");
        }
    }

    #[test]
    fn an_identification_has_the_bytes_of_the_standard() {
        let meter = Identification::new("ELS", '5', "A1700").unwrap();
        assert_eq!(meter.encode(), b"/ELS5A1700\r\n");
        assert_eq!(Identification::parse("/ELS5A1700"), Ok(meter));
        assert!(Identification::parse(r"/ABB4\@V4.50").is_ok());
        for line in ["", "/", "/EL", "/ELS", "/E1S5A", "/ELSé", "/ELS5a!b"] {
            assert_eq!(Identification::parse(line), Err(Malformed::Form), "{line}");
        }
    }

    #[test]
    fn an_option_has_the_bytes_of_the_standard() {
        let programming = OptionSelect {
            baud: '5',
            mode: Mode::Programming,
        };
        assert_eq!(programming.encode(), b"\x06051\r\n");
        assert_eq!(OptionSelect::parse(b"051\r\n"), Ok(programming));
        assert_eq!(OptionSelect::parse(b"151\r\n"), Err(Malformed::Form));
        assert_eq!(OptionSelect::parse(b"05\x03\r\n"), Err(Malformed::Form));
    }
}
