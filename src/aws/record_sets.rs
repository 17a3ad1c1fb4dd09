//! What stands at a name in Route 53, whose it is, and the change that counts only if it still stands so. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use anyhow::{anyhow, bail, ensure};

use super::answer::{Element, escaped};

/// A TXT record beside ours: this, and behind it the owner.
const MARK: &str = "petrel-owner=";
const MOST_BYTES_OF_AN_OWNER: usize = 240;
/// The types of our records.
const ADDRESSES: [&str; 2] = ["A", "AAAA"];

/// All records of one type at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordSet {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) ttl: String,
    pub(super) values: Vec<String>,
    /// An alias, or one of several by weight or place: nothing that we have written.
    is_special: bool,
}

impl RecordSet {
    pub(super) fn of(item: &Element) -> Self {
        let values = item.all(&["ResourceRecords", "ResourceRecord", "Value"]);
        Self {
            name: item.said(&["Name"]).trim_end_matches('.').to_ascii_lowercase(),
            kind: item.said(&["Type"]),
            ttl: item.said(&["TTL"]),
            values: values.into_iter().map(|value| value.text().to_owned()).collect(),
            is_special: item.child("AliasTarget").is_some() || item.child("SetIdentifier").is_some(),
        }
    }

    pub(super) fn is_address(&self) -> bool {
        ADDRESSES.contains(&self.kind.as_str())
    }

    fn shown(&self) -> String {
        format!("{} {}", self.kind, if self.is_special { "alias".to_owned() } else { self.values.join(" ") })
    }
}

/// A name that we hold or want, and the owner that stands in its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) owner: String,
}

impl Claim {
    /// Without an owner it is the name itself.
    pub(super) fn new(name: String, owner: Option<&str>) -> anyhow::Result<Self> {
        let owner = owner.map_or_else(|| name.clone(), str::to_owned);
        let plain = owner.chars().all(|char| char.is_ascii_graphic() && !matches!(char, '"' | '\\'));
        ensure!(
            plain && (1..=MOST_BYTES_OF_AN_OWNER).contains(&owner.len()),
            "an owner has 1 to {MOST_BYTES_OF_AN_OWNER} printable ASCII characters without blanks, quotes and backslashes"
        );
        Ok(Self { name, owner })
    }

    fn mark(&self) -> String {
        format!("\"{MARK}{}\"", self.owner)
    }

    fn is_marked_by(&self, sets: &[RecordSet]) -> bool {
        let texts = sets.iter().filter(|set| set.kind == "TXT" && !set.is_special);
        texts.flat_map(|set| &set.values).any(|value| *value == self.mark())
    }
}

/// What a name is to point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    pub(super) ttl_seconds: u32,
}

impl Target {
    /// The address decides between A and AAAA; an IPv4 address cannot be an AAAA.
    pub(super) fn new(kind: &str, data: &str, ttl_seconds: u32) -> anyhow::Result<Self> {
        let address = data.parse();
        let address =
            address.map_err(|_| anyhow!("`data` is `{data}`: give an IPv4 or IPv6 address without a port"))?;
        match (kind, address) {
            ("A", _) | ("AAAA", IpAddr::V6(_)) => Ok(Self { address, ttl_seconds }),
            ("AAAA", IpAddr::V4(_)) => bail!("`{data}` is an IPv4 address: give `type: A`"),
            _ => bail!("records of type {kind} are not written; the types are A and AAAA"),
        }
    }

    /// A or AAAA.
    pub(super) const fn kind(&self) -> &'static str {
        match self.address {
            IpAddr::V4(_) => "A",
            IpAddr::V6(_) => "AAAA",
        }
    }

    fn set(&self, name: &str) -> RecordSet {
        plain_set(name, self.kind(), self.ttl_seconds.to_string(), vec![self.address.to_string()])
    }
}

fn plain_set(name: &str, kind: &str, ttl: String, values: Vec<String>) -> RecordSet {
    RecordSet { name: name.to_owned(), kind: kind.to_owned(), ttl, values, is_special: false }
}

