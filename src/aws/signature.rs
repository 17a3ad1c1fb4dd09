//! Signature Version 4, as AWS describes it: what is signed, with which key, and the headers that say so. Pure.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use crate::model::time::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request as far as its signature covers it.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Encoded as it is sent.
    pub(super) path: &'a str,
    /// Names and values, not encoded.
    pub(super) query: &'a [(String, String)],
    /// Names in lower case; the host is one of them, those that are made here are not.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
}

/// For whom a signature is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Signed<'_> {
    /// The headers that are added to those of the request.
    pub(super) fn headers(&self, scope: Scope<'_>, by: &Credentials, now: Timestamp) -> Vec<(&'static str, String)> {
        let time = compact(now);
        let mut added = vec![("x-amz-date", time.clone())];
        if let Some(token) = by.session_token() {
            added.push(("x-amz-security-token", token.to_owned()));
        }
        let own = added.iter().map(|(name, value)| (*name, value.as_str()));
        let mut covered: Vec<(&str, &str)> = self.headers.iter().copied().chain(own).collect();
        covered.sort_unstable();
        let names = covered.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");

        let date: String = time.chars().take_while(|char| *char != 'T').collect();
        let Scope { region, service } = scope;
        let place = format!("{date}/{region}/{service}/aws4_request");
        let request = hex(&Sha256::digest(self.canonical(&covered, &names)));
        let text = format!("{ALGORITHM}\n{time}\n{place}\n{request}");
        let first = mac(format!("AWS4{}", by.secret_access_key()).as_bytes(), &date);
        let key = [region, service, "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        let id = by.access_key_id();
        let said = format!("{ALGORITHM} Credential={id}/{place}, SignedHeaders={names}, Signature={signature}");
        added.push(("authorization", said));
        added
    }

    fn canonical(&self, headers: &[(&str, &str)], names: &str) -> String {
        let Self { method, path, query, body, .. } = self;
        let query = query_text(query);
        let headers =
            headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect::<Vec<_>>().concat();
        format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{}", hex(&Sha256::digest(body)))
    }
}

/// Names and values as they stand in an address, in the order in which they are signed.
pub(super) fn query_text(query: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = query.iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// A text with all but the unreserved characters of RFC 3986 escaped.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut said, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => said.push(char::from(byte)),
            other => write!(said, "%{other:02X}").expect("a String takes all text"),
        }
        said
    })
}

/// `20150830T123600Z`.
fn compact(now: Timestamp) -> String {
    let text = now.to_string();
    let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
    seconds.chars().filter(|char| !matches!(char, '-' | ':')).chain(['Z']).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Bytes in lower-case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";

    fn signature(signed: &Signed<'_>, token: Option<&str>) -> String {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", secret, token);
        let scope = Scope { region: "us-east-1", service: "service" };
        let headers = signed.headers(scope, &credentials, "2015-08-30T12:36:00Z".parse().unwrap());
        let (name, said) = headers.last().unwrap();
        assert_eq!(*name, "authorization");
        assert!(said.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "));
        said.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    fn get<'a>(path: &'a str, query: &'a [(String, String)]) -> Signed<'a> {
        Signed { method: "GET", path, query, headers: &[("host", "example.amazonaws.com")], body: "" }
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The requests and signatures that AWS publishes to test implementations, by the names that they have there.
    #[test]
    fn signatures_are_those_that_aws_publishes() {
        const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let cases = [
            ("get-vanilla", "/", pairs([]), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "get-vanilla-query-order-key-case",
                "/",
                pairs([("Param2", "value2"), ("Param1", "value1")]),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-query-unreserved",
                "/",
                pairs([(UNRESERVED, UNRESERVED)]),
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "get-vanilla-utf8-query",
                "/",
                pairs([("\u{1234}", "bar")]),
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            ("get-utf8", "/%E1%88%B4", pairs([]), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
            (
                "get-space-unnormalized",
                "/example%20space/",
                pairs([]),
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
        ];
        for (name, path, query, expected) in cases {
            assert_eq!(signature(&get(path, &query), None), expected, "{name}");
        }
    }

    #[test]
    fn a_session_token_and_a_form_are_signed_as_aws_publishes() {
        let expected = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8";
        assert_eq!(signature(&get("/", &[]), Some(TOKEN)), expected, "get-vanilla-with-session-token");
        let post = |headers, body| Signed { method: "POST", path: "/", query: &[], headers, body };
        let expected = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(signature(&post(&[("host", "example.amazonaws.com")], ""), None), expected, "post-vanilla");
        let body = "Param1=value1";
        let digest = hex(&Sha256::digest(body));
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("content-length", "13"),
            ("x-amz-content-sha256", digest.as_str()),
        ];
        let expected = "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b";
        assert_eq!(signature(&post(&headers, body), None), expected, "post-x-www-form-urlencoded");
    }
}
