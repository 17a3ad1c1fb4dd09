//! Text as Slack writes it: `&`, `<` and `>` are marks there. What is data stays data in both directions, so an alert
//! can neither ring for a whole channel nor be cut by Slack.

use crate::model::printable::without_commands;

/// Slack advises messages of at most 4,000 characters, and what is escaped grows.
const LONGEST_PART: usize = 3000;
/// Nobody reads more, and Slack takes about one message a second.
const MOST_PARTS: usize = 8;

/// A message in as many parts as it takes, each as it is sent.
pub(super) fn parts(message: &str) -> Vec<String> {
    let clean = without_commands(message);
    let mut rest = clean.trim_end();
    let mut parts = Vec::new();
    while !rest.trim().is_empty() {
        if parts.len() == MOST_PARTS {
            parts.push("… (the rest is left out)".to_owned());
            break;
        }
        let (part, tail) = rest.split_at(end_of_part(rest));
        parts.push(escape(part.trim_end()));
        rest = tail.trim_start_matches('\n');
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// After the last line that is whole, if there is one.
fn end_of_part(text: &str) -> usize {
    let Some((limit, _)) = text.char_indices().nth(LONGEST_PART) else {
        return text.len();
    };
    text.get(..limit).and_then(|head| head.rfind('\n')).filter(|end| *end > 0).unwrap_or(limit)
}

/// What would be a mention, a link or an order to ring for everybody is shown as it is written.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What a member has typed: links that Slack has made of words become words again, quotes straight.
pub(super) fn typed(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, marked)) = rest.split_once('<') {
        plain.push_str(before);
        let Some((inside, after)) = marked.split_once('>') else {
            plain.push('<');
            rest = marked;
            continue;
        };
        push_marked(&mut plain, inside);
        rest = after;
    }
    plain.push_str(rest);
    let straight = plain.replace(['\u{201c}', '\u{201d}'], "\"").replace(['\u{2018}', '\u{2019}'], "'");
    // `&amp;` comes last: what it stood before was typed and is no mark.
    straight.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// `<https://example.org|example.org>` was typed `example.org`; `<#C1|ops>` was `#ops`. Mentions stay.
fn push_marked(plain: &mut String, inside: &str) {
    let label = inside.split_once('|').map(|(_, label)| label).filter(|label| !label.is_empty());
    match inside.chars().next() {
        Some('@' | '!') => plain.extend(["<", inside, ">"]),
        Some('#') => plain.extend(["#", label.unwrap_or_else(|| inside.trim_start_matches('#'))]),
        _ => plain.push_str(label.unwrap_or(inside)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_ring_for_a_channel_or_mention_anybody() {
        let said = parts("<!channel> <@U0ANN> a & b\u{7}\r\n&lt;!here&gt;");
        assert_eq!(said, ["&lt;!channel&gt; &lt;@U0ANN&gt; a &amp; b\n&amp;lt;!here&amp;gt;"]);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(parts(" \n\u{0}\n"), Vec::<String>::new());
    }

    #[test]
    fn long_texts_come_in_parts_that_end_with_lines_where_they_can_and_end_somewhere() {
        let lines = "a line of text\n".repeat(300);
        let said = parts(&lines);
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(|part| part.ends_with("text") && part.chars().count() <= LONGEST_PART), "{said:?}");
        assert_eq!(said.join("\n"), lines.trim_end());
        let letters = parts(&"ä<".repeat(2000));
        assert_eq!(letters.iter().map(|part| part.matches('ä').count()).sum::<usize>(), 2000);
        let endless = parts(&"x".repeat(100_000));
        assert_eq!((endless.len(), endless.last().unwrap().as_str()), (9, "… (the rest is left out)"));
    }

    #[test]
    fn what_slack_has_made_of_words_is_what_was_typed() {
        for (text, meant) in [
            ("!asg create domain=<http://example.org|example.org>", "!asg create domain=example.org"),
            ("see <https://example.org/a?b=1&amp;c=2>", "see https://example.org/a?b=1&c=2"),
            ("in <#C0123|ops> by <mailto:a@b.c|a@b.c>", "in #ops by a@b.c"),
            ("<@U0PETREL> say \u{201c}two words\u{201d}", "<@U0PETREL> say \"two words\""),
            ("1 &lt; 2 &amp;amp; 3", "1 < 2 &amp; 3"),
            ("open < and end", "open < and end"),
        ] {
            assert_eq!(typed(text), meant, "{text}");
        }
    }
}
