//! What an update says, and whose a name is. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{anyhow, bail, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query, UpdateMessage};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// A TXT record beside ours: this, and behind it the owner.
const MARK: &str = "petrel-owner=";
/// A string of a TXT record has a byte for its length; a longer text is several of them.
const MOST_BYTES_OF_A_STRING: usize = 255;
const MOST_BYTES_OF_AN_OWNER: usize = 253;
/// The types of our records.
const ADDRESSES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// A name as people write it, with or without its last dot.
pub(super) fn name_of(text: &str) -> anyhow::Result<Name> {
    let name = Name::from_ascii(text).ok().filter(|name| name.iter().next().is_some());
    let mut name = name.ok_or_else(|| anyhow!("`{text}` is not a DNS name"))?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

/// A name as it is shown: without its last dot.
pub(super) fn shown(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').filter(|text| !text.is_empty()).unwrap_or(&text).to_owned()
}

/// The full name of a record below its domain.
pub(super) fn below(domain: &str, name: &str) -> anyhow::Result<Name> {
    let (domain, full) = (name_of(domain)?, name_of(name)?);
    ensure!(
        domain.zone_of(&full),
        "`{name}` is not below `{domain}`: give the full name, as `{name}.{domain}`",
        name = shown(&full),
        domain = shown(&domain)
    );
    Ok(full)
}

/// A name that we hold or want, and the owner that stands in its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: Name,
    pub(super) owner: String,
}

impl Claim {
    /// Without an owner it is the name itself.
    pub(super) fn new(name: Name, owner: Option<&str>) -> anyhow::Result<Self> {
        let owner = owner.map_or_else(|| shown(&name), str::to_owned);
        let printable = owner.chars().all(|char| char == ' ' || char.is_ascii_graphic());
        ensure!(
            printable && (1..=MOST_BYTES_OF_AN_OWNER).contains(&owner.len()),
            "an owner has 1 to {MOST_BYTES_OF_AN_OWNER} printable ASCII characters"
        );
        Ok(Self { name, owner })
    }

    /// Is one of these records our mark?
    pub(super) fn is_marked_by(&self, records: &[Record]) -> bool {
        records.iter().any(|record| record.name == self.name && mark_of(record).as_deref() == Some(&self.owner))
    }

    fn mark(&self) -> RData {
        let text = format!("{MARK}{}", self.owner).into_bytes();
        RData::TXT(TXT::from_bytes(text.chunks(MOST_BYTES_OF_A_STRING).collect()))
    }
}

/// The owner that a record names, if it is a mark.
fn mark_of(record: &Record) -> Option<String> {
    let RData::TXT(text) = &record.data else { return None };
    String::from_utf8(text.txt_data.concat()).ok()?.strip_prefix(MARK).map(str::to_owned)
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
    pub(super) const fn kind(&self) -> RecordType {
        match self.address {
            IpAddr::V4(_) => RecordType::A,
            IpAddr::V6(_) => RecordType::AAAA,
        }
    }

    fn data(&self) -> RData {
        match self.address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        }
    }
}

/// A new name with its mark, if nothing has the name.
pub(super) fn create(zone: &Name, claim: &Claim, target: &Target) -> Message {
    let mut message = if_free(zone, &claim.name);
    message.add_update(add(&claim.name, target.ttl_seconds, claim.mark()));
    message.add_update(add(&claim.name, target.ttl_seconds, target.data()));
    message
}

/// Another address for a name of ours, if its TXT records are still `texts`.
pub(super) fn replace(zone: &Name, claim: &Claim, target: &Target, texts: &[Record]) -> Message {
    let mut message = if_texts_are(zone, &claim.name, texts);
    message.add_update(remove_all(&claim.name, target.kind()));
    message.add_update(add(&claim.name, target.ttl_seconds, target.data()));
    message
}

/// No address and no mark for a name of ours, if its TXT records are still `texts`.
pub(super) fn remove(zone: &Name, claim: &Claim, texts: &[Record]) -> Message {
    let mut message = if_texts_are(zone, &claim.name, texts);
    message.add_updates(ADDRESSES.map(|kind| remove_all(&claim.name, kind)));
    message.add_update(remove_one(&claim.name, claim.mark()));
    message
}

/// The same if the TXT records are just our mark, as they are where nobody else writes.
pub(super) fn remove_as_written(zone: &Name, claim: &Claim) -> Message {
    remove(zone, claim, &[Record::from_rdata(claim.name.clone(), 0, claim.mark())])
}

