//! The key by which AWS knows us. It is used to sign and never shown: what AWS says is cleaned of it as well.

use std::fmt;

/// Shorter ones are found in ordinary words.
const SHORTEST_MASKED: usize = 8;

/// An access key, and the token of a session if it belongs to one.
#[derive(Clone)]
pub(super) struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Credentials {
    pub(super) fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            session_token: session_token.map(str::to_owned),
        }
    }

    pub(super) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub(super) fn secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    pub(super) fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// A text without any part of the key: a refused signature is answered with what should have been signed, and the
    /// session's token is in it.
    pub(super) fn masked(&self, text: &str) -> String {
        let parts = [Some(&self.secret_access_key), self.session_token.as_ref(), Some(&self.access_key_id)];
        let parts = parts.into_iter().flatten().filter(|part| part.len() >= SHORTEST_MASKED);
        parts.fold(text.to_owned(), |text, part| text.replace(part.as_str(), "********"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_says_is_shown_without_the_key() {
        let key = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", Some("FQoGZXIvYXdzEJr"));
        let said = "should have been 'x-amz-security-token:FQoGZXIvYXdzEJr' for AKIDEXAMPLE, wJalrXUtnFEMI/K7MDENG";
        let shown = key.masked(said);
        assert_eq!(shown, "should have been 'x-amz-security-token:********' for ********, ********");
        assert_eq!(format!("{key:?}"), "Credentials");
    }
}
