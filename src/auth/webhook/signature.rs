//! Signatures over a webhook's body: GitHub's, Slack's, and the family resemblance of all the others.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha1::Sha1;
use sha2::Sha256;

use crate::auth::webhook::{HookRequest, Place, Refusal, check_equal, find_text};
use crate::model::time::Timestamp;
use crate::secrets::SecretText;

/// A signature to be checked, with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Where it stands and what it covers.
    pub scheme: Scheme,
    /// What both sides know.
    pub secret: SecretText,
    /// How old or how early a signed time may be, where the scheme signs one.
    pub replay_window: Duration,
}

/// What is signed, how, and where the signature stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// `X-Hub-Signature-256: sha256=HEX`, or the older `X-Hub-Signature: sha1=HEX` where the newer is missing.
    GitHub,
    /// `X-Slack-Signature: v0=HEX` over `v0:TIMESTAMP:BODY`.
    Slack,
    /// A header with the body's HMAC.
    Generic {
        /// The header's name.
        header: String,
        /// The hash.
        algorithm: Algorithm,
        /// How the bytes are written.
        encoding: Encoding,
        /// What stands before it, as `sha256=`.
        prefix: String,
    },
}

/// The hash below an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-1: still sound within an HMAC, for senders that know nothing else.
    Sha1,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits.
    #[default]
    Hex,
    /// Base64.
    Base64,
}

impl Signature {
    pub(super) fn verify(&self, request: &HookRequest<'_>) -> Result<(), Refusal> {
        let (written, algorithm) = self.written(request);
        match &self.scheme {
            Scheme::GitHub | Scheme::Generic { .. } => {
                self.compare(algorithm, &[request.body], &written.decode(request)?)
            }
            Scheme::Slack => {
                let timestamp = find_text(request, &timestamp_place())?;
                let given = written.decode(request)?;
                self.compare(algorithm, &[b"v0:", timestamp.as_bytes(), b":", request.body], &given)?;
                self.check_time(&timestamp, request.now)
            }
        }
    }

    /// Is there a signature in the right form and, where the time is signed, of this time?
    pub(super) fn verify_head(&self, request: &HookRequest<'_>) -> Result<(), Refusal> {
        let (written, _) = self.written(request);
        if self.scheme == Scheme::Slack {
            let timestamp = find_text(request, &timestamp_place())?;
            written.decode(request)?;
            return self.check_time(&timestamp, request.now);
        }
        written.decode(request).map(drop)
    }

    /// Where the signature stands, and of which kind it is.
    fn written(&self, request: &HookRequest<'_>) -> (Written<'_>, Algorithm) {
        const NEWER: &str = "x-hub-signature-256";
        const OLDER: &str = "x-hub-signature";
        let header = |name: &str| Place::Header(name.to_owned());
        let hex = |name, prefix| Written { place: header(name), prefix, encoding: Encoding::Hex };
        match &self.scheme {
            Scheme::GitHub if !request.headers.contains_key(NEWER) && request.headers.contains_key(OLDER) => {
                (hex(OLDER, "sha1="), Algorithm::Sha1)
            }
            Scheme::GitHub => (hex(NEWER, "sha256="), Algorithm::Sha256),
            Scheme::Slack => (hex("x-slack-signature", "v0="), Algorithm::Sha256),
            Scheme::Generic { header: name, algorithm, encoding, prefix } => {
                (Written { place: header(name), prefix, encoding: *encoding }, *algorithm)
            }
        }
    }

    fn check_time(&self, timestamp: &str, now: Timestamp) -> Result<(), Refusal> {
        let malformed =
            || Refusal::Malformed { place: timestamp_place(), expected: "write seconds since 1970".to_owned() };
        self.check_age(timestamp.parse().map_err(|_| malformed())?, now)
    }

    fn check_age(&self, signed_seconds: i64, now: Timestamp) -> Result<(), Refusal> {
        let seconds_off = now.as_seconds().abs_diff(signed_seconds);
        if seconds_off <= self.replay_window.as_secs() { Ok(()) } else { Err(Refusal::Replayed { seconds_off }) }
    }

    fn compare(&self, algorithm: Algorithm, message: &[&[u8]], given: &Given) -> Result<(), Refusal> {
        let key = self.secret.expose().as_bytes();
        let expected = match algorithm {
            Algorithm::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Algorithm::Sha1 => mac::<Hmac<Sha1>>(key, message),
        };
        check_equal(&given.bytes, &expected, &given.place)
    }
}

fn timestamp_place() -> Place {
    Place::Header("x-slack-request-timestamp".to_owned())
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    message.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// How a signature is written in its header.
struct Written<'a> {
    place: Place,
    prefix: &'a str,
    encoding: Encoding,
}

struct Given {
    place: Place,
    bytes: Vec<u8>,
}

impl Written<'_> {
    fn decode(self, request: &HookRequest<'_>) -> Result<Given, Refusal> {
        let text = find_text(request, &self.place)?;
        let digits = text.strip_prefix(self.prefix);
        let bytes = digits.and_then(|digits| match self.encoding {
            Encoding::Hex => unhex(digits),
            Encoding::Base64 => BASE64_STANDARD.decode(digits).ok(),
        });
        match bytes {
            Some(bytes) => Ok(Given { place: self.place, bytes }),
            None => Err(self.malformed()),
        }
    }

    fn malformed(self) -> Refusal {
        let digits = match self.encoding {
            Encoding::Hex => "hexadecimal digits",
            Encoding::Base64 => "base64",
        };
        Refusal::Malformed { place: self.place, expected: format!("write `{}` and {digits}", self.prefix) }
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(nibble(*high)? * 16 + nibble(*low)?).ok(),
        _ => None,
    };
    pairs.map(byte).collect()
}
