//! How a password answers the seed that a meter sends with `P0`.

use zeroize::Zeroizing;

use super::command::Verb;

/// What a maker's meters want to hear for a password.
pub trait Transform: Send + Sync {
    /// The command and its operand. `seed` is what came with `P0`, empty if there was none.
    fn answer(&self, seed: &str, password: &str) -> (Verb, Zeroizing<String>);
}

/// The password itself, in clear. Some makers have a secret algorithm instead; none of them is published.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Transform for Plain {
    fn answer(&self, _: &str, password: &str) -> (Verb, Zeroizing<String>) {
        (Verb::Password, Zeroizing::new(password.to_owned()))
    }
}
