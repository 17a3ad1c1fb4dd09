//! Text from outside as it may be shown to people: characters that command a terminal, begin a line that nobody wrote, or
//! turn the order of letters around are written out instead of sent. Every place that prints, logs or chats uses this.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Does this character do something instead of showing itself?
pub const fn is_command(letter: char) -> bool {
    // C0, DEL, C1; then marks and overrides of direction, and separators of lines that some viewers break at.
    letter.is_ascii_control()
        || matches!(letter, '\u{80}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// One line: nothing in it ends a line, commands a terminal or turns letters around.
pub fn escape_line(text: &str) -> Cow<'_, str> {
    escape(text, is_command)
}

/// Text of several lines: line feeds and tabs stay, and ends of lines as Windows writes them become line feeds.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    let command = |letter| is_command(letter) && !matches!(letter, '\n' | '\t');
    if text.contains("\r\n") {
        return Cow::Owned(escape(&text.replace("\r\n", "\n"), command).into_owned());
    }
    escape(text, command)
}

/// The text without them: for chat, where nobody reads escapes.
pub fn without_commands(text: &str) -> String {
    text.chars().filter(|letter| !is_command(*letter) || matches!(letter, '\n' | '\t')).collect()
}

/// JSON that shows nothing but itself: what JSON leaves as it is in its texts is escaped there as well.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // Outside of texts JSON has no other control characters than these.
    let needs_escape = |letter| is_command(letter) && !matches!(letter, '\n' | '\t' | '\r');
    if !json.contains(needs_escape) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if needs_escape(letter) {
            // None of them lies beyond the characters that one unit of UTF-16 holds.
            write!(escaped, "\\u{:04x}", u32::from(letter)).expect("writing to a string cannot fail");
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

fn escape(text: &str, is_command: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_command(letter) {
            escaped.extend(letter.escape_default());
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_commands_a_terminal_is_written_out() {
        let bad = "\u{1b}]0;PWNED\u{7}\u{1b}[31mx\n2026 ERROR forged\r\u{9b}2J\u{202e}\u{2028}\u{7f}ä\t🦀";
        assert_eq!(
            escape_line(bad),
            r"\u{1b}]0;PWNED\u{7}\u{1b}[31mx\n2026 ERROR forged\r\u{9b}2J\u{202e}\u{2028}\u{7f}ä\t🦀"
        );
        assert_eq!(escape_text("one\r\n\ttwo\r\u{1b}c"), "one\n\ttwo\\r\\u{1b}c");
        assert_eq!(without_commands("a\r\nb\u{1b}[1m\u{202e}c"), "a\nb[1mc");
        assert!(matches!(escape_line("nothing to do: ü"), Cow::Borrowed(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn no_text_commands_anything_once_it_is_escaped(text in "(?s)[\u{0}-\u{ff}\u{600}-\u{620}\u{2000}-\u{2070}\u{feff}a🦀]{0,60}") {
            let line = escape_line(&text);
            prop_assert!(!line.contains(is_command));
            let lines = escape_text(&text);
            prop_assert!(lines.chars().all(|letter| !is_command(letter) || matches!(letter, '\n' | '\t')));
            prop_assert_eq!(escape_line(&line), &*line, "escaping twice changes nothing");
            let value = json!({ text.as_str(): [text.as_str()] });
            let printed = value.to_string();
            let escaped = escape_json(&printed);
            prop_assert!(!escaped.contains(is_command));
            prop_assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value, "it is the same JSON");
        }
    }
}
