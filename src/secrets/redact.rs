//! Redaction by value: whatever was declared secret is masked in any text, in clear and as ordinary tools write it.
//! A text is searched as it stands; read without quoting, escapes and line breaks ([`escapes`]); as base64 over several
//! lines; and as a dump of bytes ([`dump`]).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

use super::dump::{self, Dump};
use super::escapes::{self, Indent, Reading};
use super::forms::{self, Collected, Forms};
use crate::secrets::MASK;

/// Shorter values are not masked: they occur in innocent text, and masking them there would only tell where.
pub const SHORTEST_SECRET_BYTES: usize = 4;
/// Lines of a longer secret, as of a private key, are masked one by one from this length.
const SHORTEST_LINE_BYTES: usize = 12;
/// A stream never holds back more than this beyond its longest secret, whatever is left out when it is read.
const MOST_HELD_BYTES: usize = 16 * 1024;

/// Masks a set of secret values. Building costs time; it is meant to be kept until the set changes.
pub struct Redactor {
    matcher: Matcher,
}

enum Matcher {
    Nothing,
    Everything,
    Secrets(Box<Secrets>),
}

/// What secrets look like in each reading of a text.
struct Secrets {
    written: Forms,
    read: Option<Forms>,
    base64: Option<Forms>,
    bytes: Option<Forms>,
}

impl Redactor {
    /// Masks `secrets`. Values shorter than four bytes are left out.
    pub fn new(secrets: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let [mut written, mut read, mut base64, mut bytes] = [const { Collected::new() }; 4];
        for secret in secrets {
            for part in parts(secret.as_ref()) {
                forms::as_written(part, &mut written);
                forms::as_read(part, SHORTEST_SECRET_BYTES, &mut read);
                forms::as_base64(part, &mut base64);
                bytes.insert(part.as_bytes().to_vec(), forms::Bleed::default());
            }
        }
        let Some(written) = Forms::new(written) else { return Self::nothing() };
        let [read, base64, bytes] = [read, base64, bytes].map(Forms::new);
        Self { matcher: Matcher::Secrets(Box::new(Secrets { written, read, base64, bytes })) }
    }

    /// Masks whole texts: for where it cannot be known any more which of them hold a secret.
    pub const fn everything() -> Self {
        Self { matcher: Matcher::Everything }
    }

    /// Masks nothing.
    pub const fn nothing() -> Self {
        Self { matcher: Matcher::Nothing }
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
        let secrets = match &self.matcher {
            Matcher::Nothing => return Vec::new(),
            Matcher::Everything if text.is_empty() => return Vec::new(),
            Matcher::Everything => return std::iter::once(0..text.len()).collect(),
            Matcher::Secrets(secrets) => secrets,
        };
        let mut spans: Vec<Range<usize>> = secrets.written.find(text.as_bytes()).collect();
        secrets.find_read(text, &mut spans);
        secrets.find_dumped(text, &mut spans);
        for span in &mut spans {
            *span = text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end);
        }
        joined(spans)
    }

    /// Where the longest end of the text begins with which a secret could begin; its end if there is none.
    pub(super) fn open_from(&self, text: &str) -> usize {
        let Matcher::Secrets(secrets) = &self.matcher else { return text.len() };
        let open = secrets.open_written(text).min(secrets.open_read(text)).min(secrets.open_dumped(text));
        let most_held = MOST_HELD_BYTES + 8 * secrets.written.longest();
        text.floor_char_boundary(open.max(text.len().saturating_sub(most_held)))
    }
}

impl Secrets {
    fn find_read(&self, text: &str, spans: &mut Vec<Range<usize>>) {
        if !escapes::has_any(text) {
            return;
        }
        for reading in Indent::ALL.map(|indent| escapes::read(text, indent)) {
            let mut add = |forms: Option<&Forms>, bytes: Vec<u8>| {
                let found = forms.into_iter().flat_map(|forms| forms.find(&bytes));
                spans.extend(found.map(|found| reading.place_of(&found)));
            };
            add(self.read.as_ref(), reading.plain());
            add(self.base64.as_ref(), reading.base64());
        }
    }

    fn find_dumped(&self, text: &str, spans: &mut Vec<Range<usize>>) {
        let Some(forms) = &self.bytes else { return };
        let dump = Dump::read(text);
        for reading in &dump.readings {
            let found = forms.find(&reading.bytes).map(|found| dump.with_column(text, reading.place_of(&found)));
            spans.extend(found);
        }
    }

    fn open_written(&self, text: &str) -> usize {
        self.written.open_from(text.as_bytes())
    }

    fn open_read(&self, text: &str) -> usize {
        let cut = escapes::cut_off_from(text);
        let complete = text.get(..cut).unwrap_or_default();
        let open = Indent::ALL.map(|indent| {
            let reading = escapes::read(complete, indent);
            let open = |forms: Option<&Forms>, bytes: Vec<u8>| {
                forms.and_then(|forms| reading.start_of(forms.open_from(&bytes))).unwrap_or(cut)
            };
            open(self.read.as_ref(), reading.plain()).min(open(self.base64.as_ref(), reading.base64()))
        });
        open.into_iter().min().unwrap_or(cut)
    }

    fn open_dumped(&self, text: &str) -> usize {
        let Some(forms) = &self.bytes else { return text.len() };
        let cut = dump::cut_off_from(text);
        let dump = Dump::read(text.get(..cut).unwrap_or_default());
        let open = |reading: &Reading| reading.start_of(forms.open_from(&reading.bytes));
        dump.readings.iter().filter_map(open).min().unwrap_or(cut).min(cut)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = match &self.matcher {
            Matcher::Nothing => 0,
            Matcher::Everything => return f.write_str("Redactor(everything)"),
            Matcher::Secrets(secrets) => secrets.written.count(),
        };
        write!(f, "Redactor({forms} forms)")
    }
}

fn joined(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
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

/// The secret, the secret without the white space around it, and its longer lines.
fn parts(secret: &str) -> Vec<&str> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE_BYTES);
    let mut parts: Vec<&str> = [secret, secret.trim()].into_iter().chain(lines).collect();
    parts.retain(|part| part.trim().len() >= SHORTEST_SECRET_BYTES);
    parts.sort_unstable();
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
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
