//! What must not be seen: sealed in the store, compared without being kept, masked wherever text leaves the process.

mod dump;
mod escapes;
mod forms;
mod keyring;
mod message_key;
mod redact;
mod stream;

#[cfg(test)]
mod encodings_tests;

use std::fmt;

use serde::Deserialize;

pub use self::keyring::{Keyring, KeyringError, OpenError};
pub use self::message_key::MessageKey;
pub use self::redact::{Redactor, SHORTEST_SECRET_BYTES};
pub use self::stream::RedactingLines;

/// What stands where a secret stood.
pub const MASK: &str = "********";

/// A secret that does not show itself when its owner is printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret in clear. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Bytes that nobody can guess, for keys, tokens and nonces.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("a running system has randomness");
    bytes
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself_in_debug_output() {
        assert_eq!(format!("{:?}", SecretText::new("hunter2")), MASK);
    }

    #[test]
    fn hex_has_two_digits_per_byte() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
    }
}
