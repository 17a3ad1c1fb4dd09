//! Messages between daemons of one installation: whoever has the installation's key wrote them, and nobody has changed them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secrets::hex;

/// Signs messages and recognises its own signatures.
#[derive(Clone)]
pub struct MessageKey([u8; 32]);

impl MessageKey {
    /// Over a key that was derived for messages only.
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The signature of these parts, in this order, as hexadecimal digits.
    pub fn sign(&self, parts: &[&[u8]]) -> String {
        hex(&self.mac(parts).finalize().into_bytes())
    }

    /// Is this the signature of these parts? Compared in constant time.
    pub fn is_signature(&self, signature: &[u8], parts: &[&[u8]]) -> bool {
        let pairs = signature.chunks(2);
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect();
        bytes.is_some_and(|bytes| self.mac(parts).verify_slice(&bytes).is_ok())
    }

    /// Each part with its length before it: no other parts give the same bytes.
    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_the_same_parts_have_the_signature() {
        let key = MessageKey::new([1; 32]);
        let signature = key.sign(&[b"queue", b"body"]);
        assert!(key.is_signature(signature.as_bytes(), &[b"queue", b"body"]));
        for parts in [[b"queue".as_slice(), b"bodY"], [b"queueb", b"ody"], [b"", b"queuebody"]] {
            assert!(!key.is_signature(signature.as_bytes(), &parts), "{parts:?}");
        }
        assert!(!MessageKey::new([2; 32]).is_signature(signature.as_bytes(), &[b"queue", b"body"]));
        for wrong in ["", "0", "zz", signature.get(2..).unwrap(), &format!("{signature}00")] {
            assert!(!key.is_signature(wrong.as_bytes(), &[b"queue", b"body"]), "{wrong}");
        }
    }
}
