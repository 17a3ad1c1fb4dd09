//! Redaction by value: whatever was declared secret is masked in any text, in clear and in the usual encodings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::engine::GeneralPurpose;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use serde_json::{Map, Value};

use crate::secrets::MASK;

/// Shorter values are not masked: they occur in innocent text, and masking them there would only tell where.
const SHORTEST_SECRET_BYTES: usize = 4;
/// Lines of a longer secret, as of a private key, are masked one by one from this length.
const SHORTEST_LINE_BYTES: usize = 12;

/// Masks a set of secret values. Building costs time; it is meant to be kept until the set changes.
pub struct Redactor {
    matcher: Matcher,
    /// In the matcher's order, which is that of their bytes.
    forms: Vec<(String, Bleed)>,
}

enum Matcher {
    Nothing,
    Everything,
    Forms(AhoCorasick),
}

/// Secrets in base64 share their first and last digit with their neighbours when they do not begin or end at a group
/// of three bytes; those digits are masked as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bleed {
    left: usize,
    right: usize,
}

impl Redactor {
    /// Masks `secrets`. Values shorter than four bytes are left out.
    pub fn new(secrets: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let mut forms = BTreeMap::new();
        for secret in secrets {
            collect_forms(secret.as_ref(), &mut forms);
        }
        if forms.is_empty() {
            return Self { matcher: Matcher::Nothing, forms: Vec::new() };
        }
        let matcher = AhoCorasick::new(forms.keys()).expect("secrets together are far below the matcher's 2 GiB");
        Self { matcher: Matcher::Forms(matcher), forms: forms.into_iter().collect() }
    }

    /// Masks whole texts: for where it cannot be known any more which of them hold a secret.
    pub const fn everything() -> Self {
        Self { matcher: Matcher::Everything, forms: Vec::new() }
    }

    /// Masks nothing.
    pub fn nothing() -> Self {
        Self::new([""; 0])
    }

    /// The text with every secret masked.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let spans = self.find_secrets(text);
        if spans.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(mask(text, &spans)) }
    }

    /// The value with every secret masked in its texts, keys and numbers.
    pub fn redact_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.redact(text).into_owned()),
            Value::Array(items) => items.iter().map(|item| self.redact_value(item)).collect(),
            Value::Object(fields) => Value::Object(self.redact_fields(fields)),
            Value::Number(number) if !self.find_secrets(&number.to_string()).is_empty() => MASK.into(),
            Value::Number(_) | Value::Bool(_) | Value::Null => value.clone(),
        }
    }

    fn redact_fields(&self, fields: &Map<String, Value>) -> Map<String, Value> {
        fields.iter().map(|(key, value)| (self.redact(key).into_owned(), self.redact_value(value))).collect()
    }

    /// Where secrets stand, in order, without overlaps.
    pub(super) fn find_secrets(&self, text: &str) -> Vec<Range<usize>> {
        let matcher = match &self.matcher {
            Matcher::Nothing => return Vec::new(),
            Matcher::Everything if text.is_empty() => return Vec::new(),
            Matcher::Everything => return std::iter::once(0..text.len()).collect(),
            Matcher::Forms(matcher) => matcher,
        };
        let mut spans: Vec<Range<usize>> = Vec::new();
        for found in matcher.find_overlapping_iter(text) {
            let (_, bleed) = self.forms[found.pattern().as_usize()];
            spans.push(widen(text, found.range(), bleed));
        }
        spans.sort_by_key(|span| (span.start, span.end));
        spans.dedup_by(|later, earlier| {
            let touches = later.start <= earlier.end;
            if touches {
                earlier.end = earlier.end.max(later.end);
            }
            touches
        });
        spans
    }

    /// Could `tail` be the beginning of a secret that goes on after it?
    pub(super) fn begins_secret(&self, tail: &str) -> bool {
        let at = self.forms.partition_point(|(form, _)| form.as_str() <= tail);
        self.forms.get(at).is_some_and(|(form, _)| form.starts_with(tail))
    }

    /// The longest form of any secret.
    pub(super) fn longest_form_bytes(&self) -> usize {
        self.forms.iter().map(|(form, _)| form.len() + 1).max().unwrap_or(0)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} forms)", self.forms.len())
    }
}

/// Puts the mask over spans that are in order and do not overlap.
pub(super) fn mask(text: &str, spans: &[Range<usize>]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        masked.push_str(text.get(done..span.start).unwrap_or_default());
        masked.push_str(MASK);
        done = span.end;
    }
    masked.push_str(text.get(done..).unwrap_or_default());
    masked
}

fn widen(text: &str, found: Range<usize>, bleed: Bleed) -> Range<usize> {
    let is_digit =
        |at: usize| text.as_bytes().get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte));
    let left = usize::from(bleed.left > 0 && found.start > 0 && is_digit(found.start - 1));
    let right = usize::from(bleed.right > 0 && is_digit(found.end));
    found.start - left..found.end + right
}

fn collect_forms(secret: &str, forms: &mut BTreeMap<String, Bleed>) {
    for part in parts(secret) {
        for form in encodings(part) {
            forms.insert(form, Bleed::default());
        }
        for (form, bleed) in base64_forms(part) {
            forms.entry(form).or_insert(bleed);
        }
    }
}

/// The secret, the secret without the white space around it, and its longer lines.
fn parts(secret: &str) -> Vec<&str> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE_BYTES);
    let mut parts: Vec<&str> = [secret, secret.trim()].into_iter().chain(lines).collect();
    parts.retain(|part| part.trim().len() >= SHORTEST_SECRET_BYTES);
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// In clear, in JSON (also inside JSON, in ASCII, with escaped slashes) and in URLs (both ways to write a space).
fn encodings(secret: &str) -> Vec<String> {
    let json = json_escaped(secret);
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let percent = percent_encoded(secret);
    vec![
        json_escaped(&json),
        json.replace('/', r"\/"),
        ascii_escaped(&json),
        lower_hex(&form),
        lower_hex(&percent),
        form,
        percent,
        json,
        secret.to_owned(),
    ]
}

fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted).to_owned()
}

fn ascii_escaped(json: &str) -> String {
    let mut units = [0; 2];
    let escape = |c: char| match c {
        c if c.is_ascii() => c.to_string(),
        c => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat(),
    };
    json.chars().map(escape).collect()
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// `%2F` as `%2f`.
fn lower_hex(encoded: &str) -> String {
    let mut digits_left = 0;
    let lower = |c: char| {
        let is_digit = digits_left > 0;
        digits_left = if c == '%' { 2 } else { usize::saturating_sub(digits_left, 1) };
        if is_digit { c.to_ascii_lowercase() } else { c }
    };
    encoded.chars().map(lower).collect()
}

/// The digits that the secret alone decides, for each of the three places where it can begin within a group of three
/// bytes; and the whole encoding with its padding.
fn base64_forms(secret: &str) -> Vec<(String, Bleed)> {
    let engines: [&GeneralPurpose; 2] = [&BASE64_STANDARD, &BASE64_URL_SAFE];
    let mut forms = Vec::new();
    for engine in engines {
        forms.push((engine.encode(secret), Bleed::default()));
        for offset in 0..3 {
            forms.push(base64_core(engine, secret, offset));
        }
    }
    forms
}

fn base64_core(engine: &GeneralPurpose, secret: &str, offset: usize) -> (String, Bleed) {
    const DIGITS_TOUCHED_BY_OFFSET: [usize; 3] = [0, 2, 3];
    let padded = [&[0_u8; 2].as_slice()[..offset], secret.as_bytes()].concat();
    let whole_digits = padded.len() * 8 / 6;
    let touched = DIGITS_TOUCHED_BY_OFFSET[offset];
    let core = engine.encode(&padded).chars().take(whole_digits).skip(touched).collect();
    (core, Bleed { left: usize::from(offset > 0), right: usize::from(!padded.len().is_multiple_of(3)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn g09_a_secret_is_masked_in_every_form_it_may_take() {
        let secret = "p\"ss/w\u{f6}rd &\u{1f511}\n2";
        let redactor = Redactor::new([secret]);
        let json = json!({ "key": secret }).to_string();
        let forms = [
            secret.to_owned(),
            json.clone(),
            json!({ "nested": json }).to_string(),
            r#"{"key": "p\"ss/w\u00f6rd &\ud83d\udd11\n2"}"#.to_owned(),
            r#"{"key": "p\"ss\/wörd &🔑\n2"}"#.to_owned(),
            "q=p%22ss%2Fw%C3%B6rd+%26%F0%9F%94%91%0A2".to_owned(),
            "q=p%22ss%2fw%c3%b6rd%20%26%f0%9f%94%91%0a2".to_owned(),
            BASE64_STANDARD.encode(secret),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            BASE64_STANDARD.encode(format!("user:{secret}")),
        ];
        for form in forms {
            let masked = redactor.redact(&form);
            assert!(masked.contains(MASK), "{form} became {masked}");
            assert!(!masked.contains("ss"), "{form} became {masked}");
        }
    }

    #[test]
    fn a_text_without_secrets_is_not_even_copied() {
        let redactor = Redactor::new(["hunter2"]);
        assert!(matches!(redactor.redact("nothing here"), Cow::Borrowed("nothing here")));
        assert!(matches!(Redactor::nothing().redact("hunter2"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_rest_of_the_text_stays_as_it_was() {
        let redactor = Redactor::new(["hunter2", "tor2 and"]);
        assert_eq!(redactor.redact("a hunter2, b hunter2"), "a ********, b ********");
        let overlapping = Redactor::new(["hunter2", "ter2abc"]);
        assert_eq!(overlapping.redact("<hunter2abc>"), "<********>");
    }

    #[test]
    fn short_values_are_not_secrets_and_lines_of_long_ones_are() {
        assert_eq!(Redactor::new(["abc", "", "   \n  "]).redact("abc    \n  "), "abc    \n  ");
        let key = Redactor::new(["-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG\n-----END KEY-----\n"]);
        assert_eq!(key.redact("read MIIEvQIBADANBgkq"), "read ********");
        assert_eq!(Redactor::new(["hunter2\n"]).redact("hunter2!"), "********!");
    }

    #[test]
    fn values_are_masked_in_texts_keys_and_numbers() {
        let redactor = Redactor::new(["hunter2", "123456"]);
        let value = json!({ "hunter2": ["x hunter2", 123_456, 12, true, null], "a": { "b": "ok" } });
        let masked = json!({ MASK: [format!("x {MASK}"), MASK, 12, true, null], "a": { "b": "ok" } });
        assert_eq!(redactor.redact_value(&value), masked);
    }

    proptest! {
        #[test]
        fn a_secret_inside_base64_is_masked_wherever_it_begins(
            before in "[a-z:]{0,7}", secret in "[!-~]{6,20}", after in "[a-z:]{0,7}",
        ) {
            let redactor = Redactor::new([secret.as_str()]);
            let whole = format!("{before}{secret}{after}");
            for encoded in [BASE64_STANDARD.encode(&whole), BASE64_URL_SAFE_NO_PAD.encode(&whole)] {
                let masked = redactor.redact(&encoded).into_owned();
                let left_over = masked.replace(MASK, "").len();
                prop_assert!(masked.contains(MASK));
                prop_assert!(left_over <= (before.len() + after.len()) * 4 / 3 + 4, "{} became {}", encoded, masked);
            }
        }
    }
}
