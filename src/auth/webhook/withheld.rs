//! Credentials end where they were checked: what authenticates a sender is taken out of a request before anything of it is
//! kept or shown, by the name of its place and by its value.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, HeaderValue};

use super::configured::{HmacAuth, Place, SecretSource, WebhookAuth};
use super::signature::Scheme;
use crate::auth::{Credential, Presented};
use crate::secrets::{MASK, Redactor, SecretText};

/// Headers that prove who sent a request, whatever is configured.
const HEADERS: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "st2-api-key",
    "x-auth-token",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-slack-signature",
];
/// The same in the query.
const PARAMETERS: [&str; 2] = ["st2-api-key", "x-auth-token"];
/// Shorter secrets occur in innocent text; they are only taken for themselves where they are all of a value.
const SHORTEST_PART_BYTES: usize = 4;
/// A proxy that forwards a URL in a header encodes it once more.
const DECODED_TIMES: usize = 3;

/// What is never kept of a request.
#[derive(Debug)]
pub struct Withheld {
    /// In lower case.
    headers: BTreeSet<String>,
    /// In lower case.
    parameters: BTreeSet<String>,
    secrets: Vec<SecretText>,
    redactor: Redactor,
}

impl Withheld {
    /// The places and secrets of all webhooks and listeners: a sender may show one's credential to another.
    pub fn new<'a, C: IntoIterator<Item = &'a WebhookAuth>>(configured: C) -> Self {
        let mut headers: BTreeSet<String> = HEADERS.map(str::to_owned).into();
        let mut parameters: BTreeSet<String> = PARAMETERS.map(str::to_owned).into();
        let mut secrets = Vec::new();
        for auth in configured {
            match place_of(auth) {
                Some(Place::Header(name)) => drop(headers.insert(name.to_ascii_lowercase())),
                Some(Place::Query(name)) => drop(parameters.insert(name.to_ascii_lowercase())),
                None => {}
            }
            if let Some(SecretSource::Inline(secret)) = auth.secret_source() {
                secrets.push(secret.clone());
            }
        }
        let redactor = Redactor::new(secrets.iter().map(SecretText::expose));
        Self { headers, parameters, secrets, redactor }
    }

    /// What of one request is withheld beside it: the credential it shows, and secrets that were looked up for it.
    pub fn of_request(&self, headers: &HeaderMap, query: &str, looked_up: Vec<SecretText>) -> WithheldOf<'_> {
        let mut secrets = looked_up;
        if let Ok(Presented { credential, .. }) = Presented::from_request(headers, query) {
            secrets.push(match credential {
                Credential::Token(text) | Credential::ApiKey(text) | Credential::Bearer(text) => text,
                Credential::Password { password, .. } => password,
            });
        }
        for name in self.headers.iter().filter(|name| *name != "cookie") {
            for text in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
                secrets.push(SecretText::new(text.trim()));
                // What stands behind the scheme, as in `Basic …`, is the credential.
                secrets.extend(text.trim().split_once(' ').map(|(_, credential)| SecretText::new(credential.trim())));
            }
        }
        let parameters = form_urlencoded::parse(query.as_bytes());
        let withheld = parameters.filter(|(name, _)| self.withholds_parameter(name));
        secrets.extend(withheld.map(|(_, value)| SecretText::new(value)));
        WithheldOf { withheld: self, secrets }
    }

    fn withholds_parameter(&self, name: &str) -> bool {
        self.parameters.contains(&name.to_ascii_lowercase())
    }
}

fn place_of(auth: &WebhookAuth) -> Option<Place> {
    match auth {
        WebhookAuth::SharedToken { place, .. } => Some(place.clone()),
        WebhookAuth::Hmac(HmacAuth { scheme: Scheme::Generic { header, .. }, .. }) => {
            Some(Place::Header(header.clone()))
        }
        WebhookAuth::Hmac(_) | WebhookAuth::Basic { .. } | WebhookAuth::ApiKey | WebhookAuth::Open => None,
    }
}

/// What is never kept of one request.
#[derive(Debug)]
pub struct WithheldOf<'w> {
    withheld: &'w Withheld,
    secrets: Vec<SecretText>,
}