/// What all our updates ask for, with nothing left at its end, if nothing has the name.
pub(super) fn probe(zone: &Name, claim: &Claim, target: &Target) -> Message {
    let mut message = create(zone, claim, target);
    message.add_update(remove_one(&claim.name, target.data()));
    message.add_update(remove_one(&claim.name, claim.mark()));
    message
}

/// No change, and the condition that nothing has the name.
pub(super) fn if_free(zone: &Name, name: &Name) -> Message {
    let mut message = update_of(zone);
    let mut free = Record::update0(name.clone(), 0, RecordType::ANY);
    free.dns_class = DNSClass::NONE;
    message.add_pre_requisite(free);
    message
}

fn if_texts_are(zone: &Name, name: &Name, texts: &[Record]) -> Message {
    let mut message = update_of(zone);
    message.add_pre_requisites(texts.iter().map(|text| Record::from_rdata(name.clone(), 0, text.data.clone())));
    message
}

fn update_of(zone: &Name) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(zone.clone(), RecordType::SOA));
    message
}

fn add(name: &Name, ttl_seconds: u32, data: RData) -> Record {
    Record::from_rdata(name.clone(), ttl_seconds, data)
}

fn remove_all(name: &Name, kind: RecordType) -> Record {
    let mut all = Record::update0(name.clone(), 0, kind);
    all.dns_class = DNSClass::ANY;
    all
}

fn remove_one(name: &Name, data: RData) -> Record {
    let mut one = Record::from_rdata(name.clone(), 0, data);
    one.dns_class = DNSClass::NONE;
    one
}

/// A name of ours with all its addresses; none if only the mark is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) claim: Claim,
    pub(super) addresses: Vec<Record>,
}

