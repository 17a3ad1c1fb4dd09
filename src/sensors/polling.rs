//! Runs the polling sensors of packs: asks each source again and again, makes what it says durable, and only then
//! remembers how far it has read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hooks::{Hooks, config_of};
use super::mapping::{HttpGet, Poller};
use crate::clock::Clock;
use crate::cluster::Turns;
use crate::model::pack::Catalogue;
use crate::model::refs::SensorRef;
use crate::model::trigger::{PollingSource, Sensor, SensorSource};
use crate::store::Contents;
use crate::supervise::{Backoff, Supervisor};

/// A source that does not answer within this time is not there.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer of a source.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Between polls that fail; never less than the sensor's own time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The polling sensors of all packs.
pub struct Polls {
    hooks: Hooks,
    contents: Contents,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    turns: Turns,
    http: reqwest::Client,
}

impl std::fmt::Debug for Polls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Polls")
    }
}

impl Polls {
    /// Over the sensors of `catalogue`; `hooks` makes durable what they emit.
    pub fn new(
        hooks: Hooks,
        contents: Contents,
        clock: Arc<dyn Clock>,
        supervisor: Supervisor,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        turns: Turns,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(FETCH_TIMEOUT).build().context("an HTTP client for sensors")?;
        Ok(Self { hooks, contents, clock, supervisor, catalogue, turns, http })
    }

