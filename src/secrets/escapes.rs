//! A text read without what tools put into it when they quote, escape or wrap: backslashes and what they stand for,
//! quotes, percent and HTML encoding, line breaks. Secrets are read in the same way, so that any mixture of these is the
//! same as the secret alone. What is read is only searched, never shown: that it is lossy does no harm.

use std::ops::Range;

/// Bytes that were read from a text, each with where it stood.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Reading {
    pub(super) fn push(&mut self, byte: u8, place: Range<usize>) {
        self.bytes.push(byte);
        self.places.push(place);
    }

    /// What something decoded stands for, unless it is one of the bytes that are left out.
    fn push_decoded(&mut self, byte: u8, place: Range<usize>) {
        if !is_left_out(byte) {
            self.push(byte, place);
        }
    }

    fn push_char(&mut self, c: char, place: &Range<usize>) {
        let mut bytes = [0; 4];
        for byte in c.encode_utf8(&mut bytes).bytes() {
            self.push_decoded(byte, place.clone());
        }
    }

    /// Where a part of what was read stands in the text.
    pub(super) fn place_of(&self, part: &Range<usize>) -> Range<usize> {
        let start = self.places.get(part.start).map_or(0, |place| place.start);
        let end = part.end.checked_sub(1).and_then(|last| self.places.get(last)).map_or(start, |place| place.end);
        start..end
    }

    /// Where what was read from `at` on stands.
    pub(super) fn start_of(&self, at: usize) -> Option<usize> {
        self.places.get(at).map(|place| place.start)
    }

    /// For secrets in clear: forms write a space as `+`.
    pub(super) fn plain(&self) -> Vec<u8> {
        self.bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
    }

    /// For secrets in base64, in the standard alphabet.
    pub(super) fn base64(&self) -> Vec<u8> {
        let standard = |byte: &u8| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        };
        self.bytes.iter().map(standard).collect()
    }
}

const fn is_left_out(byte: u8) -> bool {
    matches!(byte, b'\\' | b'\'' | b'"' | b'\n' | b'\r' | 0)
}

/// Would reading change anything at all? Most texts have no need of it.
pub(super) fn has_any(text: &str) -> bool {
    text.bytes().any(|byte| is_left_out(byte) || matches!(byte, b'%' | b'&' | b'+' | b'-' | b'_'))
}

/// Reads a text.
pub(super) fn read(text: &str, indent: Indent) -> Reading {
    let bytes = text.as_bytes();
    let mut reading = Reading::default();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'\\' => read_backslashes(bytes, at, indent, &mut reading),
            b'%' => read_percent(bytes, at, &mut reading),
            b'&' => read_entity(text, at, &mut reading),
            b'\n' | b'\r' => indent.end(bytes, at + 1),
            byte if is_left_out(*byte) => at + 1,
            byte => {
                reading.push(*byte, at..at + 1);
                at + 1
            }
        };
    }
    reading
}

/// Reads a text in which nothing is an escape: what becomes of a secret of which everything was escaped.
pub(super) fn read_literally(text: &str, indent: Indent) -> Reading {
    let bytes = text.as_bytes();
    let mut reading = Reading::default();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let end = if matches!(byte, b'\n' | b'\r') { indent.end(bytes, at + 1) } else { at + 1 };
        reading.push_decoded(*byte, at..end);
        at = end;
    }
    reading
}

/// What the blanks at the beginning of a line are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indent {
    /// Put there by whoever wrapped the text.
    LeftOut,
    /// Part of the text.
    Kept,
}

impl Indent {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::LeftOut, Self::Kept];

    fn end(self, bytes: &[u8], mut at: usize) -> usize {
        while self == Self::LeftOut && matches!(bytes.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        at
    }
}

/// However often something was escaped, it is one escape.
fn read_backslashes(bytes: &[u8], start: usize, indent: Indent, reading: &mut Reading) -> usize {
    let mut at = start;
    while bytes.get(at) == Some(&b'\\') {
        at += 1;
    }
    match bytes.get(at) {
        Some(b'x') => read_code(bytes, start, at + 1, 2, reading),
        Some(b'u') => read_unicode(bytes, start, at + 1, 4, reading),
        Some(b'U') => read_unicode(bytes, start, at + 1, 8, reading),
        Some(b'0'..=b'7') => read_octal(bytes, start, at, reading),
        Some(b'n' | b'r') => indent.end(bytes, at + 1),
        Some(letter @ (b't' | b'a' | b'b' | b'f' | b'v' | b'e' | b'E')) => {
            reading.push_decoded(control(*letter), start..at + 1);
            at + 1
        }
        _ => at,
    }
}

const fn control(letter: u8) -> u8 {
    match letter {
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        _ => 27,
    }
}

