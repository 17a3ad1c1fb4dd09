//! A hosted zone of Route 53: names are taken, changed and given back there, each by one change that counts only if the
//! name is still as it was seen.

use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use reqwest::Method;
use serde::Deserialize;

use super::answer::{Element, escaped};
use super::calls::{Aws, Question};
use super::naming::{is_in, suffixes};
use super::record_sets::{self, Batch, Claim, RecordSet, Step, Target};
use super::refusal::CallError;
use super::signature::encoded;
use crate::clock::{sleep, timeout};
use crate::model::time::deserialize_duration;

/// Each look that was overtaken means that somebody else got ahead; more than a few at one name is a quarrel.
const ATTEMPTS: usize = 8;
const PAGE: &str = "300";
/// A zone with more is no place for names that come and go.
const MOST_PAGES: usize = 400;
/// Begins the reference by which zones are made once, and known as ours.
const REFERENCE: &str = "petrel-";

/// What `configs/aws.yaml` and the group's `dns_parameters` say about names.
#[derive(Debug, Clone, Deserialize)]
struct Options {
    hosted_zone_id: Option<String>,
    #[serde(default = "default_sync", deserialize_with = "deserialize_duration")]
    sync_timeout: Duration,
}

/// Route 53 promises a minute.
const fn default_sync() -> Duration {
    Duration::from_mins(3)
}

/// A zone that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostedZone {
    pub(super) id: String,
    pub(super) name: String,
    reference: String,
}

impl HostedZone {
    fn of(item: &Element) -> Self {
        Self {
            id: item.said(&["Id"]).trim_start_matches("/hostedzone/").to_owned(),
            name: item.said(&["Name"]).trim_end_matches('.').to_ascii_lowercase(),
            reference: item.said(&["CallerReference"]),
        }
    }

    /// We have made it.
    pub(super) fn is_ours(&self) -> bool {
        self.reference.starts_with(REFERENCE)
    }

    fn records(&self) -> String {
        format!("hostedzone/{}/rrset", encoded(&self.id))
    }
}

/// How a name came to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Created,
    Replaced,
    StoodThere,
}

/// How a name came to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removed {
    Now,
    WasNotThere,
    /// It was never ours; why it stays.
    SomebodyElses(String),
}

impl Aws {
    /// The zone that a name is in: the one that the configuration names, or the nearest one above it.
    pub(super) async fn zone_of(&self, name: &str) -> anyhow::Result<Option<HostedZone>> {
        let Options { hosted_zone_id, .. } = self.settings.part()?;
        if let Some(id) = hosted_zone_id {
            let question = Question::route53("GetHostedZone", Method::GET, &format!("hostedzone/{}", encoded(&id)));
            let answer = self.ask(&question).await?;
            let zone = answer.child("HostedZone").map(HostedZone::of);
            let zone = zone.ok_or_else(|| anyhow!("Route 53 shows no zone for `hosted_zone_id: {id}`"))?;
            ensure!(
                is_in(name, &zone.name),
                "`{name}` is not in the zone `{}` of `hosted_zone_id: {id}`; correct one of them",
                zone.name
            );
            return Ok(Some(zone));
        }
        for name in suffixes(name) {
            let found = self.zones_named(&name).await?;
            match found.as_slice() {
                [] => {}
                [zone] => return Ok(Some(zone.clone())),
                [_, _, ..] => {
                    let ids = found.iter().map(|zone| zone.id.as_str()).collect::<Vec<_>>().join(", ");
                    bail!("Route 53 has several zones `{name}` ({ids}): say which one as `hosted_zone_id`")
                }
            }
        }
        Ok(None)
    }

    async fn zones_named(&self, name: &str) -> Result<Vec<HostedZone>, CallError> {
        let question = Question::route53("ListHostedZonesByName", Method::GET, "hostedzonesbyname");
        let answer = self.ask(&question.with("dnsname", name).with("maxitems", "10")).await?;
        let zones = answer.all(&["HostedZones", "HostedZone"]).into_iter().map(HostedZone::of);
        Ok(zones.filter(|zone| zone.name == name).collect())
    }

    /// The zone that a name is in, which has to be there.
    pub(super) async fn zone(&self, name: &str) -> anyhow::Result<HostedZone> {
        let found = self.zone_of(name).await?;
        found.ok_or_else(|| {
            anyhow!("Route 53 has no zone with `{name}` in it: make one, or let us with `create_hosted_zone: true`")
        })
    }

