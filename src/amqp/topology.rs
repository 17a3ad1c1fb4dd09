//! What we ask the broker to have: a queue for deliveries, an exchange for hints, and a mark that the queue is old enough
//! to be trusted.
//!
//! The queue is a quorum queue: what it confirms is on disk. With one exception, seen with RabbitMQ 3.10: a queue whose
//! broker is killed in its first seconds may come back without what it confirmed. So a new queue takes nothing for a
//! while, and the mark says to all daemons that the while is over. The mark is an exchange, which nothing is sent to: it
//! stands on every node of a cluster and needs no process.

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

/// AMQP's reply codes.
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// What things are called at the broker.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The queue of deliveries.
    pub(super) arrivals: String,
    /// The mark.
    pub(super) settled: String,
    /// The exchange of hints.
    pub(super) hints: String,
}

impl Names {
    pub(super) fn with_prefix(prefix: &str) -> Self {
        Self {
            arrivals: format!("{prefix}.arrivals"),
            settled: format!("{prefix}.settled"),
            hints: format!("{prefix}.hints"),
        }
    }
}

/// Whether the queue may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It is old enough.
    Settled,
    /// It is new, or nobody knows.
    Fresh,
}

/// Makes what is missing. In this order: the queue is looked at before the mark, and whoever makes a queue takes the mark
/// away before. So nobody sees a new queue and an old mark.
pub(super) async fn declare(broker: &Connection, names: &Names) -> lapin::Result<Age> {
    if !queue_exists(broker, &names.arrivals).await? {
        let channel = broker.create_channel().await?;
        channel.exchange_delete(names.settled.as_str().into(), ExchangeDeleteOptions::default()).await?;
        make_queue(broker, &names.arrivals).await?;
        tracing::info!(queue = names.arrivals, "made the queue; nothing is accepted until it is some seconds old");
    }
    let channel = broker.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(names.hints.as_str().into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let looked =
        channel.exchange_declare(names.settled.as_str().into(), ExchangeKind::Fanout, passive, FieldTable::default());
    Ok(if is_there(looked.await)? { Age::Settled } else { Age::Fresh })
}

/// Tells all daemons that the queue is old enough.
pub(super) async fn mark_settled(channel: &Channel, names: &Names) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (name, kind) = (names.settled.as_str().into(), ExchangeKind::Fanout);
    channel.exchange_declare(name, kind, durable, FieldTable::default()).await
}

async fn queue_exists(broker: &Connection, name: &str) -> lapin::Result<bool> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = broker.create_channel().await?;
    is_there(channel.queue_declare(name.into(), passive, FieldTable::default()).await.map(drop))
}

/// From version 4 on a message that was delivered twenty times is thrown away, unless the queue says that it has no
/// limit; an older broker does not know the words for that, and has no limit.
async fn make_queue(broker: &Connection, name: &str) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let mut unlimited = arguments.clone();
    unlimited.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    let made = broker.create_channel().await?.queue_declare(name.into(), durable, unlimited).await;
    if made.as_ref().err().and_then(reply_code) == Some(PRECONDITION_FAILED) {
        return broker.create_channel().await?.queue_declare(name.into(), durable, arguments).await.map(drop);
    }
    made.map(drop)
}

/// The answer to a passive declaration.
fn is_there(answer: lapin::Result<()>) -> lapin::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(problem) if reply_code(&problem) == Some(NOT_FOUND) => Ok(false),
        Err(problem) => Err(problem),
    }
}

fn reply_code(problem: &lapin::Error) -> Option<u16> {
    match problem.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use lapin::protocol::{AMQPError, AMQPSoftError};

    fn said(error: AMQPSoftError) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(error.into(), "said".into())).into()
    }

    #[test]
    fn what_is_not_found_is_missing_and_every_other_refusal_is_one() {
        assert!(is_there(Ok(())).unwrap());
        assert!(!is_there(Err(said(AMQPSoftError::NOTFOUND))).unwrap());
        assert!(is_there(Err(said(AMQPSoftError::ACCESSREFUSED))).is_err());
        assert!(is_there(Err(ErrorKind::MissingHeartbeatError.into())).is_err());
        assert_eq!(reply_code(&said(AMQPSoftError::PRECONDITIONFAILED)), Some(PRECONDITION_FAILED));
    }

    #[test]
    fn installations_that_share_a_broker_share_no_name() {
        let (one, other) = (Names::with_prefix("petrel"), Names::with_prefix("site-b"));
        assert_eq!(one.arrivals, "petrel.arrivals");
        assert!(one.settled != other.settled && one.hints != other.hints && one.arrivals != other.arrivals);
    }
}
