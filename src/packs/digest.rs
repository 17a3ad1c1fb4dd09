//! SHA-256 as lower-case hex: how versions of content are told apart.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The digest of the parts one after the other, each closed by a zero byte.
pub fn sha256_of_parts(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_ref());
        digest.update([0]);
    }
    hex(&digest.finalize())
}

/// The digest of a text.
pub fn sha256(text: &str) -> String {
    sha256_of_bytes(text.as_bytes())
}

/// The digest of bytes.
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum() {
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_ne!(sha256_of_parts(["a", "bc"]), sha256_of_parts(["ab", "c"]));
    }
}
