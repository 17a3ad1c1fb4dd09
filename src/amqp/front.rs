//! The broker as what makes deliveries durable: accepted is what it has confirmed, also while the store is away.
//! Repetitions are recognised when a delivery lands; at the door everything is new.

use std::sync::Arc;

use async_trait::async_trait;

use super::message;
use super::publisher::Publisher;
use crate::intake::{Front, IntakeError};
use crate::store::StoreError;
use crate::store::events::{Accepted, Arrival, Delivery};

/// Deliveries become messages.
pub(super) struct BrokerFront(pub(super) Arc<Publisher>);

#[async_trait]
impl Front for BrokerFront {
    async fn accept(&self, delivery: Delivery) -> Result<Vec<Accepted>, IntakeError> {
        let instances = delivery.arrivals.iter().filter_map(Arrival::instance).count();
        let unwritable = |problem: serde_json::Error| StoreError::Corrupt(problem.to_string());
        let body = message::encode(delivery).map_err(unwritable)?;
        self.0.publish(&body).await.map_err(|refusal| IntakeError::Broker(refusal.to_string()))?;
        Ok(vec![Accepted::New; instances])
    }
}
