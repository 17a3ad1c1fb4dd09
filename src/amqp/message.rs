//! How a delivery looks on its way through the broker: JSON with a version, so that a message of another Petrel is
//! recognised before it is misread.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::refs::{InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::secrets::MessageKey;
use crate::store::events::{Arrival, Delivery, HeldInstance};
use crate::store::rows::NewInstance;

/// Raised whenever an older Petrel would misread what a newer one writes.
const VERSION: u64 = 1;
/// Survives the end of the broker.
const PERSISTENT: u8 = 2;

/// What the type of a delivery's message is.
const KIND: &str = "petrel.delivery";
/// The header with the signature over queue, type and body.
const SIGNATURE: &str = "petrel-signature";

/// Why a message is no delivery.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Nobody signed it.
    #[error(
        "it is not signed with the key of this installation; while daemons are upgraded that do not sign yet, set \
         bus.accept_unsigned"
    )]
    Unsigned,
    /// Somebody else signed it, or it was changed or put into another queue.
    #[error("its signature is not one of this installation (secrets.key_file)")]
    Forged,
    /// Longer than a listener would take.
    #[error("it has {bytes} bytes, and {most_bytes} are taken; see limits.body_bytes")]
    TooLong {
        /// Of the message.
        bytes: usize,
        /// The limit.
        most_bytes: usize,
    },
    /// Deeper than a listener would take.
    #[error("a payload is nested deeper than {max_depth} levels; see limits.json_depth")]
    TooDeep {
        /// The limit.
        max_depth: usize,
    },
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

/// What is said about a delivery for `queue` beside its body. The signature says that a daemon of this installation wrote it.
pub(super) fn properties(key: &MessageKey, queue: &str, body: &[u8]) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(SIGNATURE.into(), AMQPValue::LongString(key.sign(&signed(queue, KIND, body)).into()));
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_type(KIND.into())
        .with_headers(headers)
}

fn signed<'m>(queue: &'m str, kind: &'m str, body: &'m [u8]) -> [&'m [u8]; 3] {
    [queue.as_bytes(), kind.as_bytes(), body]
}

/// What is done with messages that nobody signed: those of daemons from before signatures, or of anybody who may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// They are set aside.
    SetAside,
    /// They are taken within the limits of the listeners.
    Taken {
        /// Bytes of a message.
        most_bytes: usize,
        /// Levels of a payload.
        max_depth: usize,
    },
}

/// The delivery in a message of `queue`, if a daemon of this installation wrote it.
pub(super) fn open(
    key: &MessageKey,
    queue: &str,
    unsigned: Unsigned,
    (properties, body): (&BasicProperties, &[u8]),
) -> Result<Delivery, Undecodable> {
    let signature = properties.headers().as_ref().and_then(|headers| headers.inner().get(SIGNATURE));
    let kind = properties.kind().as_ref().map(ShortString::as_str).unwrap_or_default();
    match (signature, unsigned) {
        (Some(AMQPValue::LongString(signature)), _) => {
            if key.is_signature(signature.as_bytes(), &signed(queue, kind, body)) {
                decode(body)
            } else {
                Err(Undecodable::Forged)
            }
        }
        (Some(_), _) => Err(Undecodable::Forged),
        (None, Unsigned::SetAside) => Err(Undecodable::Unsigned),
        (None, Unsigned::Taken { most_bytes, max_depth }) => decode_within(body, most_bytes, max_depth),
    }
}

fn decode_within(body: &[u8], most_bytes: usize, max_depth: usize) -> Result<Delivery, Undecodable> {
    if body.len() > most_bytes {
        return Err(Undecodable::TooLong { bytes: body.len(), most_bytes });
    }
    let delivery = decode(body)?;
    let payloads = delivery.arrivals.iter().filter_map(Arrival::instance).map(|instance| &instance.payload);
    match payloads.map(depth).max().filter(|depth| *depth > max_depth) {
        Some(_) => Err(Undecodable::TooDeep { max_depth }),
        None => Ok(delivery),
    }
}

/// Recursion is safe: the JSON parser has already refused what is nested deeper than 127 levels.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
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

    use crate::secrets::Keyring;

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

    fn key() -> MessageKey {
        Keyring::from_key(&[7; 32]).message_key().clone()
    }

    fn opened(properties: &BasicProperties, body: &[u8], unsigned: Unsigned) -> Result<Delivery, String> {
        open(&key(), "petrel.arrivals", unsigned, (properties, body)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn only_what_this_installation_signed_is_a_delivery() {
        let body = encode(delivery()).unwrap();
        let ours = properties(&key(), "petrel.arrivals", &body);
        assert_eq!(opened(&ours, &body, Unsigned::SetAside).unwrap(), delivery());
        let changed = String::from_utf8(body.clone()).unwrap().replace("\"t\"", "\"u\"");
        let elsewhere = properties(&key(), "other.arrivals", &body);
        let foreign = properties(Keyring::from_key(&[8; 32]).message_key(), "petrel.arrivals", &body);
        let renamed = ours.clone().with_type("petrel.other".into());
        for (properties, body) in
            [(&ours, changed.as_bytes()), (&elsewhere, &body), (&foreign, &body), (&renamed, &body)]
        {
            let taken = Unsigned::Taken { most_bytes: 1 << 20, max_depth: 64 };
            assert!(opened(properties, body, taken).unwrap_err().contains("signature"), "whatever is taken unsigned");
        }
    }

    #[test]
    fn unsigned_messages_are_set_aside_or_taken_within_the_limits() {
        let none = BasicProperties::default();
        let body = encode(delivery()).unwrap();
        let refused = opened(&none, &body, Unsigned::SetAside).unwrap_err();
        assert!(refused.contains("bus.accept_unsigned"), "{refused}");
        let taken = |most_bytes, max_depth| opened(&none, &body, Unsigned::Taken { most_bytes, max_depth });
        assert_eq!(taken(1 << 20, 2).unwrap(), delivery());
        assert!(taken(100, 2).unwrap_err().contains("limits.body_bytes"));
        assert!(taken(1 << 20, 1).unwrap_err().contains("limits.json_depth"));
    }
}
