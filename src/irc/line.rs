//! Lines of the protocol (RFC 2812), as far as a bot needs them.

use crate::model::printable::is_command;

/// The protocol's lines end after 512 bytes, with the sender that the server puts before them.
const MOST_TEXT_BYTES: usize = 400;

/// A line that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The nickname or the server that it is from.
    pub(super) from: String,
    /// As `PRIVMSG`, `PING`, `001`.
    pub(super) command: String,
    /// The last of them may hold blanks.
    pub(super) parameters: Vec<String>,
}

impl Line {
    /// Reads a line without its end; `None` if nothing is in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\r', '\n']);
        let text = match text.strip_prefix('@') {
            Some(tagged) => tagged.split_once(' ')?.1,
            None => text,
        };
        let (from, text) = match text.strip_prefix(':') {
            Some(rest) => rest.split_once(' ')?,
            None => ("", text),
        };
        let (words, trailing) = match text.split_once(" :") {
            Some((words, trailing)) => (words, Some(trailing)),
            None => (text, None),
        };
        let mut words = words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
        let command = words.next()?.to_uppercase();
        let parameters = words.chain(trailing.map(str::to_owned)).collect();
        let nick = from.split(['!', '@']).next().unwrap_or_default();
        Some(Self { from: nick.to_owned(), command, parameters })
    }

    /// One of its parameters; empty if it has fewer.
    pub(super) fn parameter(&self, number: usize) -> &str {
        self.parameters.get(number).map(String::as_str).unwrap_or_default()
    }
}

/// A message in as many lines as it takes. What would end a line, and so begin a command, is left out.
pub(super) fn say(to: &str, message: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for part in message.lines() {
        let mut rest: String = part.chars().filter(|letter| !is_command(*letter)).collect();
        while !rest.trim().is_empty() {
            let end = rest.floor_char_boundary(MOST_TEXT_BYTES);
            let tail = rest.split_off(end);
            lines.push(whole(&format!("PRIVMSG {to} :{rest}")));
            rest = tail;
        }
    }
    lines
}

/// One line of the protocol, whatever it was made of: nothing in it ends it.
pub(super) fn whole(line: &str) -> String {
    line.replace(['\r', '\n', '\0'], "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> (String, String, Vec<String>) {
        let Line { from, command, parameters } = Line::parse(text).unwrap();
        (from, command, parameters)
    }

    #[test]
    fn lines_are_taken_apart_as_servers_write_them() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (text, from, command, parameters) in [
            (":ann!~a@host PRIVMSG #ops :!asg list", "ann", "PRIVMSG", words(&["#ops", "!asg list"])),
            ("PING :irc.petrel.test\r", "", "PING", words(&["irc.petrel.test"])),
            (":irc.test 001 petrel :Welcome", "irc.test", "001", words(&["petrel", "Welcome"])),
            ("@time=x :bob NICK  rob", "bob", "NICK", words(&["rob"])),
            (":a PRIVMSG #x :", "a", "PRIVMSG", words(&["#x", ""])),
        ] {
            assert_eq!(line(text), (from.to_owned(), command.to_owned(), parameters), "{text}");
        }
        for nothing in ["", ":", ":ann", "@tags", "   "] {
            assert_eq!(Line::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn nothing_that_is_said_can_become_a_command() {
        assert_eq!(
            say("#ops", "one\r\nQUIT :bye\n\n\u{1}two"),
            ["PRIVMSG #ops :one", "PRIVMSG #ops :QUIT :bye", "PRIVMSG #ops :two"]
        );
        let long = say("#ops", &"ä".repeat(500));
        assert!(long.len() == 3 && long.iter().all(|line| line.len() <= 420), "{long:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn every_line_that_is_sent_is_one_message(to in "(?s)[#a\r\n\u{0}]{1,4}", message in "(?s)[\u{0}-\u{a0}\u{2020}-\u{2030}a:]{0,900}") {
            for line in say(&to, &message) {
                prop_assert!(line.starts_with("PRIVMSG ") && line.len() < 510, "{line:?}");
                prop_assert!(!line.contains(is_command), "{line:?}");
            }
        }
    }
}
