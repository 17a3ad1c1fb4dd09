//! `[bus]`: the broker in front of the store, if there is one.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::reader::{Section, duration_or_zero, flag, text};
use crate::config::sections::at_least_one;
use crate::config::source::Entry;
use crate::secrets::SecretText;

/// The broker in front of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bus {
    /// Where it is, with user and password; without it events go straight into the store. None
    pub url: Option<SecretText>,
    /// Certificates, as PEM, that an `amqps` broker may show beside those that this machine trusts. None
    pub ca_file: Option<PathBuf>,
    /// So long after its queue was made nothing is accepted: a broker that is killed in its first seconds may not find
    /// what it confirmed (seen with RabbitMQ 3.10). `15s`
    pub fresh_queue_grace: Duration,
    /// Messages that are fetched before those before them have landed; they share a commit. 256
    pub prefetch: u16,
    /// Takes messages that no daemon of this installation has signed: for the time in which daemons are upgraded that do
    /// not sign yet. `false`
    pub accept_unsigned: bool,
    /// What the names of queues begin with: installations that share a broker differ in it. `petrel`
    pub queue: String,
}

pub(super) fn read(mut section: Section<'_>) -> Bus {
    let bus = Bus {
        url: section.read_optional("url", broker_url),
        ca_file: section.read_optional("ca_file", text).map(PathBuf::from),
        fresh_queue_grace: section.read("fresh_queue_grace", Duration::from_secs(15), duration_or_zero),
        prefetch: section.read("prefetch", 256, at_least_one),
        accept_unsigned: section.read("accept_unsigned", false, flag),
        queue: section.read("queue", "petrel".to_owned(), queue_prefix),
    };
    section.close();
    bus
}

/// Whoever opens the connection reads it whole; what is written here never stands in a complaint.
fn broker_url(entry: &Entry) -> Result<SecretText, String> {
    let url = text(entry)?;
    if url.starts_with("amqp://") || url.starts_with("amqps://") {
        return Ok(SecretText::new(url));
    }
    Err("write amqp://USER:PASSWORD@HOST:5672/%2f, or amqps:// for TLS".to_owned())
}

fn queue_prefix(entry: &Entry) -> Result<String, String> {
    let prefix = text(entry)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // AMQP's names end at 255 bytes, and ours are longer than this one; `amq.` is the broker's own.
    if !prefix.is_empty() && prefix.len() <= 100 && prefix.chars().all(legal) && !prefix.starts_with("amq.") {
        return Ok(prefix);
    }
    Err("write letters, digits, `.`, `-` and `_`, at most 100, not beginning with `amq.`".to_owned())
}
