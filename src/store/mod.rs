//! The truth, and the only place from which executions are dispatched. All SQL of Petrel stands in this folder, each
//! statement once; callers see facts (`arrivals_accept`, `execution_claim`, `turn_record`), each written atomically.
//!
//! Every engine gets only the aggregates it needs ([`Events`], [`Executions`] …), never the whole [`Store`]. `now` is
//! always an argument: the store has no clock.

mod dialect;
mod driver;
mod error;
mod holds;
mod migrate;
mod postgres;
mod sealing;
mod sqlite;
mod sqlite_files;
pub mod catalogues;
pub mod clock_steps;
pub mod contents;
pub mod daemons;
pub mod damage;
pub mod dead_letters;
pub mod events;
pub mod executions;
pub mod groups;
pub mod identities;
pub mod journal;
pub mod key_values;
pub mod obligations;
pub mod output;
pub mod retention;
pub mod rows;
pub mod slots;
pub mod stream;
pub mod suspects;
pub mod transfer;

use std::path::Path;
use std::sync::Arc;

pub use catalogues::Catalogues;
pub use clock_steps::ClockSteps;
pub use contents::Contents;
pub use daemons::Daemons;
pub use dead_letters::DeadLetters;
pub use error::{StoreError, StoreResult};
pub use events::Events;
pub use executions::Executions;
pub use groups::Groups;
pub use identities::Identities;
pub use journal::Journals;
pub use key_values::KeyValues;
pub use obligations::Obligations;
pub use output::Outputs;
pub use postgres::PostgresSettings;
pub use retention::Retention;
pub use sealing::Sealer;
pub use stream::Announcements;
pub use suspects::Suspects;

use crate::clock::Clock;
use driver::Driver;

/// The whole store; only the composition root and the conformance suite hold it.
#[derive(Clone)]
pub struct Store {
    driver: Arc<dyn Driver>,
}

impl Store {
    /// Opens or creates the embedded database. `max_bytes` limits its size on disk.
    pub fn open_sqlite(path: &Path, max_bytes: Option<u64>) -> StoreResult<Self> {
        Ok(Self { driver: Arc::new(sqlite::SqliteDriver::open(path, max_bytes)?) })
    }

    /// Opens a database on a PostgreSQL server, which several daemons may share. `clock` is for time limits only.
    pub async fn open_postgres(settings: &PostgresSettings, clock: Arc<dyn Clock>) -> StoreResult<Self> {
        Ok(Self { driver: Arc::new(postgres::PostgresDriver::open(settings, clock).await?) })
    }

    /// The same store with what may hold secrets encrypted by `sealer`: parameters, results and journals of executions
    /// that know secrets, and configurations of packs.
    #[must_use]
    pub fn sealed_by(&self, sealer: Arc<dyn Sealer>) -> Self {
        Self { driver: Arc::new(sealing::SealingDriver::new(Arc::clone(&self.driver), sealer)) }
    }

    /// Trigger instances, enforcements, timers.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.driver))
    }

    /// Executions: request, claim, finish, list.
    pub fn executions(&self) -> Executions {
        Executions::new(Arc::clone(&self.driver))
    }

    /// What unfinished executions wait for.
    pub fn obligations(&self) -> Obligations {
        Obligations::new(Arc::clone(&self.driver))
    }

    /// Workflows: bundles, journals, signals.
    pub fn journals(&self) -> Journals {
        Journals::new(Arc::clone(&self.driver))
    }

    /// The datastore.
    pub fn key_values(&self) -> KeyValues {
        KeyValues::new(Arc::clone(&self.driver))
    }

    /// Output of executions and large results.
    pub fn outputs(&self) -> Outputs {
        Outputs::new(Arc::clone(&self.driver))
    }

    /// Autoscaling groups with their nodes, incidents, activities and decisions.
    pub fn groups(&self) -> Groups {
        Groups::new(Arc::clone(&self.driver))
    }

    /// Users, tokens, API keys, audit.
    pub fn identities(&self) -> Identities {
        Identities::new(Arc::clone(&self.driver))
    }

    /// Last good content, the API's layer of rules, settings of the installation.
    pub fn contents(&self) -> Contents {
        Contents::new(Arc::clone(&self.driver))
    }

    /// Catalogues that were published for all daemons.
    pub fn catalogues(&self) -> Catalogues {
        Catalogues::new(Arc::clone(&self.driver))
    }

    /// What a step of the clock moves along.
    pub fn clock_steps(&self) -> ClockSteps {
        ClockSteps::new(Arc::clone(&self.driver))
    }

    /// The daemons over this store, and what each of them does alone.
    pub fn daemons(&self) -> Daemons {
        Daemons::new(Arc::clone(&self.driver))
    }

    /// The durable sequence behind the event stream.
    pub fn announcements(&self) -> Announcements {
        Announcements::new(Arc::clone(&self.driver))
    }

    /// Messages of which nothing could be made.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(Arc::clone(&self.driver))
    }

    /// What daemons may have died of.
    pub fn suspects(&self) -> Suspects {
        Suspects::new(Arc::clone(&self.driver))
    }

    /// Deletes what is too old.
    pub fn retention(&self) -> Retention {
        Retention::new(Arc::clone(&self.driver))
    }

    /// Moves everything from this embedded store into an empty one on PostgreSQL.
    pub async fn transfer_to(&self, target: &Self) -> StoreResult<Vec<transfer::Moved>> {
        transfer::transfer(&self.driver, &target.driver).await
    }

    /// Writes a consistent copy to `target` while work goes on.
    pub async fn backup(&self, target: &Path) -> StoreResult<()> {
        self.driver.backup(target.to_owned()).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// Declares an aggregate: a handle on the driver with a constructor that only this folder can call.
macro_rules! aggregate {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            pub(in crate::store) driver: std::sync::Arc<dyn $crate::store::driver::Driver>,
        }

        impl $name {
            pub(super) fn new(driver: std::sync::Arc<dyn $crate::store::driver::Driver>) -> Self {
                Self { driver }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}
pub(crate) use aggregate;
