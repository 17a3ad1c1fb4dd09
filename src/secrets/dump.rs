//! Texts that show bytes as numbers or one by one, as `od`, `xxd` and `hexdump` print them: read back into bytes in each
//! way in which they can be meant. Only searched, never shown.

use std::ops::Range;

use super::escapes::Reading;

/// Between bytes that do not follow each other; no secret holds it, because secrets are UTF-8.
const BREAK: u8 = 0xff;

/// What a text may mean as a dump.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// One for each way to read it.
    pub(super) readings: Vec<Reading>,
    /// Where the same bytes stand beside the numbers as characters.
    columns: Vec<Range<usize>>,
}

/// A number as it stands in the text; `None`: something else.
type Word<'t> = (Option<&'t str>, Range<usize>);

impl Dump {
    /// Reads a text in every way.
    pub(super) fn read(text: &str) -> Self {
        let mut dump = Self::default();
        let mut words = Vec::new();
        let mut cells = Reading::default();
        for (start, line) in lines(text) {
            dump.columns.extend(read_line(line, start, &mut words));
            read_cells(line, start, &mut cells);
        }
        if words.iter().any(|(number, _)| number.is_some()) {
            dump.readings.extend(WAYS.iter().map(|way| read_words(&words, *way)));
        }
        if cells.bytes.iter().any(|byte| *byte != BREAK) {
            dump.readings.push(cells);
        }
        dump
    }

    /// With the column of characters that stands behind the numbers in the same line.
    pub(super) fn with_column(&self, text: &str, found: Range<usize>) -> Range<usize> {
        let at = self.columns.partition_point(|column| column.start < found.end);
        let Some(column) = self.columns.get(at) else { return found };
        let between = text.get(found.end..column.start).unwrap_or("\n");
        if between.contains('\n') { found } else { found.start..column.end }
    }
}

/// Where something begins that may go on as a dump: a last line that is not complete, or a last number of one; the end
/// if there is neither.
pub(super) fn cut_off_from(text: &str) -> usize {
    let start = text.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_hexdigit() || b":x,".contains(&byte));
    let numbers = words.iter().filter(|word| is_number(word)).count();
    let single = words.len() > 1 && words.iter().all(|word| word.len() <= 3);
    if !line.is_empty() && (numbers * 2 > words.len() || single) {
        return start;
    }
    let word = line.rsplit(is_separator).next().unwrap_or_default();
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'x');
    if is_number { text.len() - word.len() } else { text.len() }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line.trim_end_matches(['\n', '\r']))
    })
}

/// Adds the words of a line; gives back where its characters stand, if it has them.
fn read_line<'t>(line: &'t str, start: usize, words: &mut Vec<Word<'t>>) -> Option<Range<usize>> {
    let (offset, named_by_colon) = offset_of(line);
    let body = line.get(offset..).unwrap_or_default();
    let column = match body.find("  |") {
        Some(at) => Some(at),
        None if named_by_colon => body.trim_start().find("  ").map(|at| at + body.len() - body.trim_start().len()),
        None => None,
    };
    let numbers = column.and_then(|at| body.get(..at)).unwrap_or(body);
    let mut at = 0;
    for piece in numbers.split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        let from = start + offset + at;
        at += piece.len();
        if word.is_empty() {
            continue;
        }
        let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
        let number = (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits);
        words.push((number, from..from + word.len()));
    }
    column.map(|at| start + offset + at..start + line.len())
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || ",;:-[](){}".contains(c)
}

/// How many bytes of a line tell where its numbers belong, and whether a colon ends them.
fn offset_of(line: &str) -> (usize, bool) {
    let first = line.split([' ', '\t']).next().unwrap_or_default();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(number) = first.strip_suffix(':').filter(|number| number.len() >= 4) {
        return if is_number(number) { (first.len(), true) } else { (0, false) };
    }
    let second = line.get(first.len()..).and_then(|rest| rest.split_whitespace().next());
    let is_offset = (6..=8).contains(&first.len()) && second.is_none_or(|second| second.len() < first.len());
    if is_offset && is_number(first) { (first.len(), false) } else { (0, false) }
}

/// A way to take a number for bytes.
type Way = fn(&str) -> Option<Vec<u8>>;

const WAYS: [Way; 7] = [
    hex_in_order,
    |w| hex_reversed(w, 4),
    |w| hex_reversed(w, 8),
    |w| hex_reversed(w, 16),
    octal_byte,
    octal_pair,
    decimal,
];

fn read_words(words: &[Word<'_>], way: Way) -> Reading {
    let mut reading = Reading::default();
    for (number, place) in words {
        match number.and_then(way) {
            // Zeroes are what UTF-16 has between its letters, and what fills up the last number.
            Some(bytes) => {
                bytes.iter().filter(|byte| **byte != 0).for_each(|byte| reading.push(*byte, place.clone()));
            }
            None => reading.push(BREAK, place.clone()),
        }
    }
    reading
}

fn hex_in_order(word: &str) -> Option<Vec<u8>> {
    if !word.len().is_multiple_of(2) {
        return None;
    }
    (0..word.len()).step_by(2).map(|at| u8::from_str_radix(word.get(at..at + 2)?, 16).ok()).collect()
}

fn hex_reversed(word: &str, length: usize) -> Option<Vec<u8>> {
    let mut bytes = hex_in_order(word).filter(|_| word.len() == length)?;
    bytes.reverse();
    Some(bytes)
}

fn octal_byte(word: &str) -> Option<Vec<u8>> {
    u8::from_str_radix(word, 8).ok().filter(|_| word.len() == 3).map(|byte| vec![byte])
}

fn octal_pair(word: &str) -> Option<Vec<u8>> {
    u16::from_str_radix(word, 8).ok().filter(|_| word.len() == 6).map(|pair| pair.to_le_bytes().to_vec())
}

fn decimal(word: &str) -> Option<Vec<u8>> {
    word.parse().ok().filter(|_| word.len() <= 3).map(|byte| vec![byte])
}

/// Bytes one by one in columns of four, as `od -c` prints them.
fn read_cells(line: &str, start: usize, reading: &mut Reading) {
    const CELL: usize = 4;
    let has_offset = line.len() >= 7 && line.bytes().take(7).all(|byte| (b'0'..=b'7').contains(&byte));
    let offset = if has_offset { 7 } else { 0 };
    let body = line.as_bytes().get(offset..).unwrap_or_default();
    if body.is_empty() {
        return;
    }
    let cells: Option<Vec<u8>> = body.chunks(CELL).map(|cell| cell_byte(cell, CELL)).collect();
    match cells {
        Some(bytes) => {
            for (number, byte) in bytes.into_iter().enumerate() {
                let at = start + offset + number * CELL;
                reading.push(byte, at..at + CELL);
            }
        }
        None => reading.push(BREAK, start..start + line.len()),
    }
}

fn cell_byte(cell: &[u8], length: usize) -> Option<u8> {
    let (b' ', shown) = cell.split_first().filter(|_| cell.len() == length)? else { return None };
    match shown.trim_ascii() {
        [] => Some(b' '),
        [byte] => Some(*byte),
        [b'\\', letter] => Some(match letter {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'0' => 0,
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            other => *other,
        }),
        digits => u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok(),
    }
}
