use std::fmt;
use std::str::FromStr;

/// Electricity or gas.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fuel {
    /// The supply point is an MPAN core.
    Electricity,
    /// The supply point is an MPRN.
    Gas,
}

/// Where energy is metered: an MPAN core (13 digits) or an MPRN (6 to 10 digits), with a check digit that holds.
///
/// The check digits are weak (the last two digits of an MPAN can be swapped unnoticed in 9 of 10 cases), so nothing is
/// ever released on this number alone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SupplyPoint(String);

impl SupplyPoint {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which fuel is metered here.
    pub fn fuel(&self) -> Fuel {
        if self.0.len() == MPAN_DIGITS {
            Fuel::Electricity
        } else {
            Fuel::Gas
        }
    }
}

impl FromStr for SupplyPoint {
    type Err = InvalidSupplyPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidSupplyPoint::Form);
        }
        let digits: Vec<u32> = text.bytes().map(|b| u32::from(b - b'0')).collect();
        let holds = match digits.len() {
            MPAN_DIGITS => mpan_check_digit(&digits[..12]) == digits[12],
            6..=10 => {
                let (body, check) = digits.split_at(digits.len() - 2);
                mprn_check_digits(body) == check[0] * 10 + check[1]
            }
            _ => return Err(InvalidSupplyPoint::Form),
        };
        holds
            .then(|| Self(text.to_owned()))
            .ok_or(InvalidSupplyPoint::CheckDigit)
    }
}

/// Sum of digit times prime (11 is skipped), modulo 11, modulo 10.
fn mpan_check_digit(digits: &[u32]) -> u32 {
    const PRIMES: [u32; 12] = [3, 5, 7, 13, 17, 19, 23, 29, 31, 37, 41, 43];
    let sum: u32 = digits.iter().zip(PRIMES).map(|(d, p)| d * p).sum();
    sum % 11 % 10
}

/// Sum of digit times its distance from the end of the body, modulo 11.
fn mprn_check_digits(body: &[u32]) -> u32 {
    let weights = (1..=10_u32).take(body.len());
    let sum: u32 = body.iter().rev().zip(weights).map(|(d, w)| d * w).sum();
    sum % 11
}

impl fmt::Display for SupplyPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::serde_as_text!(SupplyPoint);

/// The text is not an MPAN core or MPRN.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSupplyPoint {
    /// Not 13 digits (electricity) or 6 to 10 digits (gas).
    #[error("a supply point is an MPAN core of 13 digits or an MPRN of 6 to 10 digits")]
    Form,
    /// The check digit does not hold: most likely a typing error.
    #[error("the check digit of the supply point does not hold")]
    CheckDigit,
}

const MPAN_DIGITS: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_published_examples() {
        for (text, fuel) in [
            ("2499999999991", Fuel::Electricity),
            ("1312345678907", Fuel::Electricity),
            ("3938424403", Fuel::Gas),
            ("9000000107", Fuel::Gas),
        ] {
            assert_eq!(
                text.parse::<SupplyPoint>().map(|s| s.fuel()),
                Ok(fuel),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_a_wrong_check_digit() {
        for text in ["2499999999990", "1312345678333", "3938424404"] {
            assert_eq!(
                text.parse::<SupplyPoint>(),
                Err(InvalidSupplyPoint::CheckDigit),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_other_forms() {
        for text in ["", "12345", "12345678901", "249999999999X", "²499999999991"] {
            assert_eq!(
                text.parse::<SupplyPoint>(),
                Err(InvalidSupplyPoint::Form),
                "{text}"
            );
        }
    }

    #[test]
    fn swapping_the_last_two_digits_may_go_unnoticed() {
        assert!("9012345678905".parse::<SupplyPoint>().is_ok());
        assert!("9012345678950".parse::<SupplyPoint>().is_ok());
    }
}