fn digits(bytes: &[u8], at: usize, most: usize, radix: u32) -> (u32, usize) {
    let (mut value, mut count) = (0_u32, 0);
    while count < most
        && let Some(digit) = bytes.get(at + count).and_then(|byte| char::from(*byte).to_digit(radix))
    {
        value = value.wrapping_mul(radix).wrapping_add(digit);
        count += 1;
    }
    (value, count)
}

fn read_code(bytes: &[u8], start: usize, at: usize, most: usize, reading: &mut Reading) -> usize {
    let (value, count) = digits(bytes, at, most, 16);
    match u8::try_from(value) {
        Ok(byte) if count > 0 => {
            reading.push_decoded(byte, start..at + count);
            at + count
        }
        _ => at - 1,
    }
}

fn read_octal(bytes: &[u8], start: usize, at: usize, reading: &mut Reading) -> usize {
    let (value, count) = digits(bytes, at, 3, 8);
    let byte = u8::try_from(value & 0xff).unwrap_or_default();
    reading.push_decoded(byte, start..at + count);
    at + count
}

fn read_unicode(bytes: &[u8], start: usize, at: usize, length: usize, reading: &mut Reading) -> usize {
    let braced = bytes.get(at) == Some(&b'{');
    let from = at + usize::from(braced);
    let (value, count) = digits(bytes, from, if braced { 6 } else { length }, 16);
    if count == 0 || (!braced && count < length) {
        return at - 1;
    }
    let mut end = from + count + usize::from(braced);
    let mut value = value;
    if (0xd800..0xdc00).contains(&value)
        && let Some((low, low_end)) = low_surrogate(bytes, end)
    {
        value = 0x1_0000 + ((value - 0xd800) << 10) + (low - 0xdc00);
        end = low_end;
    }
    if let Some(c) = char::from_u32(value) {
        reading.push_char(c, &(start..end));
    }
    end
}

fn low_surrogate(bytes: &[u8], mut at: usize) -> Option<(u32, usize)> {
    let start = at;
    while bytes.get(at) == Some(&b'\\') {
        at += 1;
    }
    let is_escape = at > start && bytes.get(at) == Some(&b'u');
    let (value, count) = digits(bytes, at + 1, 4, 16);
    (is_escape && count == 4 && (0xdc00..0xe000).contains(&value)).then_some((value, at + 5))
}

fn read_percent(bytes: &[u8], at: usize, reading: &mut Reading) -> usize {
    let (value, count) = digits(bytes, at + 1, 2, 16);
    if count == 2 {
        reading.push_decoded(u8::try_from(value).unwrap_or_default(), at..at + 3);
        return at + 3;
    }
    reading.push(b'%', at..at + 1);
    at + 1
}

/// Longer entities stand for nothing that a secret is likely to hold.
const LONGEST_ENTITY: usize = 10;

fn read_entity(text: &str, at: usize, reading: &mut Reading) -> usize {
    let window = text.as_bytes().get(at + 1..(at + LONGEST_ENTITY).min(text.len())).unwrap_or_default();
    let end = window.iter().position(|byte| *byte == b';');
    let decoded = end.and_then(|end| Some((entity(text.get(at + 1..at + 1 + end)?)?, at + 2 + end)));
    if let Some((c, end)) = decoded {
        reading.push_char(c, &(at..end));
        return end;
    }
    reading.push(b'&', at..at + 1);
    at + 1
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        "sol" => Some('/'),
        "equals" => Some('='),
        "plus" => Some('+'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// Where an escape begins that the end of the text cuts off; the end if there is none.
pub(super) fn cut_off_from(text: &str) -> usize {
    let bytes = text.as_bytes();
    let earliest = bytes.len().saturating_sub(2 * LONGEST_ENTITY);
    let is_cut = |at: &usize| {
        let rest = bytes.get(*at + 1..).unwrap_or_default();
        match bytes.get(*at) {
            Some(b'%') => rest.len() < 2 && rest.iter().all(u8::is_ascii_hexdigit),
            Some(b'&') => {
                rest.len() < LONGEST_ENTITY && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#')
            }
            Some(b'\\') => is_cut_escape(rest),
            _ => false,
        }
    };
    (earliest..bytes.len()).find(is_cut).unwrap_or(bytes.len())
}

fn is_cut_escape(rest: &[u8]) -> bool {
    let slashes = rest.iter().take_while(|byte| **byte == b'\\').count();
    match rest.get(slashes..).unwrap_or_default() {
        [] => true,
        [b'x', digits @ ..] => digits.len() < 2 && digits.iter().all(u8::is_ascii_hexdigit),
        // Half of a pair may follow.
        [b'u', digits @ ..] => {
            digits.len() < 10 && digits.iter().all(|byte| byte.is_ascii_hexdigit() || b"\\u{".contains(byte))
        }
        [b'U', digits @ ..] => digits.len() < 8 && digits.iter().all(u8::is_ascii_hexdigit),
        digits @ [b'0'..=b'7', ..] => digits.len() < 3 && digits.iter().all(|byte| (b'0'..=b'7').contains(byte)),
        _ => false,
    }
}
