//! The connection for receiving, one life after the other: hints of other daemons, and, where rules run, deliveries.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use lapin::Channel;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::connection::{Connector, Life, told};
use super::consumer::Arrivals;
use super::hints::SharedBus;
use super::publishing::SETUP_LIMIT;
use super::standing::Standing;
use super::topology::Names;
use crate::clock::{self, Clock};
use crate::metrics::Metrics;

/// Keeps a connection for receiving.
pub(super) struct Receiving {
    pub(super) connector: Connector,
    pub(super) names: Names,
    pub(super) bus: Arc<SharedBus>,
    pub(super) arrivals: Option<Arrivals>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) queue_gone: Arc<Notify>,
    pub(super) standing: watch::Receiver<Standing>,
}

impl Receiving {
    /// Lives one life. Whoever calls begins the next one. Stopped in the middle of a commit, what it was about comes again.
    pub(super) async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        self.live(&stop).await.map_err(|problem| anyhow::Error::msg(told(&problem)))
    }

    async fn live(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut life = tokio::select! {
            life = self.connector.connect("receiving") => life?,
            () = stop.cancelled() => return Ok(()),
        };
        let setup = clock::timeout(&*self.clock, SETUP_LIMIT, self.set_up(&mut life)).await;
        let (hints, deliveries) =
            setup.map_err(|elapsed| anyhow!(elapsed)).flatten().context("preparing to receive")?;
        self.metrics.bus_connected("receiving");
        tokio::select! {
            end = self.bus.listen_to_others(&hints, &self.names) => end,
            end = self.land(&deliveries) => end,
            why = life.end() => Err(anyhow!("the connection to the broker ended: {why}")),
            () = stop.cancelled() => {
                Life::close(life).await;
                Ok(())
            }
        }
    }

    /// Whoever publishes has made the queue before.
    async fn set_up(&self, life: &mut Life) -> anyhow::Result<(Channel, Channel)> {
        let mut standing = self.standing.clone();
        standing.wait_for(Standing::is_connected).await?;
        Ok((life.channel().await?, life.channel().await?))
    }

    async fn land(&self, channel: &Channel) -> anyhow::Result<()> {
        let Some(arrivals) = &self.arrivals else { return std::future::pending().await };
        let end = arrivals.consume(channel).await;
        // A subscription that ends while its channel stands has lost its queue.
        if channel.status().connected() {
            self.queue_gone.notify_one();
        }
        end
    }
}
