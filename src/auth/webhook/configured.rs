//! Webhook authentication as it is written in `petrel.toml`: a name (`"api_key"`, `"open"`) or a table with `kind`.

use std::fmt;
use std::time::Duration;

use axum::http::HeaderName;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::auth::webhook::{Algorithm, Encoding, Scheme, Signature, Verifier};
use crate::model::time::parse_duration;
use crate::secrets::SecretText;

/// How far a signed time may be from ours if nothing else is said; what Slack recommends.
const DEFAULT_REPLAY_WINDOW: Duration = Duration::from_mins(5);

/// How a door knows its senders, with secrets that may still have to be fetched from the datastore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WebhookAuth {
    /// By a token or API key of this installation. The default.
    #[default]
    ApiKey,
    /// By a signature over the body.
    Hmac(HmacAuth),
    /// By a token in a header or in the query.
    SharedToken {
        /// Where it stands.
        place: Place,
        /// What it must be.
        token: SecretSource,
    },
    /// By user and password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretSource,
    },
    /// Not at all; has to be said.
    Open,
}

/// A signature as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacAuth {
    /// What is signed and where the signature stands.
    pub scheme: Scheme,
    /// What both sides know.
    pub secret: SecretSource,
    /// How old or how early a signed time may be.
    pub replay_window: Duration,
}

/// A secret in the file, or the name of one in the datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the file itself.
    Inline(SecretText),
    /// The value of this system key, decrypted.
    Datastore(String),
}

/// Where a secret stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the header of this name.
    Header(String),
    /// In the query parameter of this name.
    Query(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Query(name) => write!(f, "query parameter `{name}`"),
        }
    }
}

/// A webhook's secret is not in the datastore. Its door stays shut until it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the datastore has no key `{key}`; set it with `petrel key set {key} VALUE --encrypt`")]
pub struct MissingSecret {
    /// The key that was named.
    pub key: String,
}

impl WebhookAuth {
    /// Is anybody let in?
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// The check with its secret at hand; `lookup` gives the decrypted value of a system key.
    pub fn resolve(&self, lookup: impl FnOnce(&str) -> Option<String>) -> Result<Verifier, MissingSecret> {
        Ok(match self {
            Self::ApiKey => Verifier::ApiKey,
            Self::Open => Verifier::Open,
            Self::Hmac(HmacAuth { scheme, secret, replay_window }) => Verifier::Hmac(Signature {
                scheme: scheme.clone(),
                secret: secret.resolve(lookup)?,
                replay_window: *replay_window,
            }),
            Self::SharedToken { place, token } => {
                Verifier::SharedToken { place: place.clone(), token: token.resolve(lookup)? }
            }
            Self::Basic { user, password } => {
                Verifier::Basic { user: user.clone(), password: password.resolve(lookup)? }
            }
        })
    }

    /// The datastore key that [`WebhookAuth::resolve`] will ask for.
    pub fn datastore_key(&self) -> Option<&str> {
        match self.secret_source()? {
            SecretSource::Inline(_) => None,
            SecretSource::Datastore(key) => Some(key),
        }
    }

    /// The secret that both sides know, if there is one.
    pub(super) const fn secret_source(&self) -> Option<&SecretSource> {
        match self {
            Self::ApiKey | Self::Open => None,
            Self::Hmac(hmac) => Some(&hmac.secret),
            Self::SharedToken { token, .. } => Some(token),
            Self::Basic { password, .. } => Some(password),
        }
    }
}

impl SecretSource {
    /// An empty secret in the datastore is as good as none: it would let in whoever leaves theirs empty.
    fn resolve(&self, lookup: impl FnOnce(&str) -> Option<String>) -> Result<SecretText, MissingSecret> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::Datastore(key) => match lookup(key).filter(|value| !value.is_empty()) {
                Some(value) => Ok(SecretText::new(value)),
                None => Err(MissingSecret { key: key.clone() }),
            },
        }
    }
}

impl<'de> Deserialize<'de> for WebhookAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = match Value::deserialize(deserializer)? {
            Value::String(kind) => json!({ "kind": kind }),
            other => other,
        };
        let written: Written = serde_json::from_value(table).map_err(Error::custom)?;
        written.check().map_err(Error::custom)
    }
}