    /// Makes a zone. The same reference makes one zone.
    pub(super) async fn create_zone(&self, name: &str, reference: &str) -> anyhow::Result<HostedZone> {
        let document = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CreateHostedZoneRequest \
             xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{}</Name>\
             <CallerReference>{REFERENCE}{}</CallerReference></CreateHostedZoneRequest>",
            escaped(name),
            escaped(reference)
        );
        let question = Question::route53("CreateHostedZone", Method::POST, "hostedzone").with_body(document);
        let answer = match self.ask(&question).await {
            // We were heard before, and did not hear of it.
            Err(error) if error.code() == Some("HostedZoneAlreadyExists") => return self.zone(name).await,
            answer => answer?,
        };
        self.until_in_sync(&answer).await?;
        let made = answer.child("HostedZone").map(HostedZone::of);
        made.ok_or_else(|| anyhow!("Route 53 answered CreateHostedZone without a zone"))
    }

    /// Takes a zone away; `false` if something is left in it, or it was gone.
    pub(super) async fn delete_zone(&self, zone: &HostedZone) -> anyhow::Result<bool> {
        let path = format!("hostedzone/{}", encoded(&zone.id));
        match self.ask(&Question::route53("DeleteHostedZone", Method::DELETE, &path)).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code(), Some("HostedZoneNotEmpty" | "NoSuchHostedZone")) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Points a name to an address, if nobody else has it.
    pub(super) async fn point(&self, zone: &HostedZone, claim: &Claim, target: &Target) -> anyhow::Result<Written> {
        let mut written = Written::StoodThere;
        for _ in 0..ATTEMPTS {
            let there = self.records_at(zone, &claim.name).await?;
            match record_sets::to_point(claim, target, &there) {
                Step::Nothing => return Ok(written),
                Step::SomebodyElses(theirs) => return Err(foreign(claim, &theirs)),
                Step::Change(batch) => {
                    written = if there.is_empty() { Written::Created } else { Written::Replaced };
                    if self.change(zone, &batch).await? {
                        return Ok(written);
                    }
                }
            }
        }
        Err(quarrel(claim))
    }

    /// Takes a name away, if it is ours.
    pub(super) async fn free(&self, zone: &HostedZone, claim: &Claim) -> anyhow::Result<Removed> {
        let mut removed = Removed::WasNotThere;
        for _ in 0..ATTEMPTS {
            let there = self.records_at(zone, &claim.name).await?;
            match record_sets::to_free(claim, &there) {
                Step::Nothing => return Ok(removed),
                Step::SomebodyElses(theirs) => return Ok(Removed::SomebodyElses(foreign(claim, &theirs).to_string())),
                Step::Change(batch) => {
                    removed = Removed::Now;
                    if self.change(zone, &batch).await? {
                        return Ok(removed);
                    }
                }
            }
        }
        Err(quarrel(claim))
    }

    /// Does a change and waits until all servers know it. `false`: somebody was faster, or we were and did not hear of
    /// it; a look decides.
    async fn change(&self, zone: &HostedZone, batch: &Batch) -> anyhow::Result<bool> {
        let path = format!("{}/", zone.records());
        let question = Question::route53("ChangeResourceRecordSets", Method::POST, &path);
        match self.ask(&question.with_body(batch.document())).await {
            Ok(answer) => self.until_in_sync(&answer).await.map(|()| true),
            Err(error) if error.code() == Some("InvalidChangeBatch") => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn until_in_sync(&self, answer: &Element) -> anyhow::Result<()> {
        let Options { sync_timeout, .. } = self.settings.part()?;
        let id = answer.said(&["ChangeInfo", "Id"]).trim_start_matches('/').to_owned();
        let question = Question::route53("GetChange", Method::GET, &id);
        let mut state = answer.said(&["ChangeInfo", "Status"]);
        let synced = async {
            while state != "INSYNC" {
                state = self.ask(&question).await?.said(&["ChangeInfo", "Status"]);
                if state != "INSYNC" {
                    sleep(&*self.clock, self.settings.pace.check_interval).await;
                }
            }
            Ok(())
        };
        let late = |_| {
            Err(anyhow!("Route 53 has the change ({id}) and not all of its servers know it after {sync_timeout:?}"))
        };
        timeout(&*self.clock, sync_timeout, synced).await.unwrap_or_else(late)
    }

    /// What stands at a name itself.
    async fn records_at(&self, zone: &HostedZone, name: &str) -> anyhow::Result<Vec<RecordSet>> {
        let question = listing(zone).with("name", name);
        let (sets, _) = page(&self.ask(&question).await?);
        Ok(sets.into_iter().filter(|set| set.name == name).collect())
    }

    /// All records at and below a domain.
    pub(super) async fn records_in(&self, zone: &HostedZone, domain: &str) -> anyhow::Result<Vec<RecordSet>> {
        let mut found = Vec::new();
        let mut next: Option<Next> = None;
        for _ in 0..MOST_PAGES {
            let question = match &next {
                None => listing(zone),
                Some(Next { name, kind, id }) => {
                    let question = listing(zone).with("name", name).with("type", kind);
                    question.with_some("identifier", id.as_deref())
                }
            };
            let (sets, following) = page(&self.ask(&question).await?);
            found.extend(sets.into_iter().filter(|set| is_in(&set.name, domain)));
            next = following;
            if next.is_none() {
                return Ok(found);
            }
        }
        bail!("the zone `{}` has more records than can be looked through; give names a smaller zone", zone.name)
    }
}

fn listing(zone: &HostedZone) -> Question {
    Question::route53("ListResourceRecordSets", Method::GET, &zone.records()).with("maxitems", PAGE)
}

/// Where the next page begins.
struct Next {
    name: String,
    kind: String,
    id: Option<String>,
}

fn page(answer: &Element) -> (Vec<RecordSet>, Option<Next>) {
    let sets = answer.all(&["ResourceRecordSets", "ResourceRecordSet"]).into_iter().map(RecordSet::of).collect();
    let next = (answer.text_at(&["IsTruncated"]) == Some("true")).then(|| Next {
        name: answer.said(&["NextRecordName"]),
        kind: answer.said(&["NextRecordType"]),
        id: answer.text_at(&["NextRecordIdentifier"]).map(str::to_owned),
    });
    (sets, next)
}

fn foreign(claim: &Claim, theirs: &str) -> anyhow::Error {
    let Claim { name, owner } = claim;
    anyhow!(
        "`{name}` belongs to somebody else and stays as it is: {theirs}; to give it to Petrel, remove that, or add the TXT \
         record \"petrel-owner={owner}\" there"
    )
}

fn quarrel(claim: &Claim) -> anyhow::Error {
    anyhow!("`{}` was changed by somebody else at each of {ATTEMPTS} attempts", claim.name)
}