    /// Polls until the token is cancelled. Each sensor goes at its own pace: none waits for another one.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut catalogue = self.catalogue.clone();
        let mut running = BTreeSet::new();
        let mut polls = FuturesUnordered::new();
        while !stop.is_cancelled() {
            for sensor in polled_sensors(&catalogue.borrow_and_update()) {
                if running.insert(sensor.clone()) {
                    polls.push(self.keep_polling(sensor, &stop));
                }
            }
            tokio::select! {
                changed = catalogue.changed() => changed?,
                Some(ended) = polls.next() => { running.remove(&ended); }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Polls one sensor until the catalogue has it no more; gives back which.
    async fn keep_polling(&self, reference: SensorRef, stop: &CancellationToken) -> SensorRef {
        let mut catalogue = self.catalogue.clone();
        let mut trouble = Trouble::new(&reference);
        loop {
            let Some(sensor) = catalogue.borrow_and_update().sensors.get(&reference).map(Arc::clone) else {
                return reference;
            };
            let Some(source) = polling(&sensor) else { return reference };
            let turn = format!("sensor:{reference}");
            let pause = match self.poll_if_mine(&turn, &sensor, source, stop).await {
                Ok(Polled::Here) => trouble.over(source.every),
                Ok(Polled::Elsewhere) => Turns::EVERY,
                Err(problem) => trouble.meet(&problem, source.every),
            };
            let changed = catalogue.wait_for(|now| now.sensors.get(&reference) != Some(&sensor));
            tokio::select! {
                // A turn that is lost in the pause is asked for again after it.
                kept = self.turns.keep_for(&turn, pause, &*self.clock) => drop(kept),
                changed = changed => { if changed.is_err() { return reference; } }
            }
        }
    }

    /// Of several daemons one polls a sensor.
    async fn poll_if_mine(
        &self,
        turn: &str,
        sensor: &Sensor,
        source: &PollingSource,
        stop: &CancellationToken,
    ) -> anyhow::Result<Polled> {
        if !self.turns.take(turn).await? {
            return Ok(Polled::Elsewhere);
        }
        self.poll(sensor, source, stop).await?;
        Ok(Polled::Here)
    }

    /// Polls once. The state is written last: after a crash in between the same is emitted again, under the same keys.
    async fn poll(&self, sensor: &Sensor, source: &PollingSource, stop: &CancellationToken) -> anyhow::Result<()> {
        let setting = format!("sensor:{}", sensor.reference);
        let old_text = self.contents.setting_get(&setting).await?;
        let old_state = read_state(old_text.as_deref()).with_context(|| format!("the stored state `{setting}`"))?;
        let config = config_of(&self.catalogue.borrow(), sensor.reference.pack());
        let (source, state) = (source.clone(), old_state.clone());
        let http_get = self.http_get(stop);
        let work = move || -> anyhow::Result<_> {
            let poller = Poller::compile(&source.source, &source.script.display().to_string())?;
            Ok(poller.poll(&state, &config, http_get)?)
        };
        let polled = self.supervisor.spawn_blocking(format!("poll {}", sensor.reference), work).await??;
        self.hooks.accept(polled.emits).await?;
        if polled.state != old_state {
            let (old, new) = (old_text.as_deref(), polled.state.to_string());
            let ours = self.contents.setting_swap(&setting, old, &new).await?;
            anyhow::ensure!(ours, "another daemon has read on meanwhile; what was read here comes from before that");
        }
        Ok(())
    }

    /// For a script on a thread that may block; a daemon that stops does not wait for slow sources.
    fn http_get(&self, stop: &CancellationToken) -> HttpGet {
        let (http, stop, runtime) = (self.http.clone(), stop.clone(), Handle::current());
        Arc::new(move |url| {
            runtime.block_on(async {
                tokio::select! {
                    body = fetch(&http, url) => body.map_err(|problem| format!("{problem:#}")),
                    () = stop.cancelled() => Err("the daemon stops".to_owned()),
                }
            })
        })
    }
}

/// Who polled.
enum Polled {
    Here,
    Elsewhere,
}

fn read_state(text: Option<&str>) -> serde_json::Result<Value> {
    text.map_or(Ok(Value::Null), serde_json::from_str)
}

async fn fetch(http: &reqwest::Client, url: &str) -> anyhow::Result<String> {
    let mut response = http.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        anyhow::ensure!(body.len() + chunk.len() <= MAX_BODY_BYTES, "the answer is longer than {MAX_BODY_BYTES} bytes");
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).context("the answer is not text")
}

fn polled_sensors(catalogue: &Catalogue) -> Vec<SensorRef> {
    let sensors = catalogue.sensors.values().filter(|sensor| polling(sensor).is_some());
    sensors.map(|sensor| sensor.reference.clone()).collect()
}

/// How to poll a sensor, if it is one that is polled.
fn polling(sensor: &Sensor) -> Option<&PollingSource> {
    match &sensor.source {
        SensorSource::Polling(source) if sensor.enabled => Some(source),
        SensorSource::Polling(_) | SensorSource::Webhook(_) | SensorSource::Python { .. } => None,
    }
}

/// Says what is wrong with a sensor once, not at every poll, and asks it less often meanwhile.
struct Trouble {
    sensor: SensorRef,
    problem: Option<String>,
    backoff: Backoff,
}

impl Trouble {
    fn new(sensor: &SensorRef) -> Self {
        Self { sensor: sensor.clone(), problem: None, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    /// A poll went well; gives back the pause before the next.
    fn over(&mut self, every: Duration) -> Duration {
        if self.problem.take().is_some() {
            tracing::info!(sensor = %self.sensor, "the sensor can be polled again");
        }
        self.backoff.reset();
        every
    }

    /// A poll went wrong; gives back the pause before the next.
    fn meet(&mut self, problem: &anyhow::Error, every: Duration) -> Duration {
        let problem = format!("{problem:#}");
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(sensor = %self.sensor, problem, "a sensor cannot be polled; it is tried again");
            self.problem = Some(problem);
        }
        self.backoff.next_delay().max(every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_in_trouble_is_asked_less_often_until_it_is_well_and_never_sooner_than_it_wants() {
        let mut trouble = Trouble::new(&"demo.sensor".parse().unwrap());
        let every = Duration::from_secs(3);
        let problem = anyhow::anyhow!("gone");
        let pauses: Vec<u64> = (0..4).map(|_| trouble.meet(&problem, every).as_secs()).collect();
        assert_eq!(pauses, [3, 3, 4, 8]);
        assert_eq!(trouble.over(every), every);
        assert_eq!(trouble.meet(&problem, every), every);
    }
}
