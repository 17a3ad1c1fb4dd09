//! Templates whose text a shell reads: the filter `quote`, which makes one word of any value, and the look for data that
//! reaches a command without it. The look reads a template as written and rather warns of too much than of too little.

use std::collections::BTreeSet;

use minijinja::{Error, ErrorKind, Value};

/// Filters whose result is one word for a shell, whatever they are given.
const SAFE_FILTERS: [&str; 7] = ["quote", "int", "float", "length", "count", "abs", "round"];
/// What makes a truth of what stands beside it.
const COMPARISONS: [&str; 9] = ["==", "!=", "<", ">", "<=", ">=", "is", "in", "not"];
/// What joins operands, each of which may be the result or a part of it.
const JOINTS: [&str; 8] = ["~", "+", "or", "and", "if", "else", ",", "%"];

/// The value as one word of a POSIX shell, as Python's `shlex.quote` and Ansible's filter of this name write it.
pub(super) fn quote(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let text = if value.is_none() { String::new() } else { value.to_string() };
    if text.contains('\0') {
        let reason = "quote: the value contains NUL, which no argument of a command can hold";
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Ok(text);
    }
    Ok(format!("'{}'", text.replace('\'', "'\"'\"'")))
}

/// The expressions of a template that put something of `names` into its text without quoting it, as written.
pub fn unquoted_data(template: &str, names: &[&str]) -> Vec<String> {
    let mut tainted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut found = Vec::new();
    for block in blocks(template) {
        match block {
            Block::Output(expression) if is_unsafe(&tokens(expression), &tainted) => {
                found.push(expression.trim().to_owned());
            }
            Block::Output(_) => {}
            Block::Statement(statement) => spread(&tokens(statement), &mut tainted),
        }
    }
    found
}

enum Block<'t> {
    Output(&'t str),
    Statement(&'t str),
}

/// What stands between the marks of a template, in order; comments and raw parts are left out.
fn blocks(template: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let after = rest.get(start..).unwrap_or_default();
        let (open, close) = match after.get(..2) {
            Some("{{") => ("{{", "}}"),
            Some("{%") => ("{%", "%}"),
            Some("{#") => ("{#", "#}"),
            _ => {
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
        };
        let body = after.get(2..).unwrap_or_default();
        let end = if open == "{#" { body.find(close) } else { end_of(body, close) };
        let end = end.unwrap_or(body.len());
        let inside = body.get(..end).unwrap_or_default().trim_matches(['-', '+']);
        rest = body.get(end + close.len()..).unwrap_or_default();
        match open {
            "{{" => blocks.push(Block::Output(inside)),
            "{%" if inside.trim() == "raw" => {
                rest = rest.find("endraw").and_then(|at| rest.get(at..)).unwrap_or_default();
            }
            "{%" => blocks.push(Block::Statement(inside)),
            _ => {}
        }
    }
    blocks
}

/// Where the mark stands that is not within a text.
fn end_of(body: &str, close: &str) -> Option<usize> {
    let mut quoted = None;
    let mut escaped = false;
    for (at, letter) in body.char_indices() {
        match quoted {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(mark) if letter == mark => quoted = None,
            None if matches!(letter, '"' | '\'') => quoted = Some(letter),
            None if body.get(at..).is_some_and(|rest| rest.starts_with(close)) => return Some(at),
            Some(_) | None => {}
        }
    }
    None
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name that is neither an attribute nor an argument's.
    Name(String),
    /// A name before `=`.
    Argument(String),
    /// A text without its quotes.
    Text(String),
    /// A number, the name of an attribute.
    Other,
    /// `|` and the name behind it.
    Filter(String),
    /// Anything else, and words that are operators.
    Mark(String),
}

const WORDS: [&str; 7] = ["or", "and", "not", "if", "else", "is", "in"];

fn tokens(expression: &str) -> Vec<Token> {
    let letters: Vec<char> = expression.chars().collect();
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        let run = |is: fn(char) -> bool| letters.iter().skip(at).take_while(|letter| is(**letter)).collect::<String>();
        let taken = if letter.is_whitespace() {
            1
        } else if matches!(letter, '"' | '\'') {
            let length = length_of_text(letters.get(at..).unwrap_or_default());
            tokens.push(Token::Text(letters.iter().skip(at + 1).take(length.saturating_sub(2)).collect()));
            length
        } else if letter.is_alphabetic() || letter == '_' {
            let word = run(|letter| letter.is_alphanumeric() || letter == '_');
            let taken = word.chars().count();
            push_word(&mut tokens, word, &letters, at + taken);
            taken
        } else if letter.is_ascii_digit() {
            tokens.push(Token::Other);
            run(char::is_alphanumeric).chars().count()
        } else {
            let mark = run(|letter| "=!<>".contains(letter));
            let mark = if mark.is_empty() { letter.to_string() } else { mark };
            let taken = mark.chars().count();
            tokens.push(Token::Mark(mark));
            taken
        };
        at += taken.max(1);
    }
    tokens
}

