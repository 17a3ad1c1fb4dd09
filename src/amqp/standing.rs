//! How things stand with the broker: whether it takes deliveries, and if not, why.

use lapin::Channel;

/// Why the broker does not take a delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no connection.
    #[error("it is away ({0})")]
    Away(String),
    /// The queue is too young to be trusted.
    #[error("its queue was made a moment ago and gets some seconds to become safe")]
    Settling,
    /// It lacks memory or disk.
    #[error("it takes nothing for now ({0})")]
    Blocked(String),
    /// It confirms slower than deliveries come.
    #[error("too many deliveries wait for its confirmation")]
    Full,
    /// It did not confirm in time.
    #[error("it did not confirm in time")]
    Late,
    /// It could not write the message.
    #[error("it could not write the message")]
    Nack,
    /// There is no queue.
    #[error("its queue is gone and is made again")]
    Unroutable,
    /// The connection ended before the confirmation came.
    #[error("the connection ended ({0})")]
    Broken(String),
}

impl Refusal {
    /// One word, for counting.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Settling => "settling",
            Self::Blocked(_) => "blocked",
            Self::Full => "full",
            Self::Late => "late",
            Self::Nack => "nack",
            Self::Unroutable => "unroutable",
            Self::Broken(_) => "broken",
        }
    }
}

/// The channels of one connection for publishing.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    /// Confirms what it takes.
    pub(super) arrivals: Channel,
    /// Confirms nothing.
    pub(super) hints: Channel,
}

/// Whether the broker takes deliveries.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    lanes: Option<Lanes>,
    refusal: Option<Refusal>,
}

impl Standing {
    /// There is no connection.
    pub(super) const fn away(why: String) -> Self {
        Self { lanes: None, refusal: Some(Refusal::Away(why)) }
    }

    /// There is one; with a `refusal` not for deliveries.
    pub(super) const fn connected(lanes: Lanes, refusal: Option<Refusal>) -> Self {
        Self { lanes: Some(lanes), refusal }
    }

    /// Is everything declared, and the connection there?
    pub(super) const fn is_connected(&self) -> bool {
        self.lanes.is_some()
    }

    /// Where deliveries go.
    pub(super) fn arrivals(&self) -> Result<Channel, Refusal> {
        match (&self.refusal, &self.lanes) {
            (None, Some(lanes)) => Ok(lanes.arrivals.clone()),
            (Some(refusal), _) => Err(refusal.clone()),
            (None, None) => Err(Refusal::Away("not connected".to_owned())),
        }
    }

    /// Where hints go, if they can go anywhere. A broker that lacks memory is spared.
    pub(super) fn hints(&self) -> Option<Channel> {
        let is_blocked = matches!(self.refusal, Some(Refusal::Blocked(_)));
        self.lanes.as_ref().filter(|_| !is_blocked).map(|lanes| lanes.hints.clone())
    }

    /// Why no deliveries are taken, if none are.
    pub(super) const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }
}
