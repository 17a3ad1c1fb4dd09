//! How a webhook or a sensor's listener knows its sender. What is configured becomes a [`Verifier`] once its secrets
//! are at hand; the verifier looks at one request and says yes, or why not.

mod configured;
mod signature;
mod withheld;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::auth::credentials::basic_pair;
use crate::auth::{Permission, Principal};
use crate::model::time::Timestamp;
use crate::secrets::SecretText;

pub use self::configured::{HmacAuth, MissingSecret, Place, SecretSource, WebhookAuth};
pub use self::signature::{Algorithm, Encoding, Scheme, Signature};
pub use self::withheld::{Withheld, WithheldOf};

/// What a verifier looks at.
#[derive(Debug, Clone, Copy)]
pub struct HookRequest<'a> {
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The query string, without the question mark.
    pub query: &'a str,
    /// The body as it came, byte by byte: signatures are made over it.
    pub body: &'a [u8],
    /// When it came.
    pub now: Timestamp,
    /// Whose valid token or API key it carries, if the door found one.
    pub principal: Option<&'a Principal>,
}

/// Why a request was not let in. The door answers 401 (403 for [`Refusal::NotAllowed`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No valid token or API key.
    #[error("this webhook wants an API key: send it as `St2-Api-Key`")]
    NoPrincipal,
    /// A valid one of somebody who may not.
    #[error("`{name}` may not send to webhooks: that needs the role operator")]
    NotAllowed {
        /// Whose key it was.
        name: String,
    },
    /// Something that must be there is not.
    #[error("the {place} is missing")]
    Missing {
        /// Where it was looked for.
        place: Place,
    },
    /// There, but in no form that could be right.
    #[error("the {place} is malformed: {expected}")]
    Malformed {
        /// Where it stands.
        place: Place,
        /// What it should look like.
        expected: String,
    },
    /// Wrong secret, or the body was changed on its way.
    #[error("the {place} does not match")]
    Mismatch {
        /// Where it stands.
        place: Place,
    },
    /// Signed too long ago, or in the future.
    #[error("the request was signed {seconds_off} seconds away from now; check both clocks")]
    Replayed {
        /// How far the signature's time is from ours.
        seconds_off: u64,
    },
}

/// A door's check with its secrets at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verifier {
    /// A token or API key of somebody who may send to webhooks.
    ApiKey,
    /// A signature over the body.
    Hmac(Signature),
    /// A token that both sides know.
    SharedToken {
        /// Where it stands.
        place: Place,
        /// What it must be.
        token: SecretText,
    },
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretText,
    },
    /// Nothing is checked.
    Open,
}

impl Verifier {
    /// What can be said before the body is read: everything, unless the body is signed. Then it is whether there is a
    /// signature that could be right.
    pub fn verify_head(&self, request: &HookRequest<'_>) -> Result<(), Refusal> {
        match self {
            Self::Hmac(signature) => signature.verify_head(request),
            Self::ApiKey | Self::SharedToken { .. } | Self::Basic { .. } | Self::Open => self.verify(request),
        }
    }

    /// May this request come in? Secrets are compared in constant time.
    pub fn verify(&self, request: &HookRequest<'_>) -> Result<(), Refusal> {
        match self {
            Self::ApiKey => check_principal(request.principal),
            Self::Hmac(signature) => signature.verify(request),
            Self::SharedToken { place, token } => {
                let given = find_text(request, place)?;
                check_equal(given.as_bytes(), token.expose().as_bytes(), place)
            }
            Self::Basic { user, password } => check_basic(request, user, password),
            Self::Open => Ok(()),
        }
    }
}

fn check_principal(principal: Option<&Principal>) -> Result<(), Refusal> {
    let principal = principal.ok_or(Refusal::NoPrincipal)?;
    if principal.may(Permission::WebhookSend) {
        return Ok(());
    }
    Err(Refusal::NotAllowed { name: principal.name.clone() })
}

fn check_basic(request: &HookRequest<'_>, user: &str, password: &SecretText) -> Result<(), Refusal> {
    let place = Place::Header(AUTHORIZATION.as_str().to_owned());
    let given = find_text(request, &place)?;
    let pair = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let pair = pair.and_then(|(_, encoded)| basic_pair(encoded.trim()));
    let Some((given_user, given_password)) = pair else {
        return Err(Refusal::Malformed { place, expected: "write `Basic BASE64(USER:PASSWORD)`".to_owned() });
    };
    let user_fits = given_user.as_bytes().ct_eq(user.as_bytes());
    let password_fits = given_password.expose().as_bytes().ct_eq(password.expose().as_bytes());
    if (user_fits & password_fits).into() { Ok(()) } else { Err(Refusal::Mismatch { place }) }
}

fn check_equal(given: &[u8], expected: &[u8], place: &Place) -> Result<(), Refusal> {
    if given.ct_eq(expected).into() { Ok(()) } else { Err(Refusal::Mismatch { place: place.clone() }) }
}

/// The text at `place`.
fn find_text(request: &HookRequest<'_>, place: &Place) -> Result<String, Refusal> {
    let missing = || Refusal::Missing { place: place.clone() };
    match place {
        Place::Header(name) => {
            let value = request.headers.get(name).ok_or_else(missing)?;
            let not_text = |_| Refusal::Malformed { place: place.clone(), expected: "write visible ASCII".to_owned() };
            Ok(value.to_str().map_err(not_text)?.to_owned())
        }
        Place::Query(name) => {
            let mut pairs = form_urlencoded::parse(request.query.as_bytes());
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).ok_or_else(missing)
        }
    }
}

#[cfg(test)]
mod tests;
