//! What ordinary tools make of a secret is masked, whole and in pieces.
#![expect(clippy::format_collect, reason = "short texts of a test")]

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use proptest::prelude::*;

use super::{MASK, RedactingLines, Redactor, hex};

/// One way in which a tool writes bytes.
type Encoding = (&'static str, fn(&str) -> String);

const ENCODINGS: &[Encoding] = &[
    ("clear", str::to_owned),
    ("base64 in lines of 76", |text| wrapped(&BASE64_STANDARD.encode(text), 76)),
    ("base64 in lines of 64", |text| wrapped(&BASE64_STANDARD.encode(text), 64)),
    ("base64 in indented lines of 20", |text| wrapped(&BASE64_STANDARD.encode(text), 20).replace('\n', "\n    ")),
    ("base64 for URLs without padding", |text| BASE64_URL_SAFE_NO_PAD.encode(text)),
    ("base64 in JSON", |text| format!("{:?}", wrapped(&BASE64_STANDARD.encode(text), 40))),
    ("base64 of UTF-16", |text| BASE64_STANDARD.encode(wide(text))),
    ("lower hex", |text| hex(text.as_bytes())),
    ("upper hex", |text| hex(text.as_bytes()).to_uppercase()),
    ("hex with spaces", |text| separated(text, " ")),
    ("hex with colons", |text| separated(text, ":")),
    ("hex in lines", |text| wrapped(&hex(text.as_bytes()), 60)),
    ("od -tx1", |text| dumped(text, |bytes| separated_bytes(bytes, " "))),
    ("C array", |text| text.bytes().map(|byte| format!("0x{byte:02x}")).collect::<Vec<_>>().join(", ")),
    ("decimal list", |text| format!("{:?}", text.as_bytes())),
    ("C escapes", |text| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()),
    ("octal escapes", |text| text.bytes().map(|byte| format!("\\{byte:03o}")).collect()),
    ("UTF-16 escapes", |text| text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect()),
    ("shell single quotes", |text| format!("'{}'", text.replace('\'', r"'\''"))),
    ("shell double quotes inside", |text| format!("'{}'", text.replace('\'', r#"'"'"'"#))),
    ("shell backslashes", |text| {
        text.chars().flat_map(|c| if c.is_alphanumeric() { vec![c] } else { vec!['\\', c] }).collect()
    }),
    ("YAML single quotes", |text| format!("'{}'", text.replace('\'', "''"))),
    ("JSON", |text| serde_json::Value::from(text).to_string()),
    ("JSON in JSON", |text| serde_json::Value::from(serde_json::Value::from(text).to_string()).to_string()),
    ("JSON for HTML", |text| {
        let json = serde_json::Value::from(text).to_string();
        json.replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
            .replace('\'', "\\u0027")
            .replace('/', "\\/")
    }),
    ("HTML", |text| {
        let amp = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        amp.replace('"', "&quot;").replace('\'', "&#39;")
    }),
    ("HTML in hex", |text| text.chars().map(|c| format!("&#x{:x};", u32::from(c))).collect()),
    ("percent", |text| text.bytes().map(|byte| format!("%{byte:02X}")).collect()),
    ("percent in lower case", |text| text.bytes().map(|byte| format!("%{byte:02x}")).collect()),
    ("form", |text| form_urlencoded::byte_serialize(text.as_bytes()).collect()),
    ("terminal of 7 columns", |text| wrapped(text, 7)),
];

fn wrapped(text: &str, columns: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(columns).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn separated(text: &str, separator: &str) -> String {
    separated_bytes(text.as_bytes(), separator)
}

fn separated_bytes(bytes: &[u8], separator: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator)
}

fn dumped(text: &str, line: fn(&[u8]) -> String) -> String {
    let lines = text.as_bytes().chunks(16).enumerate();
    lines.map(|(number, bytes)| format!("{:07o} {}\n", number * 16, line(bytes))).collect()
}

/// In clear and in each encoding: is anything of it left that somebody could read back?
fn is_left(shown: &str, secret: &str) -> bool {
    let rest = shown.replace(MASK, "\u{1}");
    rest.contains(secret) || Redactor::new([secret]).redact(&rest) != rest
}

/// Secrets as people have them: at least eight characters, with whatever quoting cares about.
fn secrets() -> impl Strategy<Value = String> {
    "[A-Za-z0-9]{3,5}[!-~]{3,20}[A-Za-z0-9 é]{2,10}[A-Za-z0-9]{2}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn what_a_tool_makes_of_a_secret_is_masked(
        secret in secrets(), which in 0..ENCODINGS.len(), before in "[a-z ]{0,9}", after in "[a-z ]{0,9}",
    ) {
        let (name, encode) = ENCODINGS[which];
        let text = format!("value: {}\n", encode(&format!("{before}{secret}{after}")));
        let shown = Redactor::new([secret.as_str()]).redact(&text).into_owned();
        prop_assert!(shown.contains(MASK), "{}: {:?} shows {:?}", name, secret, shown);
        prop_assert!(!is_left(&shown, &secret), "{}: {:?} leaves {:?}", name, secret, shown);
    }

    #[test]
    fn an_encoded_secret_in_pieces_is_masked(
        secret in secrets(), which in 0..ENCODINGS.len(), cuts in prop::collection::vec(1_usize..40, 0..12),
    ) {
        let (name, encode) = ENCODINGS[which];
        let text = format!("value: {}\nnext line\n", encode(&secret));
        let mut stream = RedactingLines::new(Arc::new(Redactor::new([secret.as_str()])));
        let (mut characters, mut shown) = (text.chars(), String::new());
        for length in cuts {
            let piece: String = characters.by_ref().take(length).collect();
            shown.push_str(&stream.push(&piece));
        }
        shown.push_str(&stream.push(characters.as_str()));
        shown.push_str(&stream.finish());
        prop_assert!(shown.contains(MASK), "{}: {:?} shows {:?}", name, secret, shown);
        prop_assert!(!is_left(&shown, &secret), "{}: {:?} leaves {:?}", name, secret, shown);
    }

    #[test]
    fn texts_without_the_secret_stay_as_they_are(text in "[a-m ,.:'\"\\\\\n]{0,200}") {
        let redactor = Redactor::new(["XYZ0987-QRSTUV"]);
        prop_assert_eq!(redactor.redact(&text), text.as_str());
        let mut stream = RedactingLines::new(Arc::new(redactor));
        let shown = [stream.push(&text), stream.finish()].concat();
        prop_assert_eq!(shown, text);
    }
}
