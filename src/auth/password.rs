//! Passwords: argon2id with a salt of its own for each; slow on purpose, so callers use a blocking thread.

use argon2::Argon2;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier, phc};
use serde::{Deserialize, Serialize};

/// A password as it is stored: `$argon2id$v=19$…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// From the store.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a password was not accepted, or not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is not that user's.
    #[error("wrong user or password")]
    Wrong,
    /// What is stored is not a password hash.
    #[error("the stored password hash cannot be read; set the password anew")]
    BadHash,
    /// It cannot be hashed.
    #[error("the password cannot be used: choose one of 8 to 1024 bytes")]
    Unusable,
}

const SHORTEST_BYTES: usize = 8;
/// Hashing costs time with length, and whoever sends it may be a stranger.
const LONGEST_BYTES: usize = 1024;

/// Hashes a password that a user chose.
pub fn hash_password(password: &str) -> Result<PasswordHash, PasswordError> {
    if !(SHORTEST_BYTES..=LONGEST_BYTES).contains(&password.len()) {
        return Err(PasswordError::Unusable);
    }
    let salt: [u8; 16] = crate::secrets::random_bytes();
    let hash: Result<phc::PasswordHash, Error> = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| PasswordHash(hash.to_string())).map_err(|_| PasswordError::Unusable)
}

/// Checks a password. Without a user (`stored` is none) it takes as long and fails, so that names cannot be guessed.
pub fn verify_password(password: &str, stored: Option<&PasswordHash>) -> Result<(), PasswordError> {
    if password.len() > LONGEST_BYTES {
        return Err(PasswordError::Wrong);
    }
    let text = stored.map_or(NOBODYS_HASH, PasswordHash::as_str);
    let hash = phc::PasswordHash::new(text).map_err(|_| PasswordError::BadHash)?;
    match (Argon2::default().verify_password(password.as_bytes(), &hash), stored) {
        (Ok(()), Some(_)) => Ok(()),
        (Ok(()), None) | (Err(Error::PasswordInvalid), _) => Err(PasswordError::Wrong),
        (Err(_), _) => Err(PasswordError::BadHash),
    }
}

/// The hash of a random password nobody kept, with the default costs.
const NOBODYS_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cGV0cmVsLW5vYm9keXMxMg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_accepted_if_it_is_the_right_one() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "as costly as {NOBODYS_HASH}");
        assert_eq!(verify_password("correct horse", Some(&hash)), Ok(()));
        assert_eq!(verify_password("correct hors", Some(&hash)), Err(PasswordError::Wrong));
        assert_ne!(hash, hash_password("correct horse").unwrap(), "each has its own salt");
    }

    #[test]
    fn nobody_is_refused_as_somebody_with_a_wrong_password() {
        assert_eq!(verify_password("correct horse", None), Err(PasswordError::Wrong));
        assert_eq!(verify_password(&"x".repeat(5000), None), Err(PasswordError::Wrong));
    }

    #[test]
    fn a_damaged_hash_is_named_and_bad_passwords_are_not_hashed() {
        let damaged = PasswordHash::from_stored("plain");
        assert_eq!(verify_password("correct horse", Some(&damaged)), Err(PasswordError::BadHash));
        for password in ["", "short", &"x".repeat(1025)] {
            assert_eq!(hash_password(password), Err(PasswordError::Unusable));
        }
    }
}
