//! The connection for publishing, one life after the other, and what is said about it. Publishing has a connection of its
//! own: a broker that lacks memory stops reading from those who publish, and must still hear what is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::FutureExt;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::connection::{Change, Connector, Life};
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
    /// All places free: nobody publishes.
    pub(super) window: Arc<super::publisher::Window>,
}

impl Publishing {
    /// Lives one life. Whoever calls begins the next one.
    pub(super) async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let end = self.live(&stop).await;
        let why = match &end {
            Ok(()) => "the daemon stops".to_owned(),
            Err(problem) => format!("{problem:#}"),
        };
        self.standing.send_replace(Standing::away(why));
        end
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
        let mut settles_at = (age == Age::Fresh).then(|| self.clock.monotonic() + self.grace);
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
                    topology::mark_settled(&lanes.hints, &self.names).await.context("marking the queue as settled")?;
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

    async fn set_up(&self, life: &mut Life) -> anyhow::Result<(Lanes, Age)> {
        let age = topology::declare(life.connection(), &self.names).await?;
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
        if clock::timeout(&*self.clock, FAREWELL, self.window.all_left()).await.is_err() {
            tracing::warn!("the daemon stops while deliveries wait for the broker; their senders were told nothing");
        }
        life.close().await;
    }
}
