use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that nobody may read by accident: no `Debug` of the content, no `Serialize`, no `Clone`; zeroized when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Copies the bytes and zeroizes the original.
    pub fn take_from(bytes: &mut [u8]) -> Self {
        let secret = Self::new(bytes.to_vec());
        bytes.zeroize();
        secret
    }

    /// The bytes. Every call is a place to look at in a review.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new(b"0123456789".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
    }

    #[test]
    fn taking_a_secret_clears_the_original() {
        let mut bytes = *b"key";
        let secret = Secret::take_from(&mut bytes);
        assert_eq!((secret.expose(), bytes), (&b"key"[..], [0; 3]));
    }
}
