//! A daemon among others: it says that it lives and what it has loaded, and takes what only one daemon does at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::model::pack::Catalogue;
use crate::store::daemons::DaemonRow;
use crate::store::{Daemons, StoreResult};

/// So often a daemon says that it lives. One that has missed two of these is shown as silent.
pub const SEEN_EVERY: Duration = Duration::from_secs(5);
/// A daemon that has said nothing for so long is listed no more.
pub const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// One daemon's membership.
#[derive(Debug)]
pub struct Membership {
    daemons: Daemons,
    clock: Arc<dyn Clock>,
    me: DaemonRow,
    catalogue: watch::Receiver<Arc<Catalogue>>,
}

impl Membership {
    /// Of the daemon that `me` describes.
    pub const fn new(
        daemons: Daemons,
        clock: Arc<dyn Clock>,
        me: DaemonRow,
        catalogue: watch::Receiver<Arc<Catalogue>>,
    ) -> Self {
        Self { daemons, clock, me, catalogue }
    }

    /// Says so until the token is cancelled, and then takes its leave: what it held alone is free at once.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            self.tick().await?;
            tokio::select! {
                () = clock::sleep(&*self.clock, SEEN_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(self.daemons.daemon_gone(&self.me.owner).await?)
    }

    /// Says it once.
    pub async fn tick(&self) -> StoreResult<()> {
        let now = self.clock.now();
        let catalogue = self.catalogue.borrow().source();
        self.daemons.daemon_seen(&DaemonRow { catalogue, seen_at: now, ..self.me.clone() }).await?;
        self.daemons.daemons_forget(now.minus(FORGOTTEN_AFTER)).await
    }
}

/// What one daemon of several does at a time, held by leases that run out soon after their holder's end.
#[derive(Debug, Clone)]
pub enum Turns {
    /// There is no other daemon.
    Alone,
    /// There may be.
    Shared {
        /// Where leases are.
        daemons: Daemons,
        /// The name of this daemon's leases.
        owner: String,
        /// Until when.
        clock: Arc<dyn Clock>,
    },
}

impl Turns {
    /// How long a holder may say nothing before another one takes over.
    pub const LEASE: Duration = Duration::from_secs(10);
    /// How often a holder extends, and others look.
    pub const EVERY: Duration = Duration::from_secs(3);

    /// Takes or extends a turn. `false`: another daemon has it.
    pub async fn take(&self, name: &str) -> StoreResult<bool> {
        match self {
            Self::Alone => Ok(true),
            Self::Shared { daemons, owner, clock } => {
                let now = clock.now();
                daemons.lease_take(name, owner, now.plus(Self::LEASE), now).await
            }
        }
    }

    /// Keeps a turn while `pause` passes. `false`: it was lost.
    pub async fn keep_for(&self, name: &str, pause: Duration, clock: &dyn Clock) -> StoreResult<bool> {
        let until = clock.monotonic().saturating_add(pause);
        loop {
            let left = until.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return Ok(true);
            }
            match self {
                Self::Alone => clock.sleep_for(left).await,
                Self::Shared { .. } => {
                    clock.sleep_for(left.min(Self::EVERY)).await;
                    if !self.take(name).await? {
                        return Ok(false);
                    }
                }
            }
        }
    }
}
