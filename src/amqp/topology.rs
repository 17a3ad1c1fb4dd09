//! What we ask the broker to have: a queue for deliveries, an exchange for hints, and a mark that the queue is old enough
//! to be trusted.
//!
//! The queue is a quorum queue: what it confirms is on disk. With one exception, seen with RabbitMQ 3.10: a queue whose
//! broker is killed in its first seconds may come back without what it confirmed. So a new queue takes nothing for a
//! while, and the mark says to all daemons that the while is over. The mark is an exchange, which nothing is sent to: it
//! stands on every node of a cluster and needs no process. A queue that was made before such a kill may also never confirm
//! anything again: so it is tried before it is marked, and made once more by whoever made it.

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

/// AMQP's reply code.
const NOT_FOUND: u16 = 404;

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
    /// Nobody has said so yet.
    Unmarked,
    /// We have made it just now.
    Made,
}

/// Makes what is missing. In this order: the queue is looked at before the mark, and whoever makes a queue takes the mark
/// away before. So nobody sees a new queue and an old mark.
pub(super) async fn declare(broker: &Connection, names: &Names) -> lapin::Result<Age> {
    let is_made = !queue_exists(broker, &names.arrivals).await?;
    if is_made {
        let channel = broker.create_channel().await?;
        channel.exchange_delete(names.settled.as_str().into(), ExchangeDeleteOptions::default()).await?;
        make_queue(broker, &names.arrivals).await?;
        tracing::info!(queue = names.arrivals, "made the queue; nothing is accepted until it is some seconds old");
    }
    let channel = broker.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(names.hints.as_str().into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    Ok(match (is_marked(broker, names).await?, is_made) {
        (true, _) => Age::Settled,
        (false, true) => Age::Made,
        (false, false) => Age::Unmarked,
    })
}

/// Has somebody said that the queue is old enough?
pub(super) async fn is_marked(broker: &Connection, names: &Names) -> lapin::Result<bool> {
    let channel = broker.create_channel().await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let (name, kind) = (names.settled.as_str().into(), ExchangeKind::Fanout);
    is_there(channel.exchange_declare(name, kind, passive, FieldTable::default()).await)
}

/// Takes a queue away that has never been of use.
pub(super) async fn drop_queue(channel: &Channel, names: &Names) -> lapin::Result<()> {
    channel.queue_delete(names.arrivals.as_str().into(), QueueDeleteOptions::default()).await.map(drop)
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

/// From version 4 on, a message that was delivered twenty times is thrown away unless the queue says otherwise. "Without a
/// limit" would be -1, which version 3.10 takes for a limit that every message has reached; so it is one that none reaches.
async fn make_queue(broker: &Connection, name: &str) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
    broker.create_channel().await?.queue_declare(name.into(), durable, arguments).await.map(drop)
}

/// The answer to a passive declaration. What is there, but cannot be reached, is not found either; the words differ.
fn is_there(answer: lapin::Result<()>) -> lapin::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(problem) if says_there_is_none(&problem) => Ok(false),
        Err(problem) => Err(problem),
    }
}

fn says_there_is_none(problem: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(said) = problem.kind() else { return false };
    let words = said.get_message().as_str();
    said.get_id() == NOT_FOUND && (words.contains("no queue '") || words.contains("no exchange '"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use lapin::protocol::{AMQPError, AMQPSoftError};

    fn said(error: AMQPSoftError, words: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(error.into(), words.into())).into()
    }

    #[test]
    fn only_what_the_broker_has_never_heard_of_is_missing() {
        assert!(is_there(Ok(())).unwrap());
        let unknown = "NOT_FOUND - no queue 'petrel.arrivals' in vhost '/'";
        assert!(!is_there(Err(said(AMQPSoftError::NOTFOUND, unknown))).unwrap());
        let out_of_reach = "NOT_FOUND - failed to perform operation on queue 'petrel.arrivals' due to timeout";
        assert!(is_there(Err(said(AMQPSoftError::NOTFOUND, out_of_reach))).is_err());
        assert!(is_there(Err(said(AMQPSoftError::ACCESSREFUSED, "no queue 'x'"))).is_err());
        assert!(is_there(Err(ErrorKind::MissingHeartbeatError.into())).is_err());
    }

    #[test]
    fn installations_that_share_a_broker_share_no_name() {
        let (one, other) = (Names::with_prefix("petrel"), Names::with_prefix("site-b"));
        assert_eq!(one.arrivals, "petrel.arrivals");
        assert!(one.settled != other.settled && one.hints != other.hints && one.arrivals != other.arrivals);
    }
}
