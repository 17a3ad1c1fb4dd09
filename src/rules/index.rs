//! Which rules an event could concern at all, found without looking at those it cannot (G12).
//!
//! Of each rule one criterion becomes its key in the index: the one that fewest other rules share. A rule may be left
//! out only if evaluating it
//! could neither match nor fail, because a failure is recorded as a failed enforcement. Criteria are
//! evaluated in file order and the first that does not hold ends it. So a criterion may be the key if none
//! of those before it can fail, and a key that itself fails for a value of the wrong type (a text
//! operator on a number, say) brings its rule up for every such value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::rules::CompiledRule;
use crate::rules::criteria::{Check, Compiled, Source};
use crate::rules::operators::Operator;
use crate::rules::values::{self, Numeric};
use crate::templates::jsonpath::JsonPath;

/// The enabled rules, by what they wait for.
#[derive(Debug, Default)]
pub struct RuleIndex {
    by_trigger: BTreeMap<String, TriggerRules>,
}

impl RuleIndex {
    /// Indexes the enabled ones among `rules`.
    pub fn build(rules: impl Iterator<Item = Arc<CompiledRule>>) -> Self {
        let mut by_reference: Vec<_> = rules.filter(|rule| rule.is_enabled()).collect();
        by_reference.sort_by(|left, right| left.reference().cmp(right.reference()));
        let mut by_trigger: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for rule in by_reference {
            by_trigger.entry(rule.trigger_identity().to_owned()).or_default().push(rule);
        }
        let indexed = by_trigger.into_iter().map(|(trigger, rules)| (trigger, TriggerRules::index(rules)));
        Self { by_trigger: indexed.collect() }
    }

    /// The rules of a trigger that could match or fail, in the order of their references.
    pub fn candidates(&self, trigger_identity: &str, payload: &Value) -> Vec<&Arc<CompiledRule>> {
        self.by_trigger.get(trigger_identity).map_or_else(Vec::new, |trigger| trigger.candidates(payload))
    }
}

/// Place of a rule among those of its trigger; its order is that of the references.
type Place = usize;

#[derive(Debug, Default)]
struct TriggerRules {
    rules: Vec<Arc<CompiledRule>>,
    /// Rules without a key.
    always: Vec<Place>,
    /// Keys that cannot fail: nothing happens where the payload has no value.
    safe: Trie,
    /// Keys that can fail, by path.
    fallible: BTreeMap<JsonPath, Fallible>,
}

impl TriggerRules {
    fn index(rules: Vec<Arc<CompiledRule>>) -> Self {
        let mut index = Self::default();
        let popularity = Popularity::of(&rules);
        for (place, rule) in rules.iter().enumerate() {
            index.add(place, choose_key(&rule.criteria, &popularity));
        }
        index.fallible.values_mut().for_each(Fallible::finish);
        Self { rules, ..index }
    }

    fn add(&mut self, place: Place, key: Option<(&JsonPath, Key)>) {
        match key {
            None => self.always.push(place),
            Some((path, Key::Equal(scalars))) => {
                let node = self.safe.node(path);
                for scalar in scalars {
                    node.equal.entry(scalar).or_default().push(place);
                }
            }
            Some((path, Key::Exists)) => self.safe.node(path).exists.push(place),
            Some((path, Key::Fallible(key))) => self.fallible.entry(path.clone()).or_default().add(key, place),
        }
    }

    fn candidates(&self, payload: &Value) -> Vec<&Arc<CompiledRule>> {
        let mut places = self.always.clone();
        self.safe.find(payload, &mut places);
        for (path, keys) in &self.fallible {
            keys.find(path.find_first(payload).unwrap_or(&Value::Null), &mut places);
        }
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.rules.get(place)).collect()
    }
}

/// The criterion by which a rule is found.
enum Key {
    Equal(Vec<Scalar>),
    Exists,
    Fallible(FallibleKey),
}

enum FallibleKey {
    Prefix(String),
    Suffix(String),
    LessThan(Numeric),
    GreaterThan(Numeric),
}

impl Key {
    /// The smaller, the fewer events it lets through.
    const fn rank(&self) -> u8 {
        match self {
            Self::Equal(_) => 0,
            Self::Fallible(FallibleKey::Prefix(_) | FallibleKey::Suffix(_)) => 1,
            Self::Fallible(FallibleKey::LessThan(_) | FallibleKey::GreaterThan(_)) => 2,
            Self::Exists => 3,
        }
    }
}

