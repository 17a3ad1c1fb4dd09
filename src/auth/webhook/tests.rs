use super::*;

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::auth::{AuthMethod, Role};

fn auth(written: Value) -> WebhookAuth {
    serde_json::from_value(written).unwrap()
}

fn verifier(written: Value) -> Verifier {
    auth(written).resolve(|_| None).unwrap()
}

struct Sent {
    headers: HeaderMap,
    query: &'static str,
    body: &'static [u8],
    now: Timestamp,
}

fn sent(headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Sent {
    let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Sent { headers: pairs.collect(), query: "", body, now: Timestamp::default() }
}

impl Sent {
    fn check(&self, verifier: &Verifier) -> Result<(), Refusal> {
        let Self { headers, query, body, now } = self;
        verifier.verify(&HookRequest { headers, query, body, now: *now, principal: None })
    }
}

fn header(name: &str) -> Place {
    Place::Header(name.to_owned())
}

/// The example of GitHub's documentation.
const GITHUB_SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

#[test]
fn githubs_signature_is_accepted_and_a_changed_body_is_not() {
    let github = verifier(json!({ "kind": "hmac", "scheme": "github", "secret": "It's a Secret to Everybody" }));
    let place = header("x-hub-signature-256");
    let signed = |body| sent(&[("x-hub-signature-256", GITHUB_SIGNATURE)], body).check(&github);
    assert_eq!(signed(b"Hello, World!"), Ok(()));
    assert_eq!(signed(b"Hello, World?"), Err(Refusal::Mismatch { place: place.clone() }));
    assert_eq!(sent(&[], b"Hello, World!").check(&github), Err(Refusal::Missing { place }));
}

#[test]
fn githubs_older_signature_counts_only_where_the_newer_is_missing() {
    let github = verifier(json!({ "kind": "hmac", "scheme": "github", "secret": "key" }));
    let older = ("x-hub-signature", "sha1=de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9");
    let body = b"The quick brown fox jumps over the lazy dog";
    assert_eq!(sent(&[older], body).check(&github), Ok(()));
    let with_bad_newer = sent(&[older, ("x-hub-signature-256", "sha256=00")], body);
    assert_eq!(with_bad_newer.check(&github), Err(Refusal::Mismatch { place: header("x-hub-signature-256") }));
}

/// The example of Slack's documentation.
fn slack_example() -> Sent {
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = [
        ("x-slack-request-timestamp", "1531420618"),
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
    ];
    let now = Timestamp::from_micros(1_531_420_618_000_000);
    Sent { now, ..sent(&headers, body) }
}

#[test]
fn slacks_signature_is_accepted_within_its_window_and_refused_as_a_replay_after_it() {
    let slack = verifier(json!({ "kind": "hmac", "scheme": "slack", "secret": "8f742231b10e8888abcd99yyyzzz85a5" }));
    let example = slack_example();
    assert_eq!(example.check(&slack), Ok(()));
    let at = |now| Sent { now, ..slack_example() }.check(&slack);
    assert_eq!(at(example.now.plus(Duration::from_mins(5))), Ok(()));
    assert_eq!(at(example.now.plus(Duration::from_secs(301))), Err(Refusal::Replayed { seconds_off: 301 }));
    assert_eq!(at(example.now.minus(Duration::from_secs(301))), Err(Refusal::Replayed { seconds_off: 301 }));
}

#[test]
fn a_replay_with_a_fresh_timestamp_does_not_match_its_signature() {
    let slack = verifier(json!({ "kind": "hmac", "scheme": "slack", "secret": "8f742231b10e8888abcd99yyyzzz85a5" }));
    let mut forged = slack_example();
    forged.headers.insert("x-slack-request-timestamp", HeaderValue::from_static("1531429999"));
    forged.now = Timestamp::from_micros(1_531_429_999_000_000);
    assert_eq!(forged.check(&slack), Err(Refusal::Mismatch { place: header("x-slack-signature") }));
}

#[test]
fn any_other_header_algorithm_and_encoding_can_be_named() {
    let body = b"The quick brown fox jumps over the lazy dog";
    let cases = [
        (json!({ "algorithm": "sha256" }), "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"),
        (json!({ "prefix": "v1," , "encoding": "base64" }), "v1,97yD9DBThCSxMpjmqm+xQ+9NWaFJRhdZl0edvC0aPNg="),
        (json!({ "algorithm": "sha1" }), "DE7C9B85B8B78AA6BC8A7A36F70A90701C9DB4D9"),
    ];
    for (extra, signature) in cases {
        let mut written = json!({ "kind": "hmac", "scheme": "generic", "secret": "key", "header": "X-Signature" });
        written.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let generic = verifier(written);
        assert_eq!(sent(&[("x-signature", signature)], body).check(&generic), Ok(()), "{signature}");
        let malformed = sent(&[("x-signature", "not a signature")], body).check(&generic);
        assert!(matches!(malformed, Err(Refusal::Malformed { .. })), "{malformed:?}");
    }
}

#[test]
fn a_shared_token_stands_in_its_header_or_query_parameter() {
    let in_header = verifier(json!({ "kind": "shared_token", "header": "X-Gitlab-Token", "token": "t0ken" }));
    assert_eq!(sent(&[("x-gitlab-token", "t0ken")], b"").check(&in_header), Ok(()));
    let refusal = sent(&[("x-gitlab-token", "t0keN")], b"").check(&in_header).unwrap_err();
    assert_eq!(refusal.to_string(), "the header `X-Gitlab-Token` does not match");
    let in_query = verifier(json!({ "kind": "shared_token", "query": "key", "token": "t0 ken" }));
    assert_eq!(Sent { query: "a=1&key=t0%20ken", ..sent(&[], b"") }.check(&in_query), Ok(()));
    assert!(Sent { query: "a=1", ..sent(&[], b"") }.check(&in_query).is_err());
}

#[test]
fn basic_authentication_needs_both_halves() {
    let basic = verifier(json!({ "kind": "basic", "user": "ada", "password": "a:b" }));
    let with = |value| sent(&[("authorization", value)], b"").check(&basic);
    assert_eq!(with("Basic YWRhOmE6Yg=="), Ok(()));
    assert_eq!(with("Basic YWRlOmE6Yg=="), Err(Refusal::Mismatch { place: header("authorization") }));
    assert!(matches!(with("Bearer YWRhOmE6Yg=="), Err(Refusal::Malformed { .. })));
}

#[test]
fn g10_without_further_words_a_webhook_wants_somebody_who_may_send() {
    assert_eq!(WebhookAuth::default(), auth(json!("api_key")));
    let sent = sent(&[], b"");
    let check = |principal| {
        let request = HookRequest { headers: &sent.headers, query: "", body: b"", now: sent.now, principal };
        Verifier::ApiKey.verify(&request)
    };
    let as_role = |role| Principal { name: "ada".to_owned(), role, method: AuthMethod::ApiKey };
    let (observer, operator) = (as_role(Role::Observer), as_role(Role::Operator));
    assert_eq!(check(None), Err(Refusal::NoPrincipal));
    assert_eq!(check(Some(&observer)), Err(Refusal::NotAllowed { name: "ada".to_owned() }));
    assert_eq!(check(Some(&operator)), Ok(()));
}

#[test]
fn an_open_door_has_to_be_named() {
    let open = auth(json!("open"));
    assert!(open.is_open() && !WebhookAuth::default().is_open());
    assert_eq!(sent(&[], b"").check(&open.resolve(|_| None).unwrap()), Ok(()));
}

#[test]
fn a_secret_may_live_in_the_datastore_and_the_door_stays_shut_without_it() {
    let github = auth(json!({ "kind": "hmac", "scheme": "github", "secret_key": "github_secret" }));
    assert_eq!(github.datastore_key(), Some("github_secret"));
    let found = github.resolve(|key| (key == "github_secret").then(|| "It's a Secret to Everybody".to_owned()));
    let signed = sent(&[("x-hub-signature-256", GITHUB_SIGNATURE)], b"Hello, World!");
    assert_eq!(signed.check(&found.unwrap()), Ok(()));
    for value in [None, Some(String::new())] {
        let missing = github.resolve(|_| value.clone()).unwrap_err();
        assert!(missing.to_string().contains("petrel key set github_secret"), "{missing}");
    }
}

#[test]
fn what_is_written_wrongly_is_refused_with_the_way_out() {
    let cases = [
        (json!("opne"), "unknown variant `opne`"),
        (json!({ "kind": "hmac", "scheme": "github" }), "either `secret`, or `secret_key`"),
        (json!({ "kind": "hmac", "scheme": "github", "secret": "" }), "`secret` is empty"),
        (json!({ "kind": "hmac", "scheme": "github", "secret": "s", "header": "X" }), "`scheme = \"generic\"` only"),
        (json!({ "kind": "hmac", "scheme": "github", "secret": "s", "replay_window": "5m" }), "sign the time"),
        (json!({ "kind": "hmac", "scheme": "slack", "secret": "s", "replay_window": "5" }), "is not a duration"),
        (json!({ "kind": "hmac", "scheme": "generic", "secret": "s" }), "needs `header`"),
        (json!({ "kind": "hmac", "scheme": "generic", "secret": "s", "header": "a b" }), "not a header's name"),
        (json!({ "kind": "shared_token", "token": "t" }), "either `header` or `query`"),
        (json!({ "kind": "basic", "user": "ada", "pasword": "x" }), "unknown field `pasword`"),
        (json!({ "kind": "open", "token": "x" }), "unknown field `token`"),
    ];
    for (written, expected) in cases {
        let refusal = serde_json::from_value::<WebhookAuth>(written.clone()).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{written}: {refusal}");
    }
}

#[test]
fn g09_a_configured_secret_does_not_show_in_debug_output() {
    let written = json!({ "kind": "hmac", "scheme": "github", "secret": "hunter2" });
    assert!(!format!("{:?} {:?}", auth(written.clone()), verifier(written)).contains("hunter2"));
}
