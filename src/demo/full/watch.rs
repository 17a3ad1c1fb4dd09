//! What is seen of the story twice a second by somebody who believes nobody's word: the load by its sender, the servers by
//! HAProxy, the processes by the machine, the incidents by Alertmanager.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::rig::Rig;
use crate::clock::{self, Clock};
use crate::demo::timeline::Timeline;
use crate::demo::witness::Witness;
use crate::local::load::{Counts, Load};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Whoever does not answer in this time is left out of a sample, and that is an error of the story.
const PATIENCE: Duration = Duration::from_secs(10);

/// One look.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// Since the beginning.
    pub(super) at: Duration,
    /// Requests a second that the world sends.
    pub(super) offered: f64,
    /// Requests a second that were answered well.
    pub(super) answered: f64,
    /// Requests that were not, all in all.
    pub(super) failed: u64,
    /// Requests that wait for a node.
    pub(super) waiting: u64,
    /// Servers that get requests.
    pub(super) in_service: u32,
    /// Processes of nodes.
    pub(super) nodes: u32,
    /// Open incidents.
    pub(super) incidents: u32,
}

/// Whoever looks.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    timeline: Timeline,
    witness: Arc<Witness>,
    load: Arc<Load>,
    haproxy: PathBuf,
    alertmanager: String,
    http: reqwest::Client,
    samples: Mutex<Vec<Sample>>,
    troubles: Mutex<Vec<String>>,
}

/// What HAProxy says of its backend.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Backend {
    /// Requests that wait.
    pub(super) waiting: u64,
    /// Servers by name, and whether they get requests.
    pub(super) servers: Vec<(String, bool)>,
}

impl Watch {
    /// Of this rig.
    pub(super) fn new(
        rig: &Rig,
        timeline: Timeline,
        witness: Arc<Witness>,
        load: Arc<Load>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            clock,
            timeline,
            witness,
            load,
            haproxy: rig.haproxy_socket(),
            alertmanager: format!("http://127.0.0.1:{}/api/v2/alerts?active=true", rig.port("ALERTMANAGER")),
            http: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?,
            samples: Mutex::default(),
            troubles: Mutex::default(),
        })
    }

    /// Looks until it is told to stop.
    pub(super) async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut before, mut looked_at) = (self.load.counts(), self.timeline.elapsed());
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = clock::sleep(&*self.clock, LOOK_EVERY) => {}
            }
            let (counts, at) = (self.load.counts(), self.timeline.elapsed());
            let seconds = at.saturating_sub(looked_at).as_secs_f64();
            match self.look(at, counts, before, seconds).await {
                Ok(sample) => self.locked().push(sample),
                Err(trouble) => self.trouble(format!("at {:.1} s nobody could look: {trouble:#}", at.as_secs_f64())),
            }
            (before, looked_at) = (counts, at);
        }
    }

    /// All that was seen so far.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.locked().clone()
    }

    /// Looks that failed: what was not seen cannot be said to have been well.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trouble(&self, trouble: String) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(trouble);
    }

    /// What HAProxy has at this moment.
    pub(super) async fn backend(&self) -> anyhow::Result<Backend> {
        let asked = async {
            let mut stream = UnixStream::connect(&self.haproxy).await?;
            stream.write_all(b"show stat\n").await?;
            let mut said = String::new();
            stream.read_to_string(&mut said).await?;
            anyhow::Ok(said)
        };
        let said = clock::timeout(&*self.clock, PATIENCE, asked).await.context("HAProxy does not answer")??;
        Ok(backend(&said))
    }

    async fn look(&self, at: Duration, now: Counts, before: Counts, seconds: f64) -> anyhow::Result<Sample> {
        let backend = self.backend().await?;
        let processes = self.witness.processes()?;
        Ok(Sample {
            at,
            offered: per_second(now.due - before.due, seconds),
            answered: per_second(now.ok - before.ok, seconds),
            failed: now.failed(),
            waiting: backend.waiting,
            in_service: count(backend.servers.iter().filter(|(_, serves)| *serves)),
            nodes: count(processes.values().flatten()),
            incidents: self.incidents().await?,
        })
    }

    async fn incidents(&self) -> anyhow::Result<u32> {
        let answer = self.http.get(&self.alertmanager).send().await.context("asking Alertmanager")?;
        let alerts: Vec<Value> = answer.error_for_status()?.json().await?;
        Ok(count(alerts.iter()))
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer requests than a float can tell apart")]
fn per_second(requests: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { requests as f64 / seconds } else { 0.0 }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// The table of `show stat`, by the names of its columns.
fn backend(table: &str) -> Backend {
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let mut found = Backend::default();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |name: &str| {
            let place = names.iter().position(|known| *known == name);
            place.and_then(|place| fields.get(place)).copied().unwrap_or_default()
        };
        match (field("pxname"), field("svname")) {
            ("web", "BACKEND") => found.waiting = field("qcur").parse().unwrap_or_default(),
            ("web", server) => found.servers.push((server.to_owned(), field("status").starts_with("UP"))),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxys_table_is_read_by_the_names_of_its_columns() {
        let table = "# pxname,svname,qcur,status\nto_web,FRONTEND,,OPEN\nweb,web-001,0,UP\nweb,web-002,3,MAINT\n\
                     web,BACKEND,12,UP\n\n";
        let servers = vec![("web-001".to_owned(), true), ("web-002".to_owned(), false)];
        assert_eq!(backend(table), Backend { waiting: 12, servers });
    }
}