/// The table as people write it.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    ApiKey {},
    Open {},
    Hmac {
        scheme: WrittenScheme,
        secret: Option<SecretText>,
        secret_key: Option<String>,
        replay_window: Option<String>,
        header: Option<String>,
        prefix: Option<String>,
        algorithm: Option<Algorithm>,
        encoding: Option<Encoding>,
    },
    SharedToken {
        header: Option<String>,
        query: Option<String>,
        token: Option<SecretText>,
        token_key: Option<String>,
    },
    Basic {
        user: String,
        password: Option<SecretText>,
        password_key: Option<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenScheme {
    GitHub,
    Slack,
    Generic,
}

impl Written {
    fn check(self) -> Result<WebhookAuth, String> {
        Ok(match self {
            Self::ApiKey {} => WebhookAuth::ApiKey,
            Self::Open {} => WebhookAuth::Open,
            Self::SharedToken { header, query, token, token_key } => WebhookAuth::SharedToken {
                place: one_place(header, query)?,
                token: one_source("token", token, token_key)?,
            },
            Self::Basic { user, password, password_key } => {
                WebhookAuth::Basic { user, password: one_source("password", password, password_key)? }
            }
            Self::Hmac { scheme, secret, secret_key, replay_window, header, prefix, algorithm, encoding } => {
                let generic = GenericKeys { header, prefix, algorithm, encoding };
                WebhookAuth::Hmac(HmacAuth {
                    scheme: generic.scheme(scheme)?,
                    secret: one_source("secret", secret, secret_key)?,
                    replay_window: window(scheme, replay_window.as_deref())?,
                })
            }
        })
    }
}

/// The keys that only `scheme = "generic"` has.
struct GenericKeys {
    header: Option<String>,
    prefix: Option<String>,
    algorithm: Option<Algorithm>,
    encoding: Option<Encoding>,
}

impl GenericKeys {
    fn scheme(self, scheme: WrittenScheme) -> Result<Scheme, String> {
        let is_empty =
            self.header.is_none() && self.prefix.is_none() && self.algorithm.is_none() && self.encoding.is_none();
        match scheme {
            WrittenScheme::Generic => Ok(Scheme::Generic {
                header: legal_header(self.header.ok_or("the generic scheme needs `header`, as \"X-Signature\"")?)?,
                algorithm: self.algorithm.unwrap_or_default(),
                encoding: self.encoding.unwrap_or_default(),
                prefix: self.prefix.unwrap_or_default(),
            }),
            _ if !is_empty => {
                Err("`header`, `prefix`, `algorithm` and `encoding` are for `scheme = \"generic\"` only".to_owned())
            }
            WrittenScheme::GitHub => Ok(Scheme::GitHub),
            WrittenScheme::Slack => Ok(Scheme::Slack),
        }
    }
}

fn window(scheme: WrittenScheme, written: Option<&str>) -> Result<Duration, String> {
    match written {
        None => Ok(DEFAULT_REPLAY_WINDOW),
        Some(_) if scheme != WrittenScheme::Slack => {
            Err("`replay_window` is for schemes that sign the time: `slack`".to_owned())
        }
        Some(text) => parse_duration(text).map_err(|bad| format!("replay_window: {bad}")),
    }
}

fn one_place(header: Option<String>, query: Option<String>) -> Result<Place, String> {
    match (header, query) {
        (Some(header), None) => legal_header(header).map(Place::Header),
        (None, Some(query)) => Ok(Place::Query(query)),
        _ => Err("a shared token stands in one place: write either `header` or `query`".to_owned()),
    }
}

fn legal_header(name: String) -> Result<String, String> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name),
        Err(_) => Err(format!("`{name}` is not a header's name")),
    }
}

fn one_source(key: &str, inline: Option<SecretText>, datastore: Option<String>) -> Result<SecretSource, String> {
    match (inline, datastore) {
        (Some(text), None) if text.expose().is_empty() => Err(format!("`{key}` is empty")),
        (Some(text), None) => Ok(SecretSource::Inline(text)),
        (None, Some(name)) => Ok(SecretSource::Datastore(name)),
        _ => Err(format!("write either `{key}`, or `{key}_key` with the name of a datastore key")),
    }
}
