//! Names of objects in a meter, and those that a takeover reads, writes or calls.

use std::fmt;
use std::str::FromStr;

/// The logical name of an object. As text `0.0.42.0.0.255`.
#[derive(
    Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Obis(pub [u8; 6]);

impl Obis {
    /// The clock.
    pub const CLOCK: Self = Self([0, 0, 1, 0, 0, 255]);
    /// The list of destinations a meter connects to by itself.
    pub const AUTO_CONNECT: Self = Self([0, 0, 2, 1, 0, 255]);
    /// TCP and UDP set-up.
    pub const TCP_UDP: Self = Self([0, 0, 25, 0, 0, 255]);
    /// GPRS modem set-up, where the APN is.
    pub const MODEM: Self = Self([0, 0, 25, 4, 0, 255]);
    /// Push set-up.
    pub const PUSH: Self = Self([0, 0, 25, 9, 0, 255]);
    /// The association that is asking.
    pub const CURRENT_ASSOCIATION: Self = Self([0, 0, 40, 0, 0, 255]);
    /// The logical device name.
    pub const DEVICE_NAME: Self = Self([0, 0, 42, 0, 0, 255]);
    /// Security set-up of the management association.
    pub const SECURITY: Self = Self([0, 0, 43, 0, 0, 255]);
    /// The counter of received, accepted messages.
    pub const COUNTER: Self = Self([0, 0, 43, 1, 0, 255]);
    /// The serial number of the meter.
    pub const SERIAL: Self = Self([0, 0, 96, 1, 0, 255]);
    /// Active energy imported: total, first and second tariff; then exported, total.
    pub const ENERGY: [Self; 4] = [
        Self([1, 0, 1, 8, 0, 255]),
        Self([1, 0, 1, 8, 1, 255]),
        Self([1, 0, 1, 8, 2, 255]),
        Self([1, 0, 2, 8, 0, 255]),
    ];
}

impl fmt::Display for Obis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a}.{b}.{c}.{d}.{e}.{last}")
    }
}

impl fmt::Debug for Obis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Obis {
    type Err = InvalidObis;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut name = [0; 6];
        let mut groups = text.split('.');
        for byte in &mut name {
            let group = groups.next().ok_or(InvalidObis)?;
            *byte = group.parse().map_err(|_| InvalidObis)?;
        }
        groups
            .next()
            .is_none()
            .then_some(Self(name))
            .ok_or(InvalidObis)
    }
}

impl TryFrom<String> for Obis {
    type Error = InvalidObis;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Obis> for String {
    fn from(name: Obis) -> Self {
        name.to_string()
    }
}

/// The text is not a logical name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a logical name is six numbers below 256 with dots between them")]
pub struct InvalidObis;

/// An attribute or method of an object: interface class, logical name and number. As text `64 0.0.43.0.0.255 2`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Member {
    /// The interface class.
    pub class: u16,
    /// The logical name.
    pub object: Obis,
    /// The number of the attribute or method.
    pub number: u8,
}

impl Member {
    /// Who the meter says it is.
    pub const DEVICE_NAME: Self = Self::new(1, Obis::DEVICE_NAME, 2);
    /// The serial number.
    pub const SERIAL: Self = Self::new(1, Obis::SERIAL, 2);
    /// The last accepted counter, or the lowest acceptable one: meters differ.
    pub const COUNTER: Self = Self::new(1, Obis::COUNTER, 2);
    /// The meter's time.
    pub const TIME: Self = Self::new(8, Obis::CLOCK, 2);
    /// The objects that the association may see.
    pub const OBJECT_LIST: Self = Self::new(15, Obis::CURRENT_ASSOCIATION, 2);
    /// Where and how the meter pushes.
    pub const PUSH_DESTINATION: Self = Self::new(40, Obis::PUSH, 3);
    /// The access point name.
    pub const APN: Self = Self::new(45, Obis::MODEM, 2);
    /// The port at which the meter listens.
    pub const PORT: Self = Self::new(41, Obis::TCP_UDP, 2);
    /// Where the meter connects to by itself.
    pub const DESTINATIONS: Self = Self::new(29, Obis::AUTO_CONNECT, 6);
    /// Method: takes wrapped keys.
    pub const KEY_TRANSFER: Self = Self::new(64, Obis::SECURITY, 2);
    /// Method: makes the security policy stronger.
    pub const SECURITY_ACTIVATE: Self = Self::new(64, Obis::SECURITY, 1);
    /// Method: takes the answer to the meter's challenge.
    pub const REPLY_TO_HLS: Self = Self::new(15, Obis::CURRENT_ASSOCIATION, 1);

    /// The member `number` of `object`.
    pub const fn new(class: u16, object: Obis, number: u8) -> Self {
        Self {
            class,
            object,
            number,
        }
    }

    /// The value of a register.
    pub const fn register(object: Obis) -> Self {
        Self::new(3, object, 2)
    }

    /// The scaler and unit of a register.
    pub const fn scaler_unit(object: Obis) -> Self {
        Self::new(3, object, 3)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.class, self.object, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_what_it_prints() {
        for name in Obis::ENERGY {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in [
            "",
            "1.0.1.8.0",
            "1.0.1.8.0.255.1",
            "1.0.1.8.0.256",
            "1.0.1.8.0.x",
        ] {
            assert_eq!(text.parse::<Obis>(), Err(InvalidObis), "{text:?}");
        }
    }
}
