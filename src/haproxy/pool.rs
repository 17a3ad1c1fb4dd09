//! How nodes go out of service: no new requests first, then no server. Each may be repeated from any point.

use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::commands::{Deletion, Seat};
use super::names::Name;
use super::runtime::{Runtime, RuntimeError};
use super::servers::{Mode, Server};
use super::settings::CheckOptions;
use crate::clock::Clock;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What still has sessions when it is deleted was given its time to drain before, or is dead. They end by themselves
/// for so long; then they are ended.
const SESSIONS_MAY_TAKE: Duration = Duration::from_secs(5);

/// HAProxy deletes a server within milliseconds after its last session.
const DELETION_MAY_TAKE: Duration = Duration::from_secs(15);

/// Servers of a pool that are taken away at the same time.
const AT_ONCE: usize = 8;

/// The servers of one HAProxy.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) runtime: Runtime,
    /// What a new server is given.
    pub(super) check: CheckOptions,
}

/// A time by which something must have happened.
pub(super) struct Deadline<'c> {
    clock: &'c dyn Clock,
    at: Duration,
}

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    NotThere,
    /// So many sessions and requests are left.
    Left(u64),
}

/// What became of a server that is to serve no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    NotThere,
    Deleted,
    /// The configuration file refers to it by name, so it stays, and is given no requests.
    LeftInMaintenance,
}

impl Pool {
    /// Gives a server no new requests and waits until it has none, or the time is over.
    pub(super) async fn drain(&self, seat: &Seat, within: Duration) -> anyhow::Result<Drained> {
        let deadline = Deadline::after(self.runtime.clock(), within);
        let mut is_late = false;
        loop {
            let Some(server) = self.runtime.server(seat).await? else { return Ok(Drained::NotThere) };
            let is_out = server.mode != Mode::Ready;
            if is_out && (is_late || server.load.is_none()) {
                return Ok(Drained::Left(server.load.sessions + server.load.queued));
            }
            ensure!(!is_late, "somebody lets `{}` serve again and again while it is drained", seat.server);
            if !is_out {
                self.runtime.set_mode(seat, Mode::Drain).await?;
            }
            self.look_later().await;
            is_late = deadline.has_passed();
        }
    }

    /// Takes a server away. What it still has in hand may end by itself, but not for ever.
    pub(super) async fn remove(&self, seat: &Seat) -> anyhow::Result<Removal> {
        let sessions_end = Deadline::after(self.runtime.clock(), SESSIONS_MAY_TAKE);
        let deadline = Deadline::after(self.runtime.clock(), DELETION_MAY_TAKE);
        let mut outcome = Removal::NotThere;
        while let Some(server) = self.left_over(seat).await? {
            outcome = Removal::Deleted;
            if server.mode != Mode::Maint {
                self.runtime.set_mode(seat, Mode::Maint).await?;
            }
            match self.runtime.delete_server(seat).await? {
                Deletion::Gone => break,
                Deletion::Pinned => return Ok(Removal::LeftInMaintenance),
                Deletion::Busy | Deletion::InService if deadline.has_passed() => bail!(too_busy(seat, &server)),
                Deletion::Busy if sessions_end.has_passed() => self.runtime.end_sessions(seat).await?,
                Deletion::Busy | Deletion::InService => {}
            }
            self.look_later().await;
        }
        Ok(outcome)
    }

    /// In a backend that HAProxy does not have there is no server: a group that was never set up for want of it can go.
    async fn left_over(&self, seat: &Seat) -> Result<Option<Server>, RuntimeError> {
        match self.runtime.server(seat).await {
            Err(RuntimeError::NoBackend(_)) => Ok(None),
            found => found,
        }
    }

    /// Takes all servers of a backend away.
    pub(super) async fn clear(&self, backend: &Name, drain_within: Duration) -> anyhow::Result<Vec<(Name, Removal)>> {
        let servers = match self.runtime.servers(backend).await {
            Err(RuntimeError::NoBackend(_)) => return Ok(Vec::new()),
            found => found?,
        };
        let removals = servers.into_iter().map(async |server| {
            let seat = Seat { backend: backend.clone(), server: server.name };
            self.drain(&seat, drain_within).await?;
            let removal = self.remove(&seat).await?;
            anyhow::Ok((seat.server, removal))
        });
        stream::iter(removals).buffered(AT_ONCE).try_collect().await
    }

    /// Waits until there may be something new to see.
    pub(super) async fn look_later(&self) {
        self.runtime.clock().sleep_for(LOOK_EVERY).await;
    }
}

impl Removal {
    pub(super) const fn is_left_in_maintenance(self) -> bool {
        matches!(self, Self::LeftInMaintenance)
    }
}

impl<'c> Deadline<'c> {
    pub(super) fn after(clock: &'c dyn Clock, limit: Duration) -> Self {
        Self { clock, at: clock.monotonic().saturating_add(limit) }
    }

    pub(super) fn has_passed(&self) -> bool {
        self.left().is_zero()
    }

    pub(super) fn left(&self) -> Duration {
        self.at.saturating_sub(self.clock.monotonic())
    }
}

fn too_busy(seat: &Seat, server: &Server) -> String {
    let Seat { backend, server: name } = seat;
    format!(
        "the server `{name}` of the backend `{backend}` is in maintenance and gets no requests, but HAProxy does not \
         delete it: it has {} sessions",
        server.load.sessions
    )
}
