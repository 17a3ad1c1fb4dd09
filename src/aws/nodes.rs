//! The role `provider`: one instance for each node that is wanted, none for those that are not.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use super::calls::Aws;
use super::instances::{Instance, InstanceState, TAG_IDEM, Which};
use super::node_wish::{NodeWish, Placement};
use super::refusal::{CallError, Nature};
use super::settings::AddressType;
use crate::clock::{sleep, timeout};
use crate::model::group::GroupName;
use crate::model::node::NodeName;

/// So often a node that has died may be seen without a living one beside it before it is believed.
const LOOKS_AT_A_DEAD_NODE: u32 = 2;

/// What became of a question for an instance at one place.
enum Made {
    Here(Box<Instance>),
    NoCapacity(CallError),
}

impl Aws {
    /// Makes sure that there is exactly one instance for a wish.
    pub(super) async fn create(&self, wish: &NodeWish) -> anyhow::Result<Instance> {
        let which = Which { group: Some(&wish.group), name: Some(&wish.name), tag: Some(&wish.tag) };
        let there = self.instances(which).await?;
        let (living, dead): (Vec<_>, Vec<_>) = there.into_iter().partition(|instance| instance.state.exists());
        if let Some(kept) = self.keep_one(living).await? {
            return Ok(kept);
        }
        let dead: Vec<&str> = dead.iter().map(|instance| instance.id.as_str()).collect();
        let made = self.make(wish, which, &dead).await?;
        // Somebody may have asked at the same time, or an earlier question may have been heard late.
        Ok(self.keep_one(self.existing(which).await?).await?.unwrap_or(made))
    }

    /// Tries one place after the other.
    async fn make(&self, wish: &NodeWish, which: Which<'_>, dead: &[&str]) -> anyhow::Result<Instance> {
        let mut refusals = Vec::new();
        for placement in wish.placements() {
            match self.make_at(wish, which, &placement, dead).await? {
                Made::Here(instance) => return Ok(*instance),
                Made::NoCapacity(error) => refusals.push(format!("{placement}: {error}")),
            }
        }
        bail!("there is no capacity for {}: {}", wish.name, refusals.join("; "))
    }

    async fn make_at(
        &self,
        wish: &NodeWish,
        which: Which<'_>,
        placement: &Placement,
        dead: &[&str],
    ) -> anyhow::Result<Made> {
        let question = wish.question(placement, dead);
        let mut patience = self.patience();
        loop {
            let error = match self.ask_once(&question).await {
                Ok(answer) => {
                    let made = Instance::made_by(&answer).context("EC2 answered RunInstances without an instance")?;
                    return Ok(Made::Here(Box::new(made)));
                }
                Err(error) => error,
            };
            if !error.is_clear()
                && let Some(made) = self.existing(which).await?.into_iter().next()
            {
                return Ok(Made::Here(Box::new(made)));
            }
            match error.nature() {
                Nature::NoCapacity => return Ok(Made::NoCapacity(error)),
                Nature::No => return Err(error.into()),
                Nature::Throttled | Nature::Unclear => {}
            }
            if !patience.rest().await {
                let unclear = anyhow!("making {}, which may have been made: the next attempt will look", wish.name);
                return Err(if error.is_clear() { error.into() } else { anyhow::Error::new(error).context(unclear) });
            }
        }
    }

