//! Regular expressions in Python's dialect, with a limit on backtracking.

use fancy_regex::{Regex, RegexBuilder};

/// Steps back one match may take: enough for honest patterns, a few milliseconds for malicious ones.
const BACKTRACK_LIMIT: usize = 100_000;

/// How a pattern is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// Anywhere in the text, as `re.search`.
    Search,
    /// Anywhere, letters alike in both cases.
    SearchIgnoringCase,
    /// At the beginning of the text, as `re.match`.
    Start,
    /// At the beginning, letters alike in both cases.
    StartIgnoringCase,
    /// At the beginning, and `.` matches line ends too.
    StartDotAll,
}

/// Compiles a Python pattern.
pub fn compile(pattern: &str, matching: Matching) -> Result<Regex, String> {
    let translated = translate(pattern);
    let anchored = match matching {
        Matching::Search | Matching::SearchIgnoringCase => translated,
        Matching::Start | Matching::StartIgnoringCase | Matching::StartDotAll => {
            format!(r"\A(?:{translated})")
        }
    };
    RegexBuilder::new(&anchored)
        .case_insensitive(matches!(matching, Matching::SearchIgnoringCase | Matching::StartIgnoringCase))
        .dot_matches_new_line(matching == Matching::StartDotAll)
        .backtrack_limit(BACKTRACK_LIMIT)
        .build()
        .map_err(|error| format!("`{pattern}` is not a regular expression: {error}"))
}

/// Whether `text` matches.
pub fn is_match(regex: &Regex, text: &str) -> Result<bool, String> {
    regex.is_match(text).map_err(|error| format!("the regular expression `{}` gave up: {error}", regex.as_str()))
}

/// Two things mean something else in Python: `$` also matches before a line end that ends the text,
/// and `\Z` only at the very end.
fn translate(pattern: &str) -> String {
    if pattern.contains("(?m") {
        return pattern.to_owned();
    }
    let mut translated = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('Z') if !in_class => translated.push_str(r"\z"),
                escaped => translated.extend(std::iter::once('\\').chain(escaped)),
            },
            '$' if !in_class => translated.push_str(r"(?=\n?\z)"),
            _ => {
                in_class = (in_class || character == '[') && character != ']';
                translated.push(character);
            }
        }
    }
    translated
}
