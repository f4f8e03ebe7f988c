//! The texts of packages and reads, valid by construction; those that may be secret do not print and are zeroized.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::types::Secret;

/// `MIN` to `MAX` bytes of UTF-8 without control characters, not secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text, if it fits.
    pub fn from_text(text: &str) -> Option<Self> {
        is_text(text, MIN, MAX).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `MIN` to `MAX` bytes of UTF-8 without control characters: a password, an address.
#[derive(Debug)]
pub struct SecretText<const MIN: usize, const MAX: usize>(Secret);

impl<const MIN: usize, const MAX: usize> SecretText<MIN, MAX> {
    /// The text, if it fits.
    pub fn from_text(text: &str) -> Option<Self> {
        is_text(text, MIN, MAX).then(|| Self(Secret::new(text.as_bytes().to_vec())))
    }

    /// The text. Every call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        text_of(&self.0)
    }
}

/// `MIN` to `MAX` decimal digits: the numbers of a SIM card.
#[derive(Debug)]
pub struct SecretDigits<const MIN: usize, const MAX: usize>(Secret);

impl<const MIN: usize, const MAX: usize> SecretDigits<MIN, MAX> {
    /// The number, if it is one.
    pub fn from_text(text: &str) -> Option<Self> {
        let fits = (MIN..=MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Self(Secret::new(text.as_bytes().to_vec())))
    }

    /// The digits. Every call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        text_of(&self.0)
    }

    /// Whether the last digit is the Luhn check digit of the others.
    pub fn luhn_holds(&self) -> bool {
        let digits = self.0.expose().iter().rev().map(|b| u32::from(b - b'0'));
        let sum: u32 = digits
            .enumerate()
            .map(|(n, digit)| match n % 2 {
                0 => digit,
                _ => digit * 2 / 10 + digit * 2 % 10,
            })
            .sum();
        sum.is_multiple_of(10)
    }
}

/// `MIN` to `MAX` bytes, written as hexadecimal digits: a key. Canonically in capitals.
#[derive(Debug)]
pub struct SecretHex<const MIN: usize, const MAX: usize>(Secret);

impl<const MIN: usize, const MAX: usize> SecretHex<MIN, MAX> {
    /// The bytes, if they are as many as they should be.
    pub fn from_secret(secret: Secret) -> Option<Self> {
        (MIN..=MAX)
            .contains(&secret.expose().len())
            .then_some(Self(secret))
    }

    /// The bytes of these digits, in either case.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX {
            return None;
        }
        // The capacity is the final one, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        for pair in digits.chunks_exact(2) {
            bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
        }
        Self::from_secret(Secret::new(std::mem::take(&mut *bytes)))
    }

    /// The bytes. Every call is a place to look at in a review.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * self.expose().len()));
        for byte in self.expose() {
            text.push(DIGITS[usize::from(byte >> 4)]);
            text.push(DIGITS[usize::from(byte & 15)]);
        }
        text
    }
}

fn is_text(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn text_of(secret: &Secret) -> &str {
    str::from_utf8(secret.expose()).expect("it was text when it was made")
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Reads a text and makes a value of it, without repeating the text in the error.
pub(super) fn read_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    make: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Visitor<F>(F);

    impl<T, F: FnOnce(&str) -> Option<T>> de::Visitor<'_> for Visitor<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text")
        }

        // Borrowed from the document where it has no escapes, so that no copy of a secret is made.
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).ok_or_else(|| E::custom("not a value of this field"))
        }
    }

    deserializer.deserialize_str(Visitor(make))
}

macro_rules! read_from_text {
    ($($name:ident),+) => {$(
        impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for $name<MIN, MAX> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_text(deserializer, Self::from_text)
            }
        }
    )+};
}

read_from_text!(Text, SecretText, SecretDigits, SecretHex);

const DIGITS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_luhn_digit_of_a_sim_card_is_checked() {
        let card = |text| SecretDigits::<18, 22>::from_text(text).unwrap();
        assert!(card("8944106393601680724").luhn_holds());
        assert!(!card("8944106393601680725").luhn_holds());
    }

    #[test]
    fn hexadecimal_is_read_in_either_case_and_written_in_capitals() {
        let key = SecretHex::<2, 2>::from_text("aB0f").unwrap();
        assert_eq!(
            (key.expose(), &**key.to_text()),
            (&[0xab, 0x0f][..], "AB0F")
        );
        for text in ["", "ab", "abc", "ab0g", "ab0f00"] {
            assert!(SecretHex::<2, 2>::from_text(text).is_none(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_refused() {
        assert!(SecretText::<0, 9>::from_text("a\tb").is_none());
        assert!(Text::<0, 9>::from_text("a\u{7f}").is_none());
    }
}
