//! Where a request may carry its credentials, in StackStorm's places and the web's own. One place only: a request with
//! two says nothing definite about who it is from.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Serialize;

use crate::secrets::SecretText;

/// What a caller shows to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token from `POST /auth/v1/tokens`.
    Token(SecretText),
    /// An API key.
    ApiKey(SecretText),
    /// `Authorization: Bearer`: a token or an API key.
    Bearer(SecretText),
    /// `Authorization: Basic`.
    Password {
        /// Who they say they are.
        user: String,
        /// To be checked.
        password: SecretText,
    },
}

impl Credential {
    /// As it is called where failures are counted.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::ApiKey(_) => "api_key",
            Self::Bearer(_) => "bearer",
            Self::Password { .. } => "password",
        }
    }
}

/// Where the credential stood, as `whoami` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// A header.
    Header,
    /// The query string.
    Query,
    /// A cookie: the caller is a browser, so forged requests are possible.
    Cookie,
}

/// A credential and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// What is shown.
    pub credential: Credential,
    /// Where it stood.
    pub location: Location,
}

/// Why there is no credential to check. All of these are answered with 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// None at all.
    #[error("no credentials: send a token as `X-Auth-Token` or an API key as `St2-Api-Key`")]
    Missing,
    /// More than one.
    #[error("multiple authentication sources in one request: send one token, key or password, in one place")]
    Multiple,
    /// A header that is not what it must be.
    #[error("the `Authorization` header is neither `Bearer TOKEN` nor `Basic BASE64(USER:PASSWORD)`")]
    Malformed,
    /// A header with bytes that no credential has.
    #[error("the credential contains characters other than visible ASCII")]
    NotText,
}

impl Presented {
    /// The one credential of a request, from its headers (also cookies) and its query string.
    pub fn from_request(headers: &HeaderMap, query: &str) -> Result<Self, CredentialError> {
        let mut all = from_headers(headers)?;
        all.extend(from_query(query));
        all.extend(from_cookies(headers)?);
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(CredentialError::Multiple),
            (None, _) => Err(CredentialError::Missing),
        }
    }
}

fn from_headers(headers: &HeaderMap) -> Result<Vec<Presented>, CredentialError> {
    let mut found = Vec::new();
    for (name, wrap) in NAMED {
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| CredentialError::NotText)?;
            found.push(Presented { credential: wrap(SecretText::new(text)), location: Location::Header });
        }
    }
    for value in headers.get_all(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| CredentialError::NotText)?;
        found.push(Presented { credential: authorization(text)?, location: Location::Header });
    }
    Ok(found)
}

/// The names that headers and query parameters share.
const NAMED: [(&str, fn(SecretText) -> Credential); 2] =
    [("x-auth-token", Credential::Token), ("st2-api-key", Credential::ApiKey)];

fn authorization(text: &str) -> Result<Credential, CredentialError> {
    let (scheme, rest) = text.split_once(' ').ok_or(CredentialError::Malformed)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credential::Bearer(SecretText::new(rest)));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(CredentialError::Malformed);
    }
    let (user, password) = basic_pair(rest).ok_or(CredentialError::Malformed)?;
    Ok(Credential::Password { user, password })
}

/// User and password of an encoded `Basic` credential.
pub(super) fn basic_pair(encoded: &str) -> Option<(String, SecretText)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), SecretText::new(password)))
}

fn from_query(query: &str) -> Vec<Presented> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let named = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
        let (_, wrap) = NAMED.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?;
        Some(Presented { credential: wrap(SecretText::new(value)), location: Location::Query })
    };
    pairs.filter_map(named).collect()
}

fn from_cookies(headers: &HeaderMap) -> Result<Vec<Presented>, CredentialError> {
    let mut found = Vec::new();
    for value in headers.get_all(COOKIE) {
        let text = value.to_str().map_err(|_| CredentialError::NotText)?;
        let cookies = text.split(';').filter_map(|cookie| cookie.trim().split_once('='));
        found.extend(cookies.filter(|(name, _)| *name == "auth-token").map(|(_, token)| Presented {
            credential: Credential::Token(SecretText::new(token)),
            location: Location::Cookie,
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    use axum::http::{HeaderName, HeaderValue};

    fn present(headers: &[(&'static str, &str)], query: &str) -> Result<Presented, CredentialError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        Presented::from_request(&map, query)
    }

    #[test]
    fn credentials_are_found_in_every_place_they_may_stand() {
        let secret = || SecretText::new("k3y");
        let password = || Credential::Password { user: "ada".to_owned(), password: SecretText::new("a:b") };
        #[rustfmt::skip]
        let cases: [(&[(&'static str, &str)], &str, Credential, Location); 9] = [
            (&[("x-auth-token", "k3y")], "", Credential::Token(secret()), Location::Header),
            (&[("st2-api-key", "k3y")], "limit=1", Credential::ApiKey(secret()), Location::Header),
            (&[], "limit=1&x-auth-token=k3y", Credential::Token(secret()), Location::Query),
            (&[], "st2-api-key=k%33y", Credential::ApiKey(secret()), Location::Query),
            (&[], "St2-Api-Key=k3y", Credential::ApiKey(secret()), Location::Query),
            (&[("cookie", "a=1; auth-token=k3y; b=2")], "", Credential::Token(secret()), Location::Cookie),
            (&[("authorization", "Bearer k3y")], "", Credential::Bearer(secret()), Location::Header),
            (&[("authorization", "bearer  k3y")], "", Credential::Bearer(secret()), Location::Header),
            (&[("authorization", "Basic YWRhOmE6Yg==")], "", password(), Location::Header),
        ];
        for (headers, query, credential, location) in cases {
            assert_eq!(present(headers, query), Ok(Presented { credential, location }), "{headers:?} {query}");
        }
    }

    #[test]
    fn more_than_one_source_is_refused() {
        let both = present(&[("x-auth-token", "a"), ("st2-api-key", "b")], "");
        assert_eq!(both, Err(CredentialError::Multiple));
        assert_eq!(present(&[("x-auth-token", "a")], "x-auth-token=a"), Err(CredentialError::Multiple));
        assert_eq!(present(&[("x-auth-token", "a"), ("x-auth-token", "a")], ""), Err(CredentialError::Multiple));
        assert_eq!(
            present(&[("authorization", "Bearer a"), ("cookie", "auth-token=b")], ""),
            Err(CredentialError::Multiple)
        );
    }

    #[test]
    fn nothing_and_nonsense_are_refused_with_the_way_out() {
        assert_eq!(present(&[("cookie", "session=1")], "limit=1"), Err(CredentialError::Missing));
        for text in ["k3y", "Digest x", "Basic !!!", "Basic YWRh"] {
            assert_eq!(present(&[("authorization", text)], ""), Err(CredentialError::Malformed), "{text}");
        }
        assert_eq!(present(&[("x-auth-token", "schlüssel")], ""), Err(CredentialError::NotText));
        assert!(CredentialError::Missing.to_string().contains("St2-Api-Key"));
    }
}
