//! The words of the domain. A value of one of these types is valid; text becomes one only by parsing.

mod code;
mod digest;
mod ids;
mod meter_serial;
mod mpid;
mod party;
mod random;
mod secret;
mod supply_point;
mod time;

pub use code::Code;
pub use digest::{Digest, InvalidDigest, KeyId};
pub use ids::{EnvelopeId, GrantId, HandoverId, InvalidId, RegistrationId};
pub use meter_serial::{InvalidMeterSerial, MeterSerial};
pub use mpid::{InvalidMpid, Mpid, Role};
pub use party::{InvalidPartyId, PartyId};
pub use random::{Random, SystemRandom};
pub use secret::Secret;
pub use supply_point::{Fuel, InvalidSupplyPoint, SupplyPoint};
pub use time::{Clock, InvalidTime, ManualClock, SupplyStartDate, SystemClock, Timestamp};

/// Which of the two envelopes of a handover is meant. They are released and kept apart.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Comms details, keys and passwords of the meter.
    Credentials,
    /// The closing register read of the change of supplier.
    Read,
}

impl Component {
    /// The word used in URLs, columns and entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Read => "read",
        }
    }
}

/// Gives a type that parses from text and prints as text its serde form: that text.
macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
use serde_as_text;