/// How many rules of a trigger each key would bring up: what makes one criterion a better key than another.
struct Popularity<'r> {
    rules: usize,
    equal: BTreeMap<&'r JsonPath, HashMap<Scalar, usize>>,
    affix: BTreeMap<&'r JsonPath, HashMap<String, usize>>,
}

impl<'r> Popularity<'r> {
    fn of(rules: &'r [Arc<CompiledRule>]) -> Self {
        let mut popularity = Self { rules: rules.len(), equal: BTreeMap::new(), affix: BTreeMap::new() };
        for (path, key) in rules.iter().flat_map(|rule| usable_keys(&rule.criteria)) {
            match key {
                Key::Equal(scalars) => {
                    let by_value = popularity.equal.entry(path).or_default();
                    scalars.into_iter().for_each(|scalar| *by_value.entry(scalar).or_default() += 1);
                }
                Key::Fallible(FallibleKey::Prefix(text) | FallibleKey::Suffix(text)) => {
                    *popularity.affix.entry(path).or_default().entry(text).or_default() += 1;
                }
                Key::Fallible(FallibleKey::LessThan(_) | FallibleKey::GreaterThan(_)) | Key::Exists => {}
            }
        }
        popularity
    }

    /// Rules that come up with an event that meets this key, as far as can be known before there is one.
    fn of_key(&self, path: &JsonPath, key: &Key) -> usize {
        match key {
            Key::Equal(scalars) => {
                let by_value = self.equal.get(path);
                scalars.iter().filter_map(|scalar| by_value?.get(scalar)).sum()
            }
            Key::Fallible(FallibleKey::Prefix(text) | FallibleKey::Suffix(text)) => {
                self.affix.get(path).and_then(|by_text| by_text.get(text)).copied().unwrap_or_default()
            }
            Key::Fallible(FallibleKey::LessThan(_) | FallibleKey::GreaterThan(_)) => self.rules / 2,
            Key::Exists => self.rules,
        }
    }
}

/// The most selective key among the criteria that may be one; of equals the one that lets fewer events through.
fn choose_key<'r>(criteria: &'r [Compiled], popularity: &Popularity<'_>) -> Option<(&'r JsonPath, Key)> {
    usable_keys(criteria).into_iter().min_by_key(|(path, key)| (popularity.of_key(path, key), key.rank()))
}

fn usable_keys(criteria: &[Compiled]) -> Vec<(&JsonPath, Key)> {
    let mut usable = Vec::new();
    collect_usable(criteria, &mut usable);
    usable.into_iter().filter_map(key_of).collect()
}

/// The criteria up to and including the first that can fail. True if one was met.
fn collect_usable<'r>(criteria: &'r [Compiled], usable: &mut Vec<&'r Compiled>) -> bool {
    for condition in criteria {
        let can_fail = match condition {
            Compiled::All(members) => collect_usable(members, usable),
            Compiled::Test(_) | Compiled::Any(_) | Compiled::Not(_) => {
                usable.push(condition);
                !condition.never_fails()
            }
        };
        if can_fail {
            return true;
        }
    }
    false
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an operator is no key unless it is listed")]
fn key_of(condition: &Compiled) -> Option<(&JsonPath, Key)> {
    let Compiled::Test(test) = condition else {
        return None;
    };
    let (Source::Root(path), Check::Literal(comparison)) = (&test.source, &test.check) else {
        return None;
    };
    let pattern = &comparison.pattern;
    let names_only = path.names().is_some();
    let key = match comparison.operator {
        Operator::Equals if names_only => Key::Equal(vec![Scalar::of(pattern)?]),
        Operator::Inside if names_only => {
            Key::Equal(pattern.as_array()?.iter().map(Scalar::of).collect::<Option<_>>()?)
        }
        Operator::Exists if names_only => Key::Exists,
        Operator::StartsWith => Key::Fallible(FallibleKey::Prefix(pattern.as_str()?.to_owned())),
        Operator::EndsWith => Key::Fallible(FallibleKey::Suffix(pattern.as_str()?.to_owned())),
        Operator::LessThan => Key::Fallible(FallibleKey::LessThan(values::number(pattern)?)),
        Operator::GreaterThan => Key::Fallible(FallibleKey::GreaterThan(values::number(pattern)?)),
        _ => return None,
    };
    Some((path, key))
}

