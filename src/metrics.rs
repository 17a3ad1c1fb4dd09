//! What the daemon counts about itself, for Prometheus. Whoever counts holds a handle; `/metrics` shows it.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::intake::Receipt;
use crate::model::execution::ExecutionStatus;

/// The counters. Cloning gives another handle to the same ones.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    registry: Registry,
    accepted: Family<ByDoor, Counter>,
    duplicates: Family<ByDoor, Counter>,
    refused: Family<Refused, Counter>,
    finished: Family<ByStatus, Counter>,
    put_off: Family<ByReason, Counter>,
    set_aside: Family<ByKind, Counter>,
    requests: Family<Answered, Counter>,
    connections_closed: Family<ByReason, Counter>,
    requests_refused: Family<ByReason, Counter>,
    authentication_failures: Family<ByCredential, Counter>,
    queue_depth: Gauge,
    pending_instances: Gauge,
    bus: BusCounters,
}

/// What happens to deliveries in front of the store.
#[derive(Debug, Clone, Default)]
struct BusCounters {
    published: Counter,
    confirmed: Counter,
    refused: Family<ByReason, Counter>,
    landed: Counter,
    dead_lettered: Counter,
    connections: Family<ByLink, Counter>,
}

impl BusCounters {
    fn register(&self, registry: &mut Registry) {
        let bus = registry.sub_registry_with_prefix("bus");
        bus.register("published", "Deliveries that were given to the broker", self.published.clone());
        bus.register("confirmed", "Deliveries that the broker holds durably", self.confirmed.clone());
        bus.register("refused", "Deliveries that the broker did not take", self.refused.clone());
        bus.register("landed", "Deliveries that were written to the store", self.landed.clone());
        bus.register("dead_lettered", "Messages of which nothing could be made", self.dead_lettered.clone());
        bus.register(
            "connections",
            "Connections to the broker that were made, first and after each end",
            self.connections.clone(),
        );
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLink {
    link: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDoor {
    door: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    door: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCredential {
    credential: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

/// The methods that are counted by name.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

impl Default for Counters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("petrel");
        let accepted = Family::default();
        let duplicates = Family::default();
        let refused = Family::default();
        let finished = Family::default();
        let requests = Family::default();
        let (connections_closed, requests_refused) = (Family::default(), Family::default());
        let authentication_failures = Family::default();
        let (queue_depth, pending_instances) = (Gauge::default(), Gauge::default());
        registry.register("events_accepted", "Events made durable", accepted.clone());
        registry.register("events_duplicate", "Repetitions that were recognised", duplicates.clone());
        registry.register("events_refused", "Events that were not taken", refused.clone());
        registry.register("executions_finished", "Executions that ended", finished.clone());
        let (set_aside, put_off) = (Family::default(), Family::default());
        registry.register("suspects_set_aside", "What daemons died of too often", set_aside.clone());
        registry.register("executions_put_off", "Executions that could not begin and wait", put_off.clone());
        registry.register("http_requests", "Requests that were answered", requests.clone());
        registry.register(
            "connections_closed",
            "Connections that were turned away, or closed to make room or for their silence",
            connections_closed.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that were refused before anybody looked at what they ask",
            requests_refused.clone(),
        );
        let failures = authentication_failures.clone();
        registry.register("authentication_failures", "Credentials that were not accepted", failures);
        registry.register("queue_depth", "Executions that have not ended", queue_depth.clone());
        registry.register("instances_pending", "Events that wait to be matched", pending_instances.clone());
        let bus = BusCounters::default();
        bus.register(&mut registry);
        Self {
            registry,
            accepted,
            duplicates,
            refused,
            finished,
            put_off,
            set_aside,
            requests,
            connections_closed,
            requests_refused,
            authentication_failures,
            queue_depth,
            pending_instances,
            bus,
        }
    }
}

impl Metrics {
    /// A door gave a receipt.
    pub fn event_accepted(&self, door: &'static str, receipt: Receipt) {
        let family = match receipt {
            Receipt::New(_) => &self.0.accepted,
            Receipt::Duplicate(_) => &self.0.duplicates,
        };
        family.get_or_create(&ByDoor { door }).inc();
    }

    /// A door refused an event with this HTTP status.
    pub fn event_refused(&self, door: &'static str, status: u16) {
        self.0.refused.get_or_create(&Refused { door, status }).inc();
    }

    /// An execution ended.
    pub fn execution_finished(&self, status: ExecutionStatus) {
        self.0.finished.get_or_create(&ByStatus { status: status.as_str() }).inc();
    }

    /// An execution could not begin for this reason, and waits to be tried again.
    pub fn execution_put_off(&self, reason: &'static str) {
        self.0.put_off.get_or_create(&ByReason { reason }).inc();
    }

    /// Daemons have died of something of this kind too often.
    pub fn suspect_set_aside(&self, kind: &'static str) {
        self.0.set_aside.get_or_create(&ByKind { kind }).inc();
    }

    /// A request was answered; `route` is the pattern it met, so that there are not more of them than routes. Methods that
    /// HTTP does not know are `other`: a client can invent as many as it likes.
    pub fn request_answered(&self, method: &str, route: &str, status: u16) {
        let known = METHODS.iter().find(|known| **known == method);
        let answered = Answered { method: known.copied().unwrap_or("other"), route: route.to_owned(), status };
        self.0.requests.get_or_create(&answered).inc();
    }

    /// A connection was turned away or closed.
    pub fn connection_closed(&self, reason: &'static str) {
        self.0.connections_closed.get_or_create(&ByReason { reason }).inc();
    }

    /// A request was refused by what protects the listeners.
    pub fn request_refused(&self, reason: &'static str) {
        self.0.requests_refused.get_or_create(&ByReason { reason }).inc();
    }

    /// A credential of this kind was not accepted.
    pub fn authentication_failed(&self, credential: &'static str) {
        self.0.authentication_failures.get_or_create(&ByCredential { credential }).inc();
    }

    /// What waits just now.
    pub fn waiting(&self, executions: i64, instances: i64) {
        self.0.queue_depth.set(executions);
        self.0.pending_instances.set(instances);
    }

    /// A delivery was given to the broker.
    pub fn bus_published(&self) {
        self.0.bus.published.inc();
    }

    /// The broker holds a delivery durably.
    pub fn bus_confirmed(&self) {
        self.0.bus.confirmed.inc();
    }

    /// The broker did not take a delivery.
    pub fn bus_refused(&self, reason: &'static str) {
        self.0.bus.refused.get_or_create(&ByReason { reason }).inc();
    }

    /// Deliveries were written to the store.
    pub fn bus_landed(&self, deliveries: usize) {
        self.0.bus.landed.inc_by(u64::try_from(deliveries).unwrap_or(u64::MAX));
    }

    /// Messages were set aside.
    pub fn bus_dead_lettered(&self, messages: usize) {
        self.0.bus.dead_lettered.inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
    }

    /// A connection to the broker was made.
    pub fn bus_connected(&self, link: &'static str) {
        self.0.bus.connections.get_or_create(&ByLink { link }).inc();
    }

    /// All of it in the text format of `OpenMetrics`.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::refs::InstanceId;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        let id = InstanceId::from_bytes([1; 12]);
        metrics.event_accepted("webhook", Receipt::New(id));
        metrics.event_accepted("webhook", Receipt::Duplicate(id));
        metrics.event_refused("webhook", 413);
        metrics.execution_finished(ExecutionStatus::Failed);
        metrics.request_answered("GET", "/v1/rules", 200);
        metrics.waiting(3, 4);
        metrics.bus_published();
        metrics.bus_confirmed();
        metrics.bus_refused("nack");
        metrics.bus_landed(2);
        metrics.bus_dead_lettered(1);
        metrics.bus_connected("publishing");
        let text = metrics.render().unwrap();
        for line in [
            r#"petrel_events_accepted_total{door="webhook"} 1"#,
            r#"petrel_events_duplicate_total{door="webhook"} 1"#,
            r#"petrel_events_refused_total{door="webhook",status="413"} 1"#,
            r#"petrel_executions_finished_total{status="failed"} 1"#,
            r#"petrel_http_requests_total{method="GET",route="/v1/rules",status="200"} 1"#,
            "petrel_queue_depth 3",
            "petrel_instances_pending 4",
            "petrel_bus_published_total 1",
            "petrel_bus_confirmed_total 1",
            r#"petrel_bus_refused_total{reason="nack"} 1"#,
            "petrel_bus_landed_total 2",
            "petrel_bus_dead_lettered_total 1",
            r#"petrel_bus_connections_total{link="publishing"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn invented_methods_are_one_series() {
        let metrics = Metrics::default();
        for method in ["GET", "get", "AAAA", "AAAB", "G\nET", ""] {
            metrics.request_answered(method, "/healthz", 200);
        }
        let text = metrics.render().unwrap();
        let series: Vec<&str> = text.lines().filter(|line| line.starts_with("petrel_http_requests_total")).collect();
        assert_eq!(series.len(), 2, "{series:?}");
        assert!(
            text.contains(r#"petrel_http_requests_total{method="other",route="/healthz",status="200"} 5"#),
            "{text}"
        );
    }
}
