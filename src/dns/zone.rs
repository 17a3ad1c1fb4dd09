//! A zone at its primary server: names are taken, changed and given back there, each by one update that counts only if
//! the name is still as it was seen.

use std::sync::Arc;

use anyhow::{anyhow, bail, ensure};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use super::records::{self, Claim, Held, Target, shown};
use super::refusal::Wish;
use super::settings::Settings;
use super::wire::Session;
use crate::clock::Clock;

/// Each look that was overtaken means that somebody else got ahead; more than a few at one name is a quarrel.
const ATTEMPTS: usize = 8;
/// What stands at a name is shown in an error up to here.
const MOST_SHOWN_RECORDS: usize = 10;

/// A zone, and the connection over which it is changed.
pub(super) struct Zone {
    session: Session,
    pub(super) name: Name,
}

/// What became of an update with conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    ConditionUnmet,
}

/// How a name came to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Created,
    Replaced,
}

/// How a name came to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removed {
    Now,
    WasNotThere,
    /// It was never ours; why it stays.
    SomebodyElses(String),
}

/// Who has a name.
enum Holder {
    /// We do; these are all TXT records there.
    Us(Vec<Record>),
    Somebody(Vec<Record>),
    Nobody,
}

impl Zone {
    /// Connects, and finds the zone of a name.
    pub(super) async fn of(name: &Name, settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        if let Some(zone) = settings.zone.as_ref().filter(|zone| !zone.zone_of(name)) {
            let (name, zone) = (shown(name), shown(zone));
            bail!("`{name}` is not in the zone `{zone}` of configs/dns.yaml; leave `zone` out, or correct it");
        }
        let mut session = Session::connect(settings, clock).await?;
        let name = match &settings.zone {
            Some(zone) => zone.clone(),
            None => find(&mut session, name).await?,
        };
        Ok(Self { session, name })
    }

    /// Points a name to an address, if nobody else has it.
    pub(super) async fn upsert(&mut self, claim: &Claim, target: &Target) -> anyhow::Result<Written> {
        for _ in 0..ATTEMPTS {
            if self.update(records::create(&self.name, claim, target)).await? == Verdict::Done {
                return Ok(Written::Created);
            }
            match self.holder(claim).await? {
                Holder::Us(texts) => {
                    let update = records::replace(&self.name, claim, target, &texts);
                    if self.update(update).await? == Verdict::Done {
                        return Ok(Written::Replaced);
                    }
                }
                Holder::Somebody(records) => return Err(foreign(claim, &records)),
                Holder::Nobody => {}
            }
        }
        Err(quarrel(claim))
    }

    /// Takes a name away, if it is ours.
    pub(super) async fn delete(&mut self, claim: &Claim) -> anyhow::Result<Removed> {
        if self.update(records::remove_as_written(&self.name, claim)).await? == Verdict::Done {
            return Ok(Removed::Now);
        }
        for _ in 0..ATTEMPTS {
            // A look would not do: a wildcard gives an answer for names that are not there.
            if self.update(records::if_free(&self.name, &claim.name)).await? == Verdict::Done {
                return Ok(Removed::WasNotThere);
            }
            match self.holder(claim).await? {
                Holder::Us(texts) => {
                    if self.update(records::remove(&self.name, claim, &texts)).await? == Verdict::Done {
                        return Ok(Removed::Now);
                    }
                }
                Holder::Somebody(records) => return Ok(Removed::SomebodyElses(foreign(claim, &records).to_string())),
                Holder::Nobody => {}
            }
        }
        Err(quarrel(claim))
    }

    /// Our names at and below a domain.
    pub(super) async fn held(&mut self, domain: &Name, owner: Option<&str>) -> anyhow::Result<Vec<Held>> {
        let all = self.session.transfer(&self.name).await?;
        Ok(records::held(&all, domain, owner))
    }

    /// Asks for all that our updates ask for, and leaves nothing.
    pub(super) async fn probe(&mut self, claim: &Claim, target: &Target) -> anyhow::Result<()> {
        match self.update(records::probe(&self.name, claim, target)).await? {
            Verdict::Done => Ok(()),
            Verdict::ConditionUnmet => bail!("`{}`, by which updates are tried, is taken", shown(&claim.name)),
        }
    }

    async fn update(&mut self, update: Message) -> anyhow::Result<Verdict> {
        let wish = Wish::Update(&self.name);
        match self.session.ask(update, wish).await?.response_code {
            ResponseCode::NoError => Ok(Verdict::Done),
            ResponseCode::YXDomain | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::NXRRSet => {
                Ok(Verdict::ConditionUnmet)
            }
            other => Err(self.session.peer.refusal(wish, other)),
        }
    }

    async fn holder(&mut self, claim: &Claim) -> anyhow::Result<Holder> {
        let texts = self.records_at(&claim.name, RecordType::TXT).await?;
        if claim.is_marked_by(&texts) {
            return Ok(Holder::Us(texts));
        }
        let all = self.records_at(&claim.name, RecordType::ANY).await?;
        // Between the two looks it may have become ours.
        let overtaken = all.is_empty() || claim.is_marked_by(&all);
        Ok(if overtaken { Holder::Nobody } else { Holder::Somebody(all) })
    }

    /// What stands at a name itself; an alias brings records of others with it.
    async fn records_at(&mut self, name: &Name, kind: RecordType) -> anyhow::Result<Vec<Record>> {
        let mut answer = self.session.look(name, kind).await?;
        if !matches!(answer.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(self.session.peer.refusal(Wish::Look(name), answer.response_code));
        }
        answer
            .answers
            .retain(|record| record.name == *name && (kind == RecordType::ANY || record.record_type() == kind));
        Ok(answer.answers)
    }
}

/// Asks for the SOA record of the name, which a primary answers with that of the zone, and walks up where it does not.
async fn find(session: &mut Session, name: &Name) -> anyhow::Result<Name> {
    let mut asked = name.clone();
    loop {
        let answer = session.look(&asked, RecordType::SOA).await?;
        let code = answer.response_code;
        if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(session.peer.refusal(Wish::Look(name), code));
        }
        let mut records = answer.answers.iter().chain(&answer.authorities);
        let soa = records.find(|record| record.record_type() == RecordType::SOA && record.name.zone_of(name));
        if let Some(soa) = soa.filter(|_| answer.authoritative) {
            return Ok(soa.name.to_lowercase());
        }
        let handed_on = answer.authorities.iter().any(|record| record.record_type() == RecordType::NS);
        ensure!(
            answer.authoritative || !handed_on,
            "{} hands `{}` on to other servers; correct `server` in configs/dns.yaml",
            session.peer.server,
            shown(name)
        );
        asked = asked.base_name();
        ensure!(
            asked.iter().next().is_some(),
            "{} has no zone with `{}` in it; correct `server` in configs/dns.yaml, or make the zone there",
            session.peer.server,
            shown(name)
        );
    }
}

fn foreign(claim: &Claim, records: &[Record]) -> anyhow::Error {
    let stands = records.iter().take(MOST_SHOWN_RECORDS).map(|record| {
        let data = record.data.to_string();
        format!("{} {data}", record.record_type())
    });
    let stands = stands.collect::<Vec<_>>().join(", ");
    anyhow!(
        "`{name}` belongs to somebody else and stays as it is: {stands}; to give it to Petrel, remove that, or add the TXT \
         record \"petrel-owner={owner}\" there",
        name = shown(&claim.name),
        owner = claim.owner
    )
}

fn quarrel(claim: &Claim) -> anyhow::Error {
    anyhow!("`{}` was changed by somebody else at each of {ATTEMPTS} attempts", shown(&claim.name))
}