/// A value that can be looked up: equal ones, as Python sees it, are identical.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scalar {
    Text(String),
    Whole(i128),
    /// The bits of a float that is not whole.
    Float(u64),
}

impl Scalar {
    fn of(value: &Value) -> Option<Self> {
        match values::number(value) {
            Some(Numeric::Whole(whole)) => Some(Self::Whole(whole)),
            Some(Numeric::Float(float)) => Some(Self::Float(float.to_bits())),
            None => value.as_str().map(|text| Self::Text(text.to_owned())),
        }
    }
}

/// Names of the payload, level by level, so that an event is compared only with paths that it has.
#[derive(Debug, Default)]
struct Trie {
    below: HashMap<String, Trie>,
    equal: HashMap<Scalar, Vec<Place>>,
    exists: Vec<Place>,
}

impl Trie {
    fn node(&mut self, path: &JsonPath) -> &mut Self {
        let names = path.names().unwrap_or_default();
        names.into_iter().fold(self, |node, name| node.below.entry(name.to_owned()).or_default())
    }

    fn find(&self, value: &Value, places: &mut Vec<Place>) {
        if value.is_null() {
            return;
        }
        places.extend(&self.exists);
        if !self.equal.is_empty() {
            let found = Scalar::of(value).and_then(|scalar| self.equal.get(&scalar));
            places.extend(found.into_iter().flatten());
        }
        let Some(members) = value.as_object().filter(|_| !self.below.is_empty()) else {
            return;
        };
        for (name, member) in members {
            if let Some(node) = self.below.get(name) {
                node.find(member, places);
            }
        }
    }
}

/// The keys of one path whose operators fail for values of the wrong type.
#[derive(Debug, Default)]
struct Fallible {
    prefixes: Affixes,
    suffixes: Affixes,
    /// By bound; sorted by [`Fallible::finish`].
    less_than: Vec<(Numeric, Place)>,
    greater_than: Vec<(Numeric, Place)>,
}

impl Fallible {
    fn add(&mut self, key: FallibleKey, place: Place) {
        match key {
            FallibleKey::Prefix(text) => self.prefixes.add(text, place),
            FallibleKey::Suffix(text) => self.suffixes.add(text, place),
            FallibleKey::LessThan(bound) => self.less_than.push((bound, place)),
            FallibleKey::GreaterThan(bound) => self.greater_than.push((bound, place)),
        }
    }

    fn finish(&mut self) {
        for bounds in [&mut self.less_than, &mut self.greater_than] {
            bounds.sort_by(|(left, _), (right, _)| left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal));
        }
    }

    fn find(&self, value: &Value, places: &mut Vec<Place>) {
        match value.as_str() {
            Some(text) => {
                self.prefixes.find(places, |length| text.get(..length));
                self.suffixes.find(places, |length| text.get(text.len().checked_sub(length)?..));
            }
            None => places.extend(self.prefixes.all().chain(self.suffixes.all())),
        }
        match values::number(value) {
            Some(number) => {
                let first = self.less_than.partition_point(|(bound, _)| *bound <= number);
                places.extend(self.less_than.iter().skip(first).map(|(_, place)| place));
                let end = self.greater_than.partition_point(|(bound, _)| *bound < number);
                places.extend(self.greater_than.iter().take(end).map(|(_, place)| place));
            }
            None => places.extend(self.less_than.iter().chain(&self.greater_than).map(|(_, place)| place)),
        }
    }
}

/// Prefixes or suffixes, by text; a value is looked up once per length that occurs.
#[derive(Debug, Default)]
struct Affixes {
    by_text: BTreeMap<String, Vec<Place>>,
    lengths: BTreeSet<usize>,
}

impl Affixes {
    fn add(&mut self, text: String, place: Place) {
        self.lengths.insert(text.len());
        self.by_text.entry(text).or_default().push(place);
    }

    fn find<'v>(&self, places: &mut Vec<Place>, part: impl Fn(usize) -> Option<&'v str>) {
        let parts = self.lengths.iter().filter_map(|length| part(*length));
        places.extend(parts.filter_map(|part| self.by_text.get(part)).flatten());
    }

    fn all(&self) -> impl Iterator<Item = &Place> {
        self.by_text.values().flatten()
    }
}