    /// Makes sure that a node is no more; whether there was something to end.
    pub(super) async fn delete(&self, which: Which<'_>) -> anyhow::Result<bool> {
        let pace = self.settings.pace;
        let mut seen = self.instances(which).await?;
        if !seen.iter().any(|instance| instance.state.exists()) {
            // It may have been made a moment ago and not be shown yet, beside dead ones that once had its name.
            sleep(&*self.clock, pace.settle).await;
            seen = self.instances(which).await?;
        }
        let mut living: Vec<Instance> = seen.into_iter().filter(|instance| instance.state.exists()).collect();
        let found = !living.is_empty();
        let ended = async {
            while !living.is_empty() {
                for instance in &living {
                    self.terminate(&instance.id).await?;
                }
                living = self.existing(which).await?;
                if !living.is_empty() {
                    sleep(&*self.clock, pace.check_interval).await;
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        let limit = pace.patience.saturating_mul(2);
        let late = |_| Err(anyhow!("EC2 still shows the instance {limit:?} after it was told to end it"));
        timeout(&*self.clock, limit, ended).await.unwrap_or_else(late)?;
        Ok(found)
    }

    /// Waits until a node runs and has an address.
    pub(super) async fn wait_ready(
        &self,
        group: &GroupName,
        name: &NodeName,
        sort: Option<AddressType>,
        within: Duration,
    ) -> anyhow::Result<(Instance, String)> {
        let which = Which { group: Some(group), name: Some(name), tag: None };
        let mut last = format!("EC2 knows no instance of {name}");
        let waited = timeout(&*self.clock, within, self.until_ready(which, sort, &mut last)).await;
        let late = |_| Err(anyhow!("it was not ready within {within:?}: {last}"));
        waited.unwrap_or_else(late).with_context(|| format!("waiting for {name}"))
    }

    async fn until_ready(
        &self,
        which: Which<'_>,
        sort: Option<AddressType>,
        last: &mut String,
    ) -> anyhow::Result<(Instance, String)> {
        let begun = self.clock.monotonic();
        let mut looks_at_a_dead_one = 0;
        loop {
            let seen = self.instances(which).await?;
            let (living, dead): (Vec<_>, Vec<_>) = seen.into_iter().partition(|it| it.state.exists());
            if let Some(instance) = self.the_one(living).await? {
                if let Some(address) = ready_at(&instance, sort, self.settings.address_type) {
                    return Ok((instance, address));
                }
                *last = standing(&instance);
            } else if let Some(dead) = dead.last() {
                *last = standing(dead);
                looks_at_a_dead_one += 1;
                // it may be a predecessor of the same name, and ours not be shown yet
                let settled = self.clock.monotonic().saturating_sub(begun) > self.settings.pace.settle;
                ensure!(!settled || looks_at_a_dead_one < LOOKS_AT_A_DEAD_NODE, "it died: {last}");
            }
            sleep(&*self.clock, self.settings.pace.check_interval).await;
        }
    }

    async fn existing(&self, which: Which<'_>) -> anyhow::Result<Vec<Instance>> {
        let seen = self.instances(which).await?;
        Ok(seen.into_iter().filter(|instance| instance.state.exists()).collect())
    }

    /// Of several instances of one wish the oldest stays, for whoever looks; the others end.
    async fn keep_one(&self, oldest_first: Vec<Instance>) -> anyhow::Result<Option<Instance>> {
        let mut living = oldest_first.into_iter();
        let kept = living.next();
        for surplus in living {
            tracing::warn!(instance = %surplus.id, node = surplus.node(), "ending an instance that a node has too many");
            self.terminate(&surplus.id).await?;
        }
        Ok(kept)
    }

    /// The instance of a node, if all that live were made for the same wish.
    async fn the_one(&self, living: Vec<Instance>) -> anyhow::Result<Option<Instance>> {
        let wishes: BTreeSet<_> = living.iter().map(|instance| instance.tag(TAG_IDEM)).collect();
        if wishes.len() > 1 {
            let ids = living.iter().map(|instance| instance.id.as_str()).collect::<Vec<_>>().join(", ");
            bail!("instances of different wishes have the same name: {ids}; end those that are not needed");
        }
        self.keep_one(living).await
    }
}

fn ready_at(instance: &Instance, sort: Option<AddressType>, otherwise: AddressType) -> Option<String> {
    let address = match sort {
        Some(sort) => instance.address_of(sort),
        None => instance.address(otherwise),
    };
    address.filter(|_| instance.state == InstanceState::Running).map(str::to_owned)
}

fn standing(instance: &Instance) -> String {
    let Instance { id, state, reason, .. } = instance;
    match (reason.as_str(), state) {
        ("", InstanceState::Running) => format!("{id} is running and has no address of the wanted sort"),
        ("", state) => format!("{id} is {}", state.as_str()),
        (reason, state) => format!("{id} is {}: {reason}", state.as_str()),
    }
}
