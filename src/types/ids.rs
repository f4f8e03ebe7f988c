use std::fmt;
use std::str::FromStr;

use super::Random;

/// Makes an id of 16 random bytes, printed as 32 lower-case hexadecimal digits behind a prefix.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new id.
            pub fn random(random: &dyn Random) -> Self {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                Self(bytes)
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits = text.strip_prefix($prefix).ok_or(InvalidId)?;
                parse_hex(digits).map(Self)
            }
        }

        super::serde_as_text!($name);
    };
}

random_id!(
    /// One change of supplier at one supply point. As text `ho_` and 32 hexadecimal digits.
    HandoverId,
    "ho_"
);
random_id!(
    /// One sealed package or read. As text `env_` and 32 hexadecimal digits.
    EnvelopeId,
    "env_"
);
random_id!(
    /// One permission to have a set of generations, sealed to one key. As text `gr_` and 32 hexadecimal digits.
    GrantId,
    "gr_"
);

impl HandoverId {
    /// The handover of one registration at one supply point: the same registration always opens the same handover.
    pub fn of(supply_point: &super::SupplyPoint, registration: &RegistrationId) -> Self {
        let digest = super::Digest::of_pieces(&[
            b"cos-escrow/handover/1",
            supply_point.as_str().as_bytes(),
            registration.as_str().as_bytes(),
        ]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        Self(bytes)
    }
}

fn parse_hex(digits: &str) -> Result<[u8; 16], InvalidId> {
    let digits: &[u8; 32] = digits.as_bytes().try_into().map_err(|_| InvalidId)?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, InvalidId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(InvalidId),
    }
}

/// The registration service's own name for one registration: 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegistrationId(String);

impl RegistrationId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegistrationId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or(InvalidId)
    }
}

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::serde_as_text!(RegistrationId);

/// The text is not an id of this kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct InvalidId;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SystemRandom;

    #[test]
    fn an_id_parses_what_it_prints() {
        let id = HandoverId::random(&SystemRandom);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn one_kind_of_id_is_not_another() {
        let id = HandoverId::random(&SystemRandom).to_string();
        assert_eq!(id.parse::<GrantId>(), Err(InvalidId));
        assert_eq!(id.to_uppercase().parse::<HandoverId>(), Err(InvalidId));
    }
}
