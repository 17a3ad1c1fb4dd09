//! Changes to a text that was good: pieces are repeated, lost, exchanged, and strange characters come in.

use crate::random::Random;

const STRANGE: [&str; 24] = [
    "\0",
    "\u{1b}[31m",
    "\r\n",
    "\u{202e}",
    "\u{feff}",
    "\u{1f980}",
    "99999999999999999999",
    "-1",
    "{{",
    "}}",
    "{%",
    "%}",
    "'",
    "\"",
    "\\",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "&a ",
    "*a",
    "\t",
];

/// A text never grows beyond what the doors take.
const LONGEST: usize = 1 << 20;

/// The text after one to four changes.
pub fn mutate(text: &str, others: &[&str], random: &mut Random) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        change(&mut text, others, random);
    }
    text.into_iter().collect()
}

fn change(text: &mut Vec<char>, others: &[&str], random: &mut Random) {
    let piece = piece_of(text.len(), random);
    match random.below(5) {
        0 => {
            let repeated: Vec<char> = text[piece.clone()].to_vec();
            let fitting = (LONGEST / repeated.len().max(1)).max(2);
            let times = random.repetitions(fitting.min(50_000));
            text.splice(piece, repeated.repeat(times));
        }
        1 => drop(text.drain(piece)),
        2 => drop(text.splice(piece, random.pick(&STRANGE).chars())),
        3 => {
            let other: Vec<char> = random.pick(others).chars().collect();
            let taken = piece_of(other.len(), random);
            text.splice(piece, other[taken].to_vec());
        }
        _ => drop(text.splice(piece.start..piece.start, random.pick(&STRANGE).chars())),
    }
    text.truncate(LONGEST);
}

fn piece_of(length: usize, random: &mut Random) -> std::ops::Range<usize> {
    let start = random.below(length + 1);
    let size = random.repetitions(64).min(length - start);
    start..start + size
}