/// Changes that are done together or not at all. A set that is deleted has to be just as it was seen and one that is
/// created must not be there, so a change that is accepted has overtaken nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Batch {
    changes: Vec<(&'static str, RecordSet)>,
}

impl Batch {
    fn delete(&mut self, set: &RecordSet) {
        self.changes.push(("DELETE", set.clone()));
    }

    fn create(&mut self, set: RecordSet) {
        self.changes.push(("CREATE", set));
    }

    /// As Route 53 wants it.
    pub(super) fn document(&self) -> String {
        let changes = self.changes.iter().fold(String::new(), |mut text, (action, set)| {
            let RecordSet { name, kind, ttl, values, .. } = set;
            let records = values.iter().map(|value| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escaped(value)));
            write!(
                text,
                "<Change><Action>{action}</Action><ResourceRecordSet><Name>{name}.</Name><Type>{kind}</Type><TTL>{ttl}</TTL>\
                 <ResourceRecords>{}</ResourceRecords></ResourceRecordSet></Change>",
                records.collect::<String>()
            )
            .expect("a String takes all text");
            text
        });
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ChangeResourceRecordSetsRequest \
             xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>{changes}</Changes>\
             </ChangeBatch></ChangeResourceRecordSetsRequest>"
        )
    }
}

/// What has to be done at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It is as it should be.
    Nothing,
    /// This, if nobody comes first.
    Change(Batch),
    /// It belongs to somebody else; what stands there.
    SomebodyElses(String),
}

/// How a name gets to its address, from what stands there.
pub(super) fn to_point(claim: &Claim, target: &Target, there: &[RecordSet]) -> Step {
    let wanted = target.set(&claim.name);
    let mut batch = Batch::default();
    if there.is_empty() {
        batch.create(wanted);
        batch.create(plain_set(&claim.name, "TXT", target.ttl_seconds.to_string(), vec![claim.mark()]));
        return Step::Change(batch);
    }
    if let Some(theirs) = not_ours(claim, there) {
        return Step::SomebodyElses(theirs);
    }
    let old = there.iter().find(|set| set.kind == wanted.kind);
    if old == Some(&wanted) {
        return Step::Nothing;
    }
    hold_texts(&mut batch, there);
    if let Some(old) = old {
        batch.delete(old);
    }
    batch.create(wanted);
    Step::Change(batch)
}

/// How a name gets free, from what stands there.
pub(super) fn to_free(claim: &Claim, there: &[RecordSet]) -> Step {
    if there.is_empty() {
        return Step::Nothing;
    }
    if let Some(theirs) = not_ours(claim, there) {
        return Step::SomebodyElses(theirs);
    }
    let mut batch = Batch::default();
    for set in there.iter().filter(|set| set.is_address()) {
        batch.delete(set);
    }
    for texts in there.iter().filter(|set| set.kind == "TXT") {
        batch.delete(texts);
        let mut others = texts.clone();
        others.values.retain(|value| *value != claim.mark());
        if !others.values.is_empty() {
            batch.create(others);
        }
    }
    Step::Change(batch)
}

/// What stands at a name that we may not touch, if we may not.
fn not_ours(claim: &Claim, there: &[RecordSet]) -> Option<String> {
    let special = there.iter().any(|set| set.is_special && (set.is_address() || set.kind == "TXT"));
    let ours = claim.is_marked_by(there) && !special;
    (!ours).then(|| there.iter().map(RecordSet::shown).collect::<Vec<_>>().join(", "))
}

/// The mark is a condition of every change: it is taken away and put back.
fn hold_texts(batch: &mut Batch, there: &[RecordSet]) {
    for texts in there.iter().filter(|set| set.kind == "TXT") {
        batch.delete(texts);
        batch.create(texts.clone());
    }
}

