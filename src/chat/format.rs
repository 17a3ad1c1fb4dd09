//! The format of a command: literal text with `{{ parameters }}`, as StackStorm reads it. Literal text may be a regular
//! expression; `key=value` pairs at the end of a command are parameters beside those of the format.

use std::collections::BTreeMap;

use fancy_regex::Regex;

use crate::templates::python_regex::{self, Matching};

/// A value in quotes (which do not belong to it), in braces, or whatever stands there.
const VALUE: &str = r#""[^"]*"|'[^']*'|\{.*?\}|.+?"#;

/// The parameters that a command gives, as text.
pub type Given = BTreeMap<String, String>;

/// One way to write a command.
#[derive(Debug, Clone)]
pub struct Format {
    source: String,
    pattern: Regex,
    /// By their place in the pattern: the group `p0` is the first.
    places: Vec<Place>,
    literal_letters: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    default: Option<String>,
}

impl Format {
    /// Reads a format.
    pub fn compile(source: &str) -> Result<Self, String> {
        let mut pattern = String::from("(?is)\\s*");
        let mut places: Vec<Place> = Vec::new();
        let mut literal_letters = 0;
        let mut rest = source.trim().trim_start_matches('^').trim_end_matches('$');
        while let Some((literal, behind)) = rest.split_once("{{") {
            let (inside, after) =
                behind.split_once("}}").ok_or_else(|| format!("`{source}`: `{{{{` without its `}}}}`"))?;
            let place = place(inside).ok_or_else(|| format!("`{source}`: `{{{{{inside}}}}}` names no parameter"))?;
            if places.iter().any(|known| known.name == place.name) {
                return Err(format!("`{source}`: parameter `{}` is there twice", place.name));
            }
            literal_letters += push_literal(&mut pattern, literal);
            push_value(&mut pattern, &place, places.len());
            places.push(place);
            rest = after;
        }
        literal_letters += push_literal(&mut pattern, rest);
        pattern.push_str("\\s*\\z");
        let pattern = python_regex::compile(&pattern, Matching::Start)
            .map_err(|error| format!("`{source}` cannot be matched: {error}"))?;
        Ok(Self { source: source.to_owned(), pattern, places, literal_letters })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// So many letters stand for themselves: of two formats, the one with more of them says more.
    pub const fn literal_letters(&self) -> usize {
        self.literal_letters
    }

    /// What a command gives if it is written this way. Pairs at its end come first: a value without quotes would
    /// swallow them.
    pub fn read(&self, command: &str) -> Option<Given> {
        let (body, pairs) = split_pairs(command);
        let stripped = if pairs.is_empty() { None } else { self.read_whole(body) };
        match stripped {
            Some(mut given) => {
                given.extend(pairs);
                Some(given)
            }
            None => self.read_whole(command.trim()),
        }
    }

    fn read_whole(&self, command: &str) -> Option<Given> {
        // Whoever writes a command that takes for ever to match has not written this one.
        let found = self.pattern.captures(command).ok().flatten()?;
        let mut given = Given::new();
        for (number, place) in self.places.iter().enumerate() {
            let value = found.name(&format!("p{number}")).map(|value| unquoted(value.as_str()).to_owned());
            given.extend(value.or_else(|| place.default.clone()).map(|value| (place.name.clone(), value)));
        }
        for name in self.pattern.capture_names().flatten().filter(|name| !is_ours(name)) {
            given.extend(found.name(name).map(|value| (name.to_owned(), value.as_str().to_owned())));
        }
        Some(given)
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix('p').is_some_and(|number| number.parse::<usize>().is_ok())
}

fn place(inside: &str) -> Option<Place> {
    let (name, default) = match inside.split_once('=') {
        Some((name, default)) => (name.trim(), Some(unquoted(default.trim()).to_owned())),
        None => (inside.trim(), None),
    };
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    is_name.then(|| Place { name: name.to_owned(), default })
}

/// Any amount of space is as good as any other. Gives back how many letters there are.
fn push_literal(pattern: &mut String, literal: &str) -> usize {
    let mut was_space = false;
    for letter in literal.chars() {
        if letter.is_whitespace() {
            if !was_space {
                pattern.push_str("\\s+");
            }
            was_space = true;
        } else {
            pattern.push(letter);
            was_space = false;
        }
    }
    literal.chars().filter(|letter| !letter.is_whitespace()).count()
}

/// The space before something that may be left out is left out with it.
fn push_value(pattern: &mut String, place: &Place, number: usize) {
    let group = format!("(?P<p{number}>{VALUE})");
    if place.default.is_none() {
        pattern.push_str(&group);
        return;
    }
    let space = if pattern.ends_with("\\s+") {
        pattern.truncate(pattern.len() - "\\s+".len());
        "\\s+"
    } else {
        "\\s*"
    };
    pattern.extend(["(?:", space, &group, ")?"]);
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// Takes `key=value` pairs off the end of a command.
fn split_pairs(command: &str) -> (&str, Given) {
    let mut body = command.trim();
    let mut pairs = Given::new();
    while let Some((before, key, value)) = last_pair(body) {
        // Of two that say the same, the later one was read first.
        pairs.entry(key.to_owned()).or_insert_with(|| unquoted(value).to_owned());
        body = before;
    }
    (body, pairs)
}

fn last_word(text: &str) -> &str {
    text.rsplit(char::is_whitespace).next().unwrap_or_default()
}

/// `body key=value`: where the last word begins, quotes and braces considered.
fn last_pair(body: &str) -> Option<(&str, &str, &str)> {
    let last = body.chars().next_back()?;
    let opening = match last {
        '"' | '\'' => Some(last),
        '}' => Some('{'),
        _ => None,
    };
    let value_start = if let Some(opening) = opening {
        let inside = body.get(..body.len() - last.len_utf8())?;
        inside.rfind(&format!("={opening}"))? + 1
    } else {
        // what follows the first `=` of a word is its value, with more of them in it
        let word = last_word(body);
        body.len() - word.len() + word.find('=')? + 1
    };
    let (before, value) = body.split_at(value_start);
    if value.is_empty() {
        return None;
    }
    let before = before.strip_suffix('=')?;
    let key = last_word(before);
    let (before, key) = before.split_at(before.len() - key.len());
    let is_key = !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || "_-.".contains(letter));
    is_key.then(|| (before.trim_end(), key, value))
}
