//! Sets of byte strings that a secret may look like, found all at once, and the tails of a text with which one could
//! begin.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::engine::GeneralPurpose;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use serde_json::Value;

use super::escapes::{self, Indent};

/// Secrets in base64 share their first and last digit with their neighbours when they do not begin or end at a group
/// of three bytes; those digits are masked as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bleed {
    left: usize,
    right: usize,
}

/// Forms that are being collected.
pub(super) type Collected = BTreeMap<Vec<u8>, Bleed>;

/// A set of forms, ready to be found.
pub(super) struct Forms {
    automaton: AhoCorasick,
    /// In the automaton's order, which is that of their bytes.
    patterns: Vec<(Vec<u8>, Bleed)>,
    longest: usize,
}

impl Forms {
    /// `None`: there is nothing to find.
    pub(super) fn new(collected: Collected) -> Option<Self> {
        let automaton = (!collected.is_empty()).then(|| AhoCorasick::new(collected.keys()))?;
        let automaton = automaton.expect("secrets together are far below the automaton's 2 GiB");
        let longest = collected.keys().map(Vec::len).max().unwrap_or(0);
        Some(Self { automaton, patterns: collected.into_iter().collect(), longest })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.patterns.len()
    }

    /// The length of the longest form in bytes.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// Where forms stand, with the digits that they share with their neighbours.
    pub(super) fn find<'f>(&'f self, bytes: &'f [u8]) -> impl Iterator<Item = Range<usize>> + 'f {
        self.automaton.find_overlapping_iter(bytes).map(|found| {
            let (_, bleed) = self.patterns[found.pattern().as_usize()];
            widen(bytes, found.range(), bleed)
        })
    }

    /// Where the longest tail begins that a form could continue; the end if there is none.
    pub(super) fn open_from(&self, bytes: &[u8]) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest);
        let continues = |at: &usize| {
            let tail = bytes.get(*at..).unwrap_or_default();
            let next = self.patterns.partition_point(|(form, _)| form.as_slice() <= tail);
            self.patterns.get(next).is_some_and(|(form, _)| form.starts_with(tail))
        };
        (earliest..bytes.len()).find(continues).unwrap_or(bytes.len())
    }
}

fn widen(bytes: &[u8], found: Range<usize>, bleed: Bleed) -> Range<usize> {
    let is_digit = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte));
    let left = usize::from(bleed.left > 0 && found.start > 0 && is_digit(found.start - 1));
    let right = usize::from(bleed.right > 0 && is_digit(found.end));
    found.start - left..found.end + right
}

/// In clear, in JSON (also inside JSON, in ASCII, with escaped slashes), in URLs (both ways to write a space), in
/// hexadecimal digits, in base64.
pub(super) fn as_written(secret: &str, into: &mut Collected) {
    let json = json_escaped(secret);
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let percent = percent_encoded(secret);
    let texts = [
        json_escaped(&json),
        json.replace('/', r"\/"),
        ascii_escaped(&json),
        lower_hex(&form),
        lower_hex(&percent),
        form,
        percent,
        json,
        secret.to_owned(),
    ];
    into.extend(texts.map(|text| (text.into_bytes(), Bleed::default())));
    add_hex(secret, into);
    for engine in [&BASE64_STANDARD, &BASE64_URL_SAFE] {
        into.insert(engine.encode(secret).into_bytes(), Bleed::default());
        for bytes in [secret.as_bytes(), &wide(secret)] {
            add_base64(engine, bytes, into);
        }
    }
}

/// What is left of a secret when a text is read without its escapes ([`escapes::read`]).
pub(super) fn as_read(secret: &str, shortest: usize, into: &mut Collected) {
    // As a tool leaves it that escapes nothing of what looks like an escape, and as one that escapes all of it.
    let both = |indent| [escapes::read(secret, indent).plain(), escapes::read_literally(secret, indent).plain()];
    let mut forms: Vec<Vec<u8>> = Indent::ALL.into_iter().flat_map(both).collect();
    let latin: Vec<Vec<u8>> = forms.iter().filter_map(|form| as_latin(form)).collect();
    forms.extend(latin);
    forms.retain(|form| form.len() >= shortest);
    into.extend(forms.into_iter().map(|form| (form, Bleed::default())));
    add_hex(secret, into);
}

/// Python's `ascii` and C write characters up to U+00FF as one `\xNN`; `None`: nothing is different then.
fn as_latin(form: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(form).ok().filter(|text| !text.is_ascii())?;
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// Base64 in the standard alphabet, of UTF-8 and of UTF-16.
pub(super) fn as_base64(secret: &str, into: &mut Collected) {
    for bytes in [secret.as_bytes(), &wide(secret)] {
        add_base64(&BASE64_STANDARD, bytes, into);
    }
}

fn wide(secret: &str) -> Vec<u8> {
    secret.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn add_hex(secret: &str, into: &mut Collected) {
    let lower = super::hex(secret.as_bytes());
    into.insert(lower.to_ascii_uppercase().into_bytes(), Bleed::default());
    into.insert(lower.into_bytes(), Bleed::default());
}

/// The digits that the secret alone decides, for each of the three places where it can begin within a group of three
/// bytes.
fn add_base64(engine: &GeneralPurpose, secret: &[u8], into: &mut Collected) {
    for offset in 0..3 {
        let (core, bleed) = base64_core(engine, secret, offset);
        into.entry(core.into_bytes()).or_insert(bleed);
    }
}

fn base64_core(engine: &GeneralPurpose, secret: &[u8], offset: usize) -> (String, Bleed) {
    const DIGITS_TOUCHED_BY_OFFSET: [usize; 3] = [0, 2, 3];
    let padded = [&[0_u8; 2].as_slice()[..offset], secret].concat();
    let whole_digits = padded.len() * 8 / 6;
    let touched = DIGITS_TOUCHED_BY_OFFSET[offset];
    let core = engine.encode(&padded).chars().take(whole_digits).skip(touched).collect();
    (core, Bleed { left: usize::from(offset > 0), right: usize::from(!padded.len().is_multiple_of(3)) })
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