/// The names of ours among all records of a zone, each with its addresses.
pub(super) fn held(all: &[RecordSet], owner: Option<&str>) -> Vec<(Claim, Vec<RecordSet>)> {
    let mut by_name: BTreeMap<&str, Vec<&RecordSet>> = BTreeMap::new();
    for set in all {
        by_name.entry(&set.name).or_default().push(set);
    }
    let ours = by_name.into_iter().filter_map(|(name, sets)| {
        let claim = Claim::new(name.to_owned(), owner).ok()?;
        let sets: Vec<RecordSet> = sets.into_iter().cloned().collect();
        let is_ours = claim.is_marked_by(&sets);
        is_ours.then(|| (claim, sets.into_iter().filter(RecordSet::is_address).collect()))
    });
    ours.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "web-001.web.example.org";

    fn claim() -> Claim {
        Claim::new(NAME.to_owned(), None).unwrap()
    }

    fn target(data: &str) -> Target {
        Target::new("A", data, 30).unwrap()
    }

    fn set(kind: &str, values: &[&str]) -> RecordSet {
        plain_set(NAME, kind, "30".to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn mark() -> String {
        format!("\"petrel-owner={NAME}\"")
    }

    /// The changes as `DELETE A 10.0.0.1`.
    fn changes(step: Step) -> Vec<String> {
        let Step::Change(batch) = step else { panic!("{step:?}") };
        batch.changes.iter().map(|(action, set)| format!("{action} {}", set.shown())).collect()
    }

    #[test]
    fn a_free_name_gets_its_address_and_its_mark_at_once() {
        let step = to_point(&claim(), &target("10.0.0.1"), &[]);
        assert_eq!(changes(step), ["CREATE A 10.0.0.1".to_owned(), format!("CREATE TXT {}", mark())]);
    }

    #[test]
    fn a_name_of_ours_changes_only_if_all_is_as_it_was_seen() {
        let there = [set("A", &["10.0.0.1"]), set("TXT", &[&mark(), "\"v=spf1\""])];
        let texts = format!("TXT {} \"v=spf1\"", mark());
        let step = to_point(&claim(), &target("10.0.0.2"), &there);
        assert_eq!(
            changes(step),
            [
                format!("DELETE {texts}"),
                format!("CREATE {texts}"),
                "DELETE A 10.0.0.1".into(),
                "CREATE A 10.0.0.2".into()
            ]
        );
        assert_eq!(to_point(&claim(), &target("10.0.0.1"), &there), Step::Nothing);
        assert_eq!(
            changes(to_free(&claim(), &there)),
            ["DELETE A 10.0.0.1".to_owned(), format!("DELETE {texts}"), "CREATE TXT \"v=spf1\"".into()]
        );
        assert_eq!(to_free(&claim(), &[]), Step::Nothing);
    }

    #[test]
    fn what_has_not_our_mark_is_shown_and_left() {
        let mut alias = set("A", &[]);
        alias.is_special = true;
        for there in [
            vec![set("A", &["10.0.0.9"])],
            vec![set("CNAME", &["other.example.org"])],
            vec![set("A", &["10.0.0.9"]), set("TXT", &["\"petrel-owner=somebody\""])],
            vec![alias, set("TXT", &[&mark()])],
        ] {
            for step in [to_point(&claim(), &target("10.0.0.1"), &there), to_free(&claim(), &there)] {
                assert!(matches!(step, Step::SomebodyElses(_)), "{there:?}: {step:?}");
            }
        }
    }

    #[test]
    fn ours_are_found_among_all() {
        let mut stranger = set("A", &["10.0.0.9"]);
        stranger.name = "www.example.org".to_owned();
        let all = [set("A", &["10.0.0.1"]), set("TXT", &[&mark()]), stranger];
        let found = held(&all, None);
        assert_eq!(found, [(claim(), vec![set("A", &["10.0.0.1"])])]);
        assert_eq!(held(&all, Some("eu")), []);
    }

    #[test]
    fn a_document_keeps_what_stands_in_quotes() {
        let Step::Change(batch) = to_point(&claim(), &target("10.0.0.1"), &[]) else { panic!("it is free") };
        let document = batch.document();
        assert!(document.contains("<Value>&quot;petrel-owner=web-001.web.example.org&quot;</Value>"), "{document}");
        assert!(Element::parse(&document).is_some());
        for owner in ["", "a\"b", "a b", "ä"] {
            assert!(Claim::new(NAME.to_owned(), Some(owner)).is_err(), "{owner}");
        }
    }
}