fn push_word(tokens: &mut Vec<Token>, word: String, letters: &[char], after: usize) {
    let token = match tokens.last() {
        Some(Token::Mark(mark)) if mark == "." => Token::Other,
        Some(Token::Mark(mark)) if mark == "|" => {
            tokens.pop();
            Token::Filter(word)
        }
        _ if WORDS.contains(&word.as_str()) => Token::Mark(word),
        _ if is_argument(letters, after) => Token::Argument(word),
        _ => Token::Name(word),
    };
    tokens.push(token);
}

/// `name=` before a value, but not `name ==`.
fn is_argument(letters: &[char], after: usize) -> bool {
    let mut rest = letters.iter().skip(after).skip_while(|letter| letter.is_whitespace());
    rest.next() == Some(&'=') && rest.next() != Some(&'=')
}

fn length_of_text(letters: &[char]) -> usize {
    let mark = letters.first().copied();
    let mut escaped = false;
    for (at, letter) in letters.iter().enumerate().skip(1) {
        match *letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if Some(letter) == mark => return at + 1,
            _ => {}
        }
    }
    letters.len()
}

/// Could the text of this expression hold something tainted that was not quoted last?
fn is_unsafe(tokens: &[Token], tainted: &BTreeSet<String>) -> bool {
    operands(tokens).into_iter().any(|(operand, is_result)| is_result && is_unsafe_operand(operand, tainted))
}

fn is_unsafe_operand(operand: &[Token], tainted: &BTreeSet<String>) -> bool {
    let is_tainted = |token: &Token| matches!(token, Token::Name(name) if tainted.contains(name));
    if !operand.iter().any(is_tainted) {
        return false;
    }
    let top: Vec<&Token> = top_level(operand).collect();
    if top.iter().any(|token| matches!(token, Token::Mark(mark) if COMPARISONS.contains(&mark.as_str()))) {
        return false;
    }
    let last_filter = top.iter().rev().find_map(|token| match token {
        Token::Filter(name) => Some(name.as_str()),
        _ => None,
    });
    match (last_filter, within_parentheses(operand)) {
        (Some("join"), _) => !quotes_each(operand),
        (Some(filter), _) => !SAFE_FILTERS.contains(&filter),
        (None, Some(inside)) => is_unsafe(inside, tainted),
        (None, None) => true,
    }
}

/// `| map('quote') | join(' ')` makes a word of each.
fn quotes_each(operand: &[Token]) -> bool {
    let mark = |wanted: &str| Token::Mark(wanted.to_owned());
    let filter = |wanted: &str| Token::Filter(wanted.to_owned());
    let idiom = [filter("map"), mark("("), Token::Text("quote".to_owned()), mark(")"), filter("join")];
    operand.windows(idiom.len()).any(|window| *window == idiom)
}

