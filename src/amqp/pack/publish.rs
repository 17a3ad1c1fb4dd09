//! `amqp.publish`: one message, confirmed. Each has a channel of its own, since a broker answers a mistake (an exchange
//! that does not exist) with the end of the channel, and nobody else's message is to go with it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation, Connection};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, watch};

use super::fields::{short, table_of};
use super::settings::Settings;
use crate::amqp::connection::{Connector, Life, told};
use crate::clock::{self, Clock};
use crate::config;
use crate::model::pack::Catalogue;
use crate::runners::native::NativeAction;
use crate::runners::{Call, Outcome, Stop};

/// From the call to the confirmation; the connection has a limit of its own.
const LIMIT: Duration = Duration::from_secs(30);
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// The action.
pub struct Publish {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    fallback: config::Bus,
    clock: Arc<dyn Clock>,
    /// The connection of the last call, as long as it is of use.
    outlet: Mutex<Option<(Settings, Life)>>,
}

impl std::fmt::Debug for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("amqp.publish")
    }
}

/// A message as the parameters say.
struct Message {
    exchange: ShortString,
    routing_key: ShortString,
    mandatory: bool,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Publish {
    /// To the broker of the pack's configuration, or to the one in front of the store.
    pub fn new(catalogue: watch::Receiver<Arc<Catalogue>>, fallback: config::Bus, clock: Arc<dyn Clock>) -> Self {
        Self { catalogue, fallback, clock, outlet: Mutex::default() }
    }

    async fn publish(&self, message: &Message) -> anyhow::Result<()> {
        let connection = self.connection().await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let Message { exchange, routing_key, mandatory, body, properties } = message;
        let options = BasicPublishOptions { mandatory: *mandatory, ..BasicPublishOptions::default() };
        let (exchange, routing_key) = (exchange.clone(), routing_key.clone());
        let sent = channel.basic_publish(exchange, routing_key, options, body, properties.clone()).await?;
        match sent.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) => bail!("no queue gets it: {}", returned.reply_text.as_str()),
            Confirmation::Nack(_) => bail!("the broker could not write it"),
            Confirmation::NotRequested => bail!("the broker was not asked to confirm it"),
        }
    }

    async fn connection(&self) -> anyhow::Result<Arc<Connection>> {
        let settings = Settings::of(&self.catalogue.borrow(), &self.fallback);
        let mut outlet = self.outlet.lock().await;
        if let Some((known, life)) = &*outlet
            && *known == settings
            && life.is_alive()
        {
            return Ok(life.connection());
        }
        let life = Connector::new(settings.address()?, Arc::clone(&self.clock)).connect("action amqp.publish").await?;
        let connection = life.connection();
        *outlet = Some((settings, life));
        Ok(connection)
    }
}

#[async_trait]
impl NativeAction for Publish {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        let id = call.execution.to_string();
        let message = match Message::of(&call.parameters, &id) {
            Ok(message) => message,
            Err(problem) => return Outcome::error(problem),
        };
        let published = async {
            let published = clock::timeout(&*self.clock, LIMIT, self.publish(&message)).await;
            published.map_err(|_| anyhow!("the broker did not confirm it in time")).flatten().context("publishing")
        };
        tokio::select! {
            published = published => match published {
                Ok(()) => Outcome::succeeded(json!({ "message_id": id })),
                Err(problem) => Outcome::error(told(&problem)),
            },
            () = stop.raised() => Outcome::error("stopped before the broker had confirmed it"),
        }
    }
}

impl Message {
    fn of(parameters: &Map<String, Value>, id: &str) -> Result<Self, String> {
        let text = |name: &str| parameters.get(name).and_then(Value::as_str);
        let flag = |name: &str| parameters.get(name).and_then(Value::as_bool).unwrap_or(true);
        let (body, default_type) = match parameters.get("body").unwrap_or(&Value::Null) {
            Value::String(text) => (text.clone().into_bytes(), "text/plain"),
            value => (value.to_string().into_bytes(), "application/json"),
        };
        let no_headers = Map::new();
        let headers = parameters.get("headers").and_then(Value::as_object).unwrap_or(&no_headers);
        let mut properties = BasicProperties::default()
            .with_message_id(short("message_id", id)?)
            .with_content_type(short("content_type", text("content_type").unwrap_or(default_type))?)
            .with_delivery_mode(if flag("persistent") { PERSISTENT } else { TRANSIENT })
            .with_headers(table_of(headers)?);
        if let Some(correlation_id) = text("correlation_id") {
            properties = properties.with_correlation_id(short("correlation_id", correlation_id)?);
        }
        Ok(Self {
            exchange: short("exchange", text("exchange").unwrap_or_default())?,
            routing_key: short("routing_key", text("routing_key").unwrap_or_default())?,
            mandatory: flag("mandatory"),
            body,
            properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parameters: &Value) -> Result<Message, String> {
        Message::of(parameters.as_object().unwrap(), "64a1f0c2d3e4f5a6b7c8d9e0")
    }

    #[test]
    fn a_message_says_who_asked_for_it_and_survives_unless_told_otherwise() {
        let said = message(&json!({ "body": { "n": 1 }, "routing_key": "q", "headers": { "a": 1 } })).unwrap();
        assert_eq!(said.body, br#"{"n":1}"#);
        let properties = &said.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "64a1f0c2d3e4f5a6b7c8d9e0");
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!((*properties.delivery_mode(), said.mandatory), (Some(PERSISTENT), true));
        let text = message(&json!({ "body": "hi", "persistent": false, "mandatory": false })).unwrap();
        assert_eq!((text.body.as_slice(), text.mandatory), (&b"hi"[..], false));
        assert_eq!(text.properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(*text.properties.delivery_mode(), Some(TRANSIENT));
    }

    #[test]
    fn what_amqp_has_no_room_for_is_refused_by_name() {
        let problem = message(&json!({ "body": "", "routing_key": "k".repeat(300) })).err().unwrap();
        assert_eq!(problem, "routing_key: AMQP has room for 255 bytes, and this has 300");
    }
}
