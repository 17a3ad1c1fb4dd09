//! What every action of the pack needs.

use std::sync::{Arc, OnceLock};

use reqwest::Client;
use serde::Deserialize;
use tokio::sync::watch;

use super::calls::{Aws, http_client};
use super::settings::Settings;
use crate::clock::Clock;
use crate::model::group::GroupName;
use crate::model::pack::Catalogue;
use crate::runners::Call;

/// Where actions find AWS.
#[derive(Clone)]
pub(super) struct Pack {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    clock: Arc<dyn Clock>,
    /// Made when it is first needed: whoever does not use AWS does not pay for it.
    http: Arc<OnceLock<Client>>,
}

impl Pack {
    /// Nothing is connected yet.
    pub(super) fn new(catalogue: &watch::Receiver<Arc<Catalogue>>, clock: &Arc<dyn Clock>) -> Self {
        Self { catalogue: catalogue.clone(), clock: Arc::clone(clock), http: Arc::default() }
    }

    /// AWS with the configuration as it is now and what the call says over it.
    pub(super) fn aws(&self, call: &Call) -> anyhow::Result<Aws> {
        let settings = Settings::of(&self.catalogue.borrow(), &call.parameters)?;
        let http = self.http()?;
        let id = call.execution.to_string();
        let seed = id.bytes().fold(call.attempt, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Ok(Aws::new(settings, &self.clock, http, seed))
    }

    fn http(&self) -> anyhow::Result<Client> {
        if let Some(made) = self.http.get() {
            return Ok(made.clone());
        }
        let made = http_client()?;
        Ok(self.http.get_or_init(|| made).clone())
    }
}

/// A call that only names a group.
#[derive(Deserialize)]
pub(super) struct OfGroup {
    pub(super) group: GroupName,
}