impl WithheldOf<'_> {
    /// The headers without credentials.
    pub fn clean_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let kept = headers.iter().filter(|(name, _)| !self.withheld.headers.contains(name.as_str()));
        kept.filter(|(name, _)| !self.holds_secret(name.as_str()))
            .map(|(name, value)| (name.clone(), self.clean_header(value)))
            .collect()
    }

    fn clean_header(&self, value: &HeaderValue) -> HeaderValue {
        let text = String::from_utf8_lossy(value.as_bytes());
        let cleaned = self.clean_text(&text);
        if cleaned == text {
            value.clone()
        } else {
            HeaderValue::from_str(&cleaned).unwrap_or(HeaderValue::from_static(MASK))
        }
    }

    /// The parameters of a query without credentials.
    pub fn clean_query(&self, query: &str) -> Vec<(String, String)> {
        let kept =
            form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| !self.withheld.withholds_parameter(name));
        kept.map(|(name, value)| (self.clean_text(&name), self.clean_text(&value))).collect()
    }

    /// A text of the request, as its path, without credentials. Where one stands in an encoding, nothing is left.
    pub fn clean_text(&self, text: &str) -> String {
        let redacted = self.withheld.redactor.redact(text).into_owned();
        if self.holds_secret(&redacted) { MASK.to_owned() } else { redacted }
    }

    fn holds_secret(&self, text: &str) -> bool {
        let mut text = text.to_owned();
        for _ in 0..=DECODED_TIMES {
            if self.is_or_contains_secret(&text) {
                return true;
            }
            let decoded = percent_decode(&text);
            // A plus may be a blank, or itself.
            if text.contains('+') && self.is_or_contains_secret(&percent_decode(&text.replace('+', " "))) {
                return true;
            }
            if decoded == text {
                return false;
            }
            text = decoded;
        }
        false
    }

    fn is_or_contains_secret(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        let holds = |secret: &SecretText| {
            let secret = secret.expose();
            // Names of headers come in lower case, whatever was sent.
            let contains = text.contains(secret) || lower.contains(&secret.to_ascii_lowercase());
            text == secret && !secret.is_empty() || secret.len() >= SHORTEST_PART_BYTES && contains
        };
        self.withheld.secrets.iter().chain(&self.secrets).any(holds)
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            bytes.extend(u8::try_from(high * 16 + low));
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn encoded(text: &str, all: bool) -> String {
        let plain = |byte: u8| !all && byte.is_ascii_alphanumeric();
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    }

    fn auth_of(kind: usize, name: &str, secret: &str) -> WebhookAuth {
        let written = match kind {
            0 => json!({ "kind": "shared_token", "header": name, "token": secret }),
            1 => json!({ "kind": "shared_token", "query": name, "token": secret }),
            2 => json!({ "kind": "basic", "user": "ada", "password": secret }),
            3 => json!({ "kind": "hmac", "scheme": "generic", "header": name, "secret": secret }),
            4 => json!({ "kind": "hmac", "scheme": "slack", "secret": secret }),
            _ => json!("api_key"),
        };
        serde_json::from_value(written).unwrap()
    }

    /// The secret as a request may carry it.
    fn forms(secret: &str) -> Vec<String> {
        let once = encoded(secret, true);
        let url = format!("/hook?a=1&token={}&b=2", encoded(secret, false));
        vec![secret.to_owned(), format!("Bearer {secret}"), encoded(&once, true), once, url]
    }

    fn shows(text: &str, secret: &str) -> bool {
        let mut text = text.to_owned();
        (0..4).any(|_| {
            let shown = text.contains(secret) || text.replace('+', " ").contains(secret);
            text = percent_decode(&text);
            shown
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        /// Whatever is configured, and wherever a sender puts the secret, none of it is left.
        #[test]
        fn no_secret_is_left_of_a_request(
            kind in 0_usize..6,
            name in "[A-Za-z][A-Za-z-]{2,12}",
            secret in "[!-~]{8,24}",
            other in "[a-z]{3,8}",
            form in 0_usize..5,
            looked_up in any::<bool>(),
        ) {
            let configured = auth_of(kind, &name, &secret);
            let is_configured = kind < 5 && !looked_up;
            let withheld = Withheld::new(is_configured.then_some(&configured));
            let text = &forms(&secret)[form];
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::try_from(format!("x-{other}")).unwrap(), HeaderValue::from_str(text).unwrap());
            headers.insert(HeaderName::try_from(name.to_ascii_lowercase()).unwrap(), HeaderValue::from_str(&secret).unwrap());
            headers.insert("st2-api-key", HeaderValue::from_str(&secret).unwrap());
            let query = format!("{other}={}&{name}={}&x={}", encoded(text, false), encoded(&secret, true), encoded(&secret, false));
            let looked_up = if looked_up { vec![SecretText::new(secret.as_str())] } else { Vec::new() };
            let of_request = withheld.of_request(&headers, &query, looked_up);
            let kept = of_request.clean_headers(&headers);
            for (name, value) in &kept {
                prop_assert!(!shows(value.to_str().unwrap(), &secret), "{name}: {value:?}");
            }
            for (name, value) in of_request.clean_query(&query) {
                prop_assert!(!shows(&name, &secret) && !shows(&value, &secret), "{name}={value}");
            }
            prop_assert!(!shows(&of_request.clean_text(text), &secret));
        }

        /// What is no credential stays as it is.
        #[test]
        fn what_is_no_credential_is_kept(value in "[a-z0-9 %+=/]{0,40}") {
            let withheld = Withheld::new(&[auth_of(0, "X-Token", "ThisIsTheSecret")]);
            let mut headers = HeaderMap::new();
            headers.insert("x-event", HeaderValue::from_str(&value).unwrap());
            let of_request = withheld.of_request(&headers, "", Vec::new());
            prop_assert_eq!(of_request.clean_headers(&headers), headers);
            prop_assert_eq!(of_request.clean_text(&value), value);
        }
    }

    #[test]
    fn signatures_and_configured_places_are_left_out_by_name() {
        let configured =
            [auth_of(0, "X-Gitlab-Token", "gl-secret-token-9"), auth_of(3, "X-Signature", "s3cr3t-s3cr3t")];
        let withheld = Withheld::new(&configured);
        let mut headers = HeaderMap::new();
        for name in ["x-gitlab-token", "x-signature", "x-hub-signature", "x-slack-signature", "cookie", "x-event"] {
            headers.insert(name, HeaderValue::from_static("another"));
        }
        let kept = withheld.of_request(&HeaderMap::new(), "", Vec::new()).clean_headers(&headers);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-event"]);
    }
}
