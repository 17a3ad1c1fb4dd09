//! How a delivery looks on its way through the broker: JSON with a version, so that a message of another Petrel is
//! recognised before it is misread.

use lapin::BasicProperties;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::refs::{InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::store::events::{Arrival, Delivery, HeldInstance};
use crate::store::rows::NewInstance;

/// Raised whenever an older Petrel would misread what a newer one writes.
const VERSION: u64 = 1;
/// Survives the end of the broker.
const PERSISTENT: u8 = 2;

/// Why a message is no delivery.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// It is not ours, or damaged.
    #[error("it is no delivery of Petrel: {0}")]
    Malformed(serde_json::Error),
    /// Another Petrel wrote it.
    #[error("it is written in format {found}, and this Petrel reads format {VERSION}")]
    Version {
        /// What it says.
        found: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u64,
    accepted_at: i64,
    arrivals: Vec<WireArrival>,
}

/// Read first: what else stands in a message depends on it.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireArrival {
    Happened(WireInstance),
    Held { key: String, due_at: i64, instance: WireInstance },
    Withdrawn { key: String, said_at: Option<i64> },
}

#[derive(Serialize, Deserialize)]
struct WireInstance {
    id: InstanceId,
    trigger: String,
    trigger_type: TriggerTypeRef,
    payload: Value,
    occurred_at: i64,
    trace_tag: String,
    dedupe: Option<(String, i64)>,
}

/// The body of a delivery's message.
pub(super) fn encode(delivery: Delivery) -> Result<Vec<u8>, serde_json::Error> {
    let Delivery { arrivals, accepted_at } = delivery;
    let arrivals = arrivals.into_iter().map(WireArrival::from).collect();
    serde_json::to_vec(&Envelope { version: VERSION, accepted_at: accepted_at.as_micros(), arrivals })
}

/// The body of a delivery that says nothing.
pub(super) fn nothing() -> Result<Vec<u8>, serde_json::Error> {
    encode(Delivery { arrivals: Vec::new(), accepted_at: Timestamp::default() })
}

/// The delivery that a message's body says.
pub fn decode(body: &[u8]) -> Result<Delivery, Undecodable> {
    let Versioned { version } = serde_json::from_slice(body).map_err(Undecodable::Malformed)?;
    if version != VERSION {
        return Err(Undecodable::Version { found: version });
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(Undecodable::Malformed)?;
    Ok(Delivery {
        arrivals: envelope.arrivals.into_iter().map(Arrival::from).collect(),
        accepted_at: Timestamp::from_micros(envelope.accepted_at),
    })
}

/// What is said about a delivery beside its body.
pub(super) fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_type("petrel.delivery".into())
}

impl From<Arrival> for WireArrival {
    fn from(arrival: Arrival) -> Self {
        match arrival {
            Arrival::Happened(new) => Self::Happened(new.into()),
            Arrival::Held(HeldInstance { key, instance, due_at }) => {
                Self::Held { key, due_at: due_at.as_micros(), instance: instance.into() }
            }
            Arrival::Withdrawn { key, said_at } => Self::Withdrawn { key, said_at: said_at.map(Timestamp::as_micros) },
        }
    }
}

impl From<WireArrival> for Arrival {
    fn from(arrival: WireArrival) -> Self {
        match arrival {
            WireArrival::Happened(new) => Self::Happened(new.into()),
            WireArrival::Held { key, due_at, instance } => {
                Self::Held(HeldInstance { key, instance: instance.into(), due_at: Timestamp::from_micros(due_at) })
            }
            WireArrival::Withdrawn { key, said_at } => {
                Self::Withdrawn { key, said_at: said_at.map(Timestamp::from_micros) }
            }
        }
    }
}

impl From<NewInstance> for WireInstance {
    fn from(new: NewInstance) -> Self {
        let NewInstance { id, trigger, trigger_type, payload, occurred_at, trace_tag, dedupe } = new;
        let dedupe = dedupe.map(|(key, expires_at)| (key, expires_at.as_micros()));
        Self { id, trigger, trigger_type, payload, occurred_at: occurred_at.as_micros(), trace_tag, dedupe }
    }
}

impl From<WireInstance> for NewInstance {
    fn from(wire: WireInstance) -> Self {
        let WireInstance { id, trigger, trigger_type, payload, occurred_at, trace_tag, dedupe } = wire;
        let dedupe = dedupe.map(|(key, expires_at)| (key, Timestamp::from_micros(expires_at)));
        Self { id, trigger, trigger_type, payload, occurred_at: Timestamp::from_micros(occurred_at), trace_tag, dedupe }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn instance(number: u8, dedupe: Option<&str>) -> NewInstance {
        NewInstance {
            id: InstanceId::from_bytes([number; 12]),
            trigger: "core.st2.webhook {\"url\": \"x\"}".to_owned(),
            trigger_type: "core.st2.webhook".parse().unwrap(),
            payload: json!({ "body": { "n": number, "text": "ä\u{1F426}" }, "none": null }),
            occurred_at: Timestamp::from_micros(1_700_000_000_000_001),
            trace_tag: "t".to_owned(),
            dedupe: dedupe.map(|key| (key.to_owned(), Timestamp::from_micros(i64::MAX))),
        }
    }

    fn delivery() -> Delivery {
        let due_at = Timestamp::from_micros(5);
        Delivery {
            arrivals: vec![
                Arrival::Withdrawn { key: "k".to_owned(), said_at: Some(Timestamp::from_micros(-3)) },
                Arrival::Withdrawn { key: "l".to_owned(), said_at: None },
                Arrival::Happened(instance(1, Some("once"))),
                Arrival::Held(HeldInstance { key: "k".to_owned(), instance: instance(2, None), due_at }),
            ],
            accepted_at: Timestamp::from_micros(1_700_000_000_000_002),
        }
    }

    #[test]
    fn a_delivery_comes_out_as_it_went_in() {
        let body = encode(delivery()).unwrap();
        assert_eq!(decode(&body).unwrap(), delivery());
    }

    #[test]
    fn nothing_is_a_delivery_of_nothing() {
        assert_eq!(decode(&nothing().unwrap()).unwrap().arrivals, []);
    }

    /// Daemons of different ages meet at one broker: what one version wrote, it reads for ever.
    #[test]
    fn the_format_is_this_one() {
        let said = json!({
            "version": 1,
            "accepted_at": 7,
            "arrivals": [
                { "happened": {
                    "id": "010101010101010101010101", "trigger": "a.b", "trigger_type": "a.b", "payload": {"x": 1},
                    "occurred_at": 6, "trace_tag": "t", "dedupe": ["key", 9],
                } },
                { "withdrawn": { "key": "k", "said_at": null } },
            ],
        });
        let read = decode(said.to_string().as_bytes()).unwrap();
        let written: Value = serde_json::from_slice(&encode(read.clone()).unwrap()).unwrap();
        assert_eq!(written, said);
        assert_eq!((read.accepted_at, read.arrivals.len()), (Timestamp::from_micros(7), 2));
    }

    #[test]
    fn what_is_no_delivery_is_told_apart_from_one_of_another_petrel() {
        for body in
            ["", "hello", "{}", "[1]", r#"{"version": 1}"#, r#"{"version": 1, "accepted_at": 1, "arrivals": [{}]}"#]
        {
            assert!(matches!(decode(body.as_bytes()), Err(Undecodable::Malformed(_))), "{body}");
        }
        let newer = decode(br#"{"version": 2, "arrivals": "in another way"}"#).unwrap_err();
        assert_eq!(newer.to_string(), "it is written in format 2, and this Petrel reads format 1");
    }
}
