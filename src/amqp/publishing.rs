//! The connection for publishing, one life after the other, and what is said about it. Publishing has a connection of its
//! own: a broker that lacks memory stops reading from those who publish, and must still hear what is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::FutureExt;
use lapin::Connection;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::connection::{Change, Connector, Life, told};
use super::publisher::Publisher;
use super::standing::{Lanes, Refusal, Standing};
use super::topology::{self, Age, Names};
use crate::clock::{self, Clock};
use crate::metrics::Metrics;

/// A broker that recovers its queues answers late, but not later than this.
pub(super) const SETUP_LIMIT: Duration = Duration::from_secs(20);
/// Publishers that are at work when the daemon stops get this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Keeps a connection for publishing.
pub(super) struct Publishing {
    pub(super) connector: Connector,
    pub(super) names: Names,
    /// How long a new queue takes nothing.
    pub(super) grace: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) standing: watch::Sender<Standing>,
    /// Somebody found the queue gone.
    pub(super) queue_gone: Arc<Notify>,
    pub(super) publisher: Arc<Publisher>,
    /// This process has made the queue, and nobody has trusted it since: nothing that was accepted is in it.
    pub(super) is_ours_and_unused: AtomicBool,
}

impl Publishing {
    /// Lives one life. Whoever calls begins the next one.
    pub(super) async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let end = self.live(&stop).await.map_err(|problem| told(&problem));
        let why = end.as_ref().err().cloned().unwrap_or_else(|| "the daemon stops".to_owned());
        self.standing.send_replace(Standing::away(why));
        end.map_err(anyhow::Error::msg)
    }

    async fn live(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut life = tokio::select! {
            life = self.connector.connect("publishing") => life?,
            () = stop.cancelled() => return Ok(()),
        };
        let setup = clock::timeout(&*self.clock, SETUP_LIMIT, self.set_up(&mut life)).await;
        let (lanes, age) = setup.map_err(|elapsed| anyhow!(elapsed)).flatten().context("declaring the queue")?;
        self.metrics.bus_connected("publishing");
        // Whoever found the queue gone before this life has been heard.
        self.queue_gone.notified().now_or_never();
        self.note(age);
        let mut settles_at = (age != Age::Settled).then(|| self.clock.monotonic() + self.grace);
        let mut blocked = None;
        loop {
            let refusal = blocked.clone().or_else(|| settles_at.map(|_| Refusal::Settling));
            self.standing.send_replace(Standing::connected(lanes.clone(), refusal));
            tokio::select! {
                change = life.change() => match change {
                    Change::Blocked(why) => blocked = Some(Refusal::Blocked(why)),
                    Change::Unblocked => blocked = None,
                    Change::Ended(why) => return Err(anyhow!("the connection to the broker ended: {why}")),
                },
                () = self.settling(settles_at) => {
                    self.settle(&life.connection(), &lanes).await?;
                    settles_at = None;
                }
                () = self.queue_gone.notified() => return Err(anyhow!("the queue {} is gone", self.names.arrivals)),
                () = stop.cancelled() => {
                    self.say_farewell(life).await;
                    return Ok(());
                }
            }
        }
    }

    fn note(&self, age: Age) {
        match age {
            Age::Made => self.is_ours_and_unused.store(true, Ordering::Release),
            Age::Settled => self.is_ours_and_unused.store(false, Ordering::Release),
            Age::Unmarked => {}
        }
    }

    /// The queue is old enough: if it works, all daemons may know.
    async fn settle(&self, broker: &Connection, lanes: &Lanes) -> anyhow::Result<()> {
        let Err(refusal) = self.publisher.try_queue(&lanes.arrivals).await else {
            topology::mark_settled(&lanes.hints, &self.names).await.context("marking the queue as settled")?;
            self.is_ours_and_unused.store(false, Ordering::Release);
            return Ok(());
        };
        let queue = &self.names.arrivals;
        if !self.is_ours_and_unused.load(Ordering::Acquire) || topology::is_marked(broker, &self.names).await? {
            let way_out = "if no daemon has ever accepted events into it, delete it";
            return Err(anyhow!("the queue {queue} does not confirm what it is given; {way_out}").context(refusal));
        }
        tracing::warn!(queue, %refusal, "the queue that was just made does not work: it is made once more");
        let dropped = clock::timeout(&*self.clock, SETUP_LIMIT, topology::drop_queue(&lanes.hints, &self.names)).await;
        dropped.map_err(|elapsed| anyhow!(elapsed))?.with_context(|| format!("deleting the queue {queue}"))?;
        Err(anyhow!("the queue {queue} is made once more"))
    }

    async fn set_up(&self, life: &mut Life) -> anyhow::Result<(Lanes, Age)> {
        let age = topology::declare(&life.connection(), &self.names).await?;
        let lanes = Lanes { arrivals: life.channel().await?, hints: life.channel().await? };
        lanes.arrivals.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok((lanes, age))
    }

    /// Returns when the queue is old enough; never if it is already.
    async fn settling(&self, settles_at: Option<Duration>) {
        match settles_at {
            Some(at) => self.clock.sleep_for(at.saturating_sub(self.clock.monotonic())).await,
            None => std::future::pending().await,
        }
    }

    /// Doors close at the same moment; who came in before gets an answer.
    async fn say_farewell(&self, life: Life) {
        if clock::timeout(&*self.clock, FAREWELL, self.publisher.window.all_left()).await.is_err() {
            tracing::warn!("the daemon stops while deliveries wait for the broker; their senders were told nothing");
        }
        life.close().await;
    }
}
