//! Regular expressions in Python's dialect, with limits on backtracking and on the memory that a match takes.

use fancy_regex::{Regex, RegexBuilder};

/// Steps back one match may take: enough for honest patterns, a few milliseconds for malicious ones.
const BACKTRACK_LIMIT: usize = 100_000;

/// Longer patterns are refused before they are parsed.
const LONGEST_PATTERN_BYTES: usize = 16 << 10;

/// What one search may take. For every state of the automaton the engine keeps two positions of each group, 8 bytes
/// each; a state has some 32 bytes itself.
const SEARCH_BYTES: usize = 32 << 20;

/// The compiled automaton of a pattern without groups; `\w{1,64}` takes a quarter of it.
const MOST_AUTOMATON_BYTES: usize = 8 << 20;

/// The cache of a search that asks for no groups.
const CACHE_BYTES: usize = 2 << 20;

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
    let refused = |why: String| Err(format!("`{}` is not a regular expression: {why}", shortened(pattern)));
    if pattern.len() > LONGEST_PATTERN_BYTES {
        return refused(format!("it is longer than {LONGEST_PATTERN_BYTES} bytes"));
    }
    let translated = translate(pattern);
    let anchored = match matching {
        Matching::Search | Matching::SearchIgnoringCase => translated,
        Matching::Start | Matching::StartIgnoringCase | Matching::StartDotAll => {
            format!(r"\A(?:{translated})")
        }
    };
    // Escaped parentheses count as well: an upper bound is enough.
    let automaton_bytes = automaton_limit(pattern.matches('(').count());
    let built = RegexBuilder::new(&anchored)
        .case_insensitive(matches!(matching, Matching::SearchIgnoringCase | Matching::StartIgnoringCase))
        .dot_matches_new_line(matching == Matching::StartDotAll)
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(automaton_bytes)
        .delegate_dfa_size_limit(CACHE_BYTES)
        .build();
    built.or_else(|error| refused(format!("{error} (compiled, it may take {automaton_bytes} bytes)")))
}

/// The limit for the automaton of a pattern with this many groups.
fn automaton_limit(groups: usize) -> usize {
    (2 * SEARCH_BYTES / (groups + 1)).min(MOST_AUTOMATON_BYTES)
}

/// The beginning of a pattern, as far as a message has room for it.
fn shortened(pattern: &str) -> String {
    const MOST_CHARACTERS: usize = 200;
    let mut text: String = pattern.chars().take(MOST_CHARACTERS).collect();
    if pattern.chars().nth(MOST_CHARACTERS).is_some() {
        text.push('…');
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_whose_match_would_take_much_memory_is_refused() {
        let refusal = |pattern: &str| compile(pattern, Matching::Search).unwrap_err();
        assert!(refusal(&r"(\w)".repeat(1_000)).contains("it may take 67041 bytes"), "groups");
        assert!(refusal("(?:a{1000}){1000}").contains("it may take 8388608 bytes"), "states");
        assert!(refusal(&"a".repeat(20_000)).contains("longer than 16384 bytes"), "length");
        assert!(refusal(&"(".repeat(10_000)).len() < 1_000, "the message does not repeat all of it");
    }

    #[test]
    fn patterns_of_real_packs_stay_within_the_limits() {
        for pattern in [
            r"\w{1,64}(-\w+){2}\.example\.org",
            r"(?i)^(prod|staging)-[\w.]{1,253}$",
            r"(?P<host>\S+) (?P<level>\w+)",
            &"(a+) ".repeat(100),
        ] {
            compile(pattern, Matching::Start).unwrap();
        }
    }
}
