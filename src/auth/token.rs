//! Tokens and API keys: shown once, stored as a hash, found by it and compared in constant time. They are random and
//! long, so a fast hash is enough.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::secrets::{SecretText, hex, random_bytes};

/// StackStorm's fixed salt: keys that come over from there, as hashes, stay valid.
const STACKSTORM_SALT: &str = "saltnpepper";

/// A new token: 32 hexadecimal digits, as StackStorm's.
pub fn new_token() -> SecretText {
    SecretText::new(hex(&random_bytes::<16>()))
}

/// A new API key: 43 characters that need no escaping in a URL.
pub fn new_api_key() -> SecretText {
    SecretText::new(BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
}

/// What is stored of a token or an API key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoredHash(String);

impl StoredHash {
    /// The hash of a token (SHA-256, hex).
    pub fn of_token(token: &str) -> Self {
        Self(hex(&Sha256::digest(token)))
    }

    /// The hash of an API key (SHA-512 with StackStorm's salt, hex).
    pub fn of_api_key(key: &str) -> Self {
        Self(hex(&Sha512::new().chain_update(STACKSTORM_SALT).chain_update(key).finalize()))
    }

    /// From the store.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the store, and to look it up there.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for StoredHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}
impl Eq for StoredHash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_look_like_stackstorms_and_never_repeat() {
        let token = new_token();
        assert_eq!(token.expose().len(), 32);
        assert!(token.expose().chars().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(token, new_token());
        assert_ne!(new_api_key(), new_api_key());
        assert_eq!(new_api_key().expose().len(), 43);
    }

    #[test]
    fn a_stored_hash_recognises_its_own_token_only() {
        let stored = StoredHash::from_stored(StoredHash::of_token("abc").as_str());
        assert_eq!(stored, StoredHash::of_token("abc"));
        assert_ne!(stored, StoredHash::of_token("abd"));
        assert_eq!(stored.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn an_api_key_is_hashed_as_stackstorm_does() {
        let salted = hex(&Sha512::digest("saltnpeppers3cret"));
        assert_eq!(StoredHash::of_api_key("s3cret").as_str(), salted);
        assert_eq!(salted.len(), 128);
    }
}
