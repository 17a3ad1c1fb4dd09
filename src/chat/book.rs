//! All commands that chat knows: which one a line is, and which it may have been meant to be.

use std::sync::Arc;

use super::alias::{ChatAlias, Reading};
use super::format::Given;
use crate::model::pack::Catalogue;

/// So many suggestions for a line that is no command.
const NEAREST: usize = 3;

/// The aliases of a catalogue that can be used.
#[derive(Debug, Clone, Default)]
pub struct Book {
    aliases: Vec<Arc<ChatAlias>>,
}

/// A command that was understood.
#[derive(Debug, Clone)]
pub struct Command {
    /// Which.
    pub alias: Arc<ChatAlias>,
    /// As help shows the way it was written.
    pub display: String,
    /// The very format.
    pub representation: String,
    /// The parameters it gives.
    pub given: Given,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCommand {
    /// No alias is written like this.
    #[error("there is no such command{}", suggestions(nearest))]
    Unknown {
        /// Those it resembles most.
        nearest: Vec<String>,
    },
    /// Several are, and none says more than the others.
    #[error("that may be {}; say more", displays.join(" or "))]
    Ambiguous {
        /// Those.
        displays: Vec<String>,
    },
}

fn suggestions(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return "; `!help` shows what there is".to_owned();
    }
    let lines: Vec<String> = nearest.iter().map(|display| format!("`!{display}`")).collect();
    format!("; the nearest: {}", lines.join(", "))
}

impl Book {
    /// The enabled aliases of a catalogue whose actions work.
    pub fn of(catalogue: &Catalogue) -> Self {
        let usable = catalogue.aliases.values().filter(|alias| {
            let is_broken = catalogue.broken.contains_key(&alias.reference.uid());
            alias.enabled && !is_broken && catalogue.actions.contains_key(&alias.action)
        });
        // What does not compile was told when it was loaded.
        Self { aliases: usable.filter_map(|alias| ChatAlias::compile(alias).ok().map(Arc::new)).collect() }
    }

    /// All aliases, by reference.
    pub fn aliases(&self) -> impl Iterator<Item = &Arc<ChatAlias>> {
        self.aliases.iter()
    }

    /// The command that a line is, without what marks it as one.
    pub fn find(&self, line: &str) -> Result<Command, NoCommand> {
        let mut readings: Vec<(&Arc<ChatAlias>, Reading<'_>)> =
            self.aliases.iter().filter_map(|alias| Some((alias, alias.read(line)?))).collect();
        let most = readings.iter().map(|(_, reading)| reading.format.literal_letters()).max();
        readings.retain(|(_, reading)| Some(reading.format.literal_letters()) == most);
        match readings.as_slice() {
            [] => Err(NoCommand::Unknown { nearest: self.nearest(line) }),
            [(alias, reading)] => Ok(Command {
                alias: Arc::clone(alias),
                display: reading.way.display.clone(),
                representation: reading.format.source().to_owned(),
                given: reading.given.clone(),
            }),
            several => {
                let displays = several.iter().map(|(_, reading)| format!("`!{}`", reading.way.display)).collect();
                Err(NoCommand::Ambiguous { displays })
            }
        }
    }

    /// Those that share most words with a line, or nearly.
    fn nearest(&self, line: &str) -> Vec<String> {
        let said: Vec<String> = line.split_whitespace().map(str::to_lowercase).collect();
        let displays = self.aliases.iter().flat_map(|alias| alias.ways.iter().map(|way| &way.display));
        let mut ranked: Vec<(usize, &String)> = displays.map(|display| (likeness(&said, display), display)).collect();
        ranked.retain(|(shared, _)| *shared > 0);
        ranked.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
        ranked.into_iter().take(NEAREST).map(|(_, display)| display.clone()).collect()
    }
}

/// Two for each word that is the same, one for each that nearly is.
fn likeness(said: &[String], display: &str) -> usize {
    let words = display.split_whitespace().filter(|word| !word.contains("{{") && !word.ends_with('='));
    words
        .map(|word| said.iter().map(|other| usize::from(is_near(word, other)) + usize::from(word == other)).max())
        .map(Option::unwrap_or_default)
        .sum()
}

/// One letter too many, too few, wrong, or two that changed places.
fn is_near(word: &str, other: &str) -> bool {
    let (word, other): (Vec<char>, Vec<char>) = (word.chars().collect(), other.chars().collect());
    if word.len().abs_diff(other.len()) > 1 || word.len().max(other.len()) < 3 {
        return word == other;
    }
    let same_start = word.iter().zip(&other).take_while(|(mine, theirs)| mine == theirs).count();
    let (word, other) = (word.split_at(same_start).1, other.split_at(same_start).1);
    let without = |letters: &[char], skipped: usize| letters.iter().skip(skipped).copied().collect::<Vec<_>>();
    let swapped = word.get(..2).map(|pair| pair.iter().rev().copied().collect::<Vec<_>>());
    let is_swapped = swapped.as_deref() == other.get(..2) && without(word, 2) == without(other, 2);
    word == other
        || is_swapped
        || without(word, 1) == without(other, 1)
        || without(word, 1) == other
        || word == without(other, 1)
}