/// The names of ours among all records of a zone, at and below a domain, in the order of names.
pub(super) fn held(all: &[Record], domain: &Name, owner: Option<&str>) -> Vec<Held> {
    let marks = all.iter().filter(|record| domain.zone_of(&record.name));
    let marks = marks.filter_map(|record| Some((record.name.to_lowercase(), mark_of(record)?)));
    let claims = marks.filter_map(|(name, marked)| {
        // What cannot be an owner of ours is somebody else's mark.
        let claim = Claim::new(name, owner).ok()?;
        (claim.owner == marked).then_some((claim.name.clone(), Held { claim, addresses: Vec::new() }))
    });
    let mut held: BTreeMap<Name, Held> = claims.collect();
    for address in all.iter().filter(|record| ADDRESSES.contains(&record.record_type())) {
        if let Some(held) = held.get_mut(&address.name) {
            held.addresses.push(address.clone());
        }
    }
    held.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use hickory_proto::rr::RecordData;
    use serde_json::json;

    fn name(text: &str) -> Name {
        name_of(text).unwrap()
    }

    fn claim(text: &str, owner: Option<&str>) -> Claim {
        Claim::new(name(text), owner).unwrap()
    }

    fn target(kind: &str, data: &str) -> Target {
        Target::new(kind, data, 30).unwrap()
    }

    /// A section as `name class type data`.
    fn section(records: &[Record]) -> Vec<String> {
        let line = |record: &Record| {
            let data = if record.data.is_update() { String::new() } else { format!(" {}", record.data) };
            format!("{} {} {}{data}", shown(&record.name), record.dns_class, record.record_type())
        };
        records.iter().map(line).collect()
    }

    #[test]
    fn a_name_is_full_and_below_its_domain() {
        assert_eq!(shown(&below("Example.org.", "Web-001.web.example.ORG").unwrap()), "web-001.web.example.org");
        let short = below("example.org", "web-001").unwrap_err().to_string();
        assert!(short.contains("give the full name, as `web-001.example.org`"), "{short}");
        assert!(below("example.org", "web.badexample.org").is_err(), "labels count, not letters");
        for wrong in ["", ".", "a..b", &"a".repeat(64)] {
            assert!(name_of(wrong).unwrap_err().to_string().contains("is not a DNS name"), "{wrong}");
        }
    }

    #[test]
    fn the_address_decides_the_type() {
        assert_eq!(target("A", "127.0.0.1").kind(), RecordType::A);
        assert_eq!(target("A", "2001:db8::1").kind(), RecordType::AAAA);
        assert_eq!(target("AAAA", "2001:db8::1").kind(), RecordType::AAAA);
        for (kind, data, says) in [
            ("AAAA", "127.0.0.1", "give `type: A`"),
            ("CNAME", "127.0.0.1", "the types are A and AAAA"),
            ("A", "127.0.0.1:80", "without a port"),
            ("A", "other.example.org", "without a port"),
        ] {
            let refusal = Target::new(kind, data, 30).unwrap_err().to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn a_new_name_and_its_mark_stand_under_one_condition() {
        let message = create(&name("example.org"), &claim("n.example.org", None), &target("A", "127.0.0.1"));
        assert_eq!(section(message.prerequisites()), ["n.example.org NONE ANY"]);
        let written = ["n.example.org IN TXT petrel-owner=n.example.org", "n.example.org IN A 127.0.0.1"];
        assert_eq!(section(message.updates()), written);
        assert_eq!(message.zones()[0].to_string(), "example.org. IN SOA");
    }

    #[test]
    fn what_is_ours_changes_only_while_its_texts_stay_and_strangers_texts_stay() {
        let claim = claim("n.example.org", Some("eu/web"));
        let spf = TXT::new(vec!["v=spf1 -all".to_owned()]);
        let texts = [claim.mark(), RData::TXT(spf)].map(|data| Record::from_rdata(claim.name.clone(), 60, data));
        let conditions = ["n.example.org IN TXT petrel-owner=eu/web", "n.example.org IN TXT v=spf1 -all"];
        let message = replace(&name("example.org"), &claim, &target("A", "::1"), &texts);
        assert_eq!(section(message.prerequisites()), conditions);
        assert_eq!(section(message.updates()), ["n.example.org ANY AAAA", "n.example.org IN AAAA ::1"]);
        let message = remove(&name("example.org"), &claim, &texts);
        assert_eq!(section(message.prerequisites()), conditions);
        assert!(message.prerequisites().iter().all(|record| record.ttl == 0), "as RFC 2136 wants it");
        let mark = "n.example.org NONE TXT petrel-owner=eu/web";
        assert_eq!(section(message.updates()), ["n.example.org ANY A", "n.example.org ANY AAAA", mark]);
    }

    #[test]
    fn a_mark_counts_at_its_own_name_for_its_own_owner_however_long() {
        let long = "o".repeat(MOST_BYTES_OF_AN_OWNER);
        let (mine, other) = (claim("n.example.org", Some(&long)), claim("n.example.org", Some("other")));
        let mark = |claim: &Claim| Record::from_rdata(claim.name.clone(), 30, claim.mark());
        assert!(mine.is_marked_by(&[mark(&other), mark(&mine)]));
        assert!(!mine.is_marked_by(&[mark(&other)]));
        assert!(!claim("m.example.org", Some(&long)).is_marked_by(&[mark(&mine)]));
        for owner in ["", "tab\there", "ä", &"o".repeat(MOST_BYTES_OF_AN_OWNER + 1)] {
            assert!(Claim::new(name("n.example.org"), Some(owner)).is_err(), "{owner}");
        }
    }

    #[test]
    fn of_a_whole_zone_only_what_is_ours_below_the_domain_is_told() {
        let of = |text: &str, data: RData| Record::from_rdata(name(text), 30, data);
        let a = || target("A", "127.0.0.1").data();
        let all = [
            of("b.web.example.org", a()),
            of("b.web.example.org", claim("b.web.example.org", None).mark()),
            of("a.web.example.org", claim("a.web.example.org", None).mark()),
            of("foreign.web.example.org", a()),
            of("others.web.example.org", a()),
            of("others.web.example.org", claim("others.web.example.org", Some("x")).mark()),
            of("elsewhere.example.org", claim("elsewhere.example.org", None).mark()),
        ];
        let names = |owner: Option<&str>| {
            let held = held(&all, &name("web.example.org"), owner);
            held.iter().map(|held| json!([shown(&held.claim.name), held.addresses.len()])).collect::<Vec<_>>()
        };
        assert_eq!(names(None), [json!(["a.web.example.org", 0]), json!(["b.web.example.org", 1])]);
        assert_eq!(names(Some("x")), [json!(["others.web.example.org", 1])]);
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let message = probe(&name("example.org"), &claim("p.example.org", None), &target("A", "192.0.2.1"));
        let [text, address, no_address, no_text] = &section(message.updates())[..] else { panic!("{message:?}") };
        assert_eq!(no_text, &text.replace(" IN ", " NONE "));
        assert_eq!(no_address, &address.replace(" IN ", " NONE "));
    }
}