/// The parts that joints divide; what stands behind `if` decides and is no result.
fn operands(tokens: &[Token]) -> Vec<(&[Token], bool)> {
    let mut operands = Vec::new();
    let (mut depth, mut start, mut is_result) = (0_usize, 0, true);
    for (at, token) in tokens.iter().enumerate() {
        let Token::Mark(mark) = token else { continue };
        match mark.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            joint if depth == 0 && JOINTS.contains(&joint) => {
                operands.push((tokens.get(start..at).unwrap_or_default(), is_result));
                start = at + 1;
                is_result = match joint {
                    "if" => false,
                    "else" => true,
                    _ => is_result,
                };
            }
            _ => {}
        }
    }
    operands.push((tokens.get(start..).unwrap_or_default(), is_result));
    operands
}

fn top_level(tokens: &[Token]) -> impl Iterator<Item = &Token> {
    let mut depth = 0_usize;
    tokens.iter().filter(move |token| {
        let Token::Mark(mark) = token else { return depth == 0 };
        match mark.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

fn within_parentheses(operand: &[Token]) -> Option<&[Token]> {
    let is = |token: Option<&Token>, wanted: &str| matches!(token, Some(Token::Mark(mark)) if mark == wanted);
    let whole = is(operand.first(), "(") && is(operand.last(), ")");
    let inside = operand.get(1..operand.len().saturating_sub(1)).filter(|_| whole)?;
    // `(a)(b)` begins and ends so as well.
    let mut depth = 0_i32;
    let closes_early = inside.iter().any(|token| {
        depth += i32::from(is(Some(token), "(")) - i32::from(is(Some(token), ")"));
        depth < 0
    });
    (!closes_early).then_some(inside)
}

/// What a statement makes of tainted values: names that it sets from them.
fn spread(statement: &[Token], tainted: &mut BTreeSet<String>) {
    let [Token::Name(keyword), rest @ ..] = statement else { return };
    let divider = match keyword.as_str() {
        "set" | "with" => "=",
        "for" => "in",
        _ => return,
    };
    let is_divider = |token: &Token| matches!(token, Token::Mark(mark) if mark == divider);
    let Some(at) = rest.iter().position(is_divider) else { return };
    let (names, value) = rest.split_at(at);
    if is_unsafe(value.get(1..).unwrap_or_default(), tainted) {
        // `with a = 1, b = 2` sets names behind the first divider as well.
        let later = top_level(value).filter(|token| matches!(token, Token::Argument(_)));
        tainted.extend(names.iter().chain(later).filter_map(|token| match token {
            Token::Name(name) | Token::Argument(name) => Some(name.clone()),
            _ => None,
        }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::templates::{Context, Template};

    #[test]
    fn data_that_is_not_quoted_is_found_however_it_gets_into_the_text() {
        for template in [
            "clean-up {{ trigger.body.host }}",
            "{{trigger.body.host}}",
            "x {{- trigger['body'] -}} y",
            "{{ trigger.body.host | default('x') }}",
            "{{ trigger.body.host | upper | trim }}",
            "{{ trigger.body.host | to_json_string }}",
            "{{ trigger.body.host | quote | replace(\"'\", '') }}",
            "{{ 'a' if trigger.body.x else trigger.body.y }}",
            "{{ 'a' ~ trigger.body.x }}",
            "{{ trigger.body.x | quote ~ trigger.body.y }}",
            "{{ (trigger.body.x) }}",
            "{{ (trigger.body.x | quote) ~ (trigger.body.y) }}",
            "{{ trigger.body.x or 'none' }}",
            "{{ [trigger.body.x] | join(' ') }}",
            "{{ '%s' % trigger.body.x }}",
            "{{ shorten(trigger.body.x) }}",
            "{% set host = trigger.body.host %}ping {{ host }}",
            "{% set a = trigger.body.host %}{% set b = a ~ '.example' %}ping {{ b }}",
            "{% set ns.host = trigger.body.host %}{{ ns.host }}",
            "{% with a = 1, b = trigger.body.b %}{{ b }}{% endwith %}",
            "{% for host in trigger.body.hosts %}ping {{ host }};{% endfor %}",
            "{% for name, value in trigger.body.items() %}{{ name }}{% endfor %}",
            "{% if trigger.body.x == '%}' %}{{ trigger.body.x }}{% endif %}",
            "{# {{ x }} #}{{ trigger }}",
        ] {
            assert!(!unquoted_data(template, &["trigger"]).is_empty(), "{template}");
        }
    }

    #[test]
    fn what_is_quoted_or_is_no_data_is_not_complained_about() {
        for template in [
            "uptime",
            "echo {{ st2kv.system.host }} '{{ \"trigger\" }}'",
            "clean-up {{ trigger.body.host | quote }}",
            "{{ trigger.body.host | default('x') | quote }}",
            "{{ (trigger.body.host | quote) }}",
            "{{ trigger.body.count | int }}",
            "{{ trigger.body.hosts | length }}",
            "{{ 'a' if trigger.body.x == 1 else 'b' }}",
            "{{ 'a' if trigger.body.x else trigger.body.y | quote }}",
            "{{ trigger.body.x is defined }}",
            "{{ other.trigger }} {{ f(trigger=1) }}",
            "{{ trigger.body.hosts | map('quote') | join(' ') }}",
            "{% if trigger.body.x %}on{% endif %}",
            "{% set host = trigger.body.host | quote %}ping {{ host }}",
            "{% for host in trigger.body.hosts %}ping {{ host | quote }};{% endfor %}",
            "{% raw %}{{ trigger.body.x }}{% endraw %}",
            "{# {{ trigger.body.x }} #}",
        ] {
            assert_eq!(unquoted_data(template, &["trigger"]), Vec::<String>::new(), "{template}");
        }
    }

    #[test]
    fn a_value_is_quoted_as_the_shell_reads_it() {
        let quoted = |value: serde_json::Value| {
            Template::compile("{{ x | quote }}").unwrap().render(&Context::new(&json!({ "x": value }), None))
        };
        for (value, expected) in [
            (json!("web-1.example:80/a"), "web-1.example:80/a"),
            (json!(""), "''"),
            (json!(null), "''"),
            (json!(7), "7"),
            (json!("a b"), "'a b'"),
            (json!("$(reboot)"), "'$(reboot)'"),
            (json!("it's"), "'it'\"'\"'s'"),
            (json!("one\ntwo"), "'one\ntwo'"),
            (json!("ä"), "'ä'"),
        ] {
            assert_eq!(quoted(value).unwrap(), json!(expected));
        }
        let refused = quoted(json!("a\u{0}b")).unwrap_err().to_string();
        assert!(refused.contains("NUL"), "{refused}");
    }

    /// What a POSIX shell makes of single quotes and of texts in double quotes without `$`, `` ` `` and `\`.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut mark) = (Vec::new(), None::<String>, None);
        for letter in command.chars() {
            match (mark, letter) {
                (Some(open), letter) if letter == open => mark = None,
                (None, '\'' | '"') => {
                    mark = Some(letter);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (_, letter) => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn a_quoted_value_is_one_word(value in "(?s)[^\u{0}]{0,20}", other in "[ '\"$`;|&<>(){}*?~#!a\n\\\\-]{0,10}") {
            let command = format!("{} {}", quote(&Value::from(value.as_str())).unwrap(), quote(&Value::from(other.as_str())).unwrap());
            prop_assert_eq!(words(&command), [value, other]);
        }

        #[test]
        fn no_template_makes_the_look_fail(template in "[{}%#'\"()|.=~ a-ctrigse\\[\\]-]{0,60}") {
            unquoted_data(&template, &["trigger", "a"]);
        }
    }
}
