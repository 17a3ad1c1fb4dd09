//! The layer around every router of every listener: whose request it is, by which name the listener was called, and how
//! many requests one address has under way through proxies.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::address::{ClientShare, client_address};
use super::bodies::discard_body;
use super::client::Client;
use super::connections::{Connections, Peer, Phase, Place, Turned};
use crate::api::error::ApiError;
use crate::clock::Clock;
use crate::config::{AllowedHosts, Networks};
use crate::metrics::Metrics;

/// What the operator decides about it.
#[derive(Debug, Clone)]
pub struct GuardSettings {
    /// Connections of all listeners together.
    pub connections: usize,
    /// `trusted_proxies`
    pub trusted_proxies: Networks,
    /// `allowed_hosts`
    pub allowed_hosts: Option<AllowedHosts>,
}

/// What all listeners share. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct ListenerGuard {
    settings: Arc<GuardSettings>,
    connections: Arc<Connections>,
    /// Requests that came through trusted proxies and are under way, of clients that are not known.
    through_proxies: Arc<Mutex<HashMap<ClientShare, usize>>>,
    /// When it was last told that somebody was turned away.
    told: Arc<Mutex<Option<Duration>>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl std::fmt::Debug for ListenerGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerGuard").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ListenerGuard {
    /// With nobody connected.
    pub fn new(settings: GuardSettings, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let connections = Connections::new(settings.connections, metrics.clone());
        let (through_proxies, told) = (Arc::default(), Arc::default());
        Self { settings: Arc::new(settings), connections, through_proxies, told, clock, metrics }
    }

    pub(in crate::api) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A place for a connection from `address`.
    pub(in crate::api) fn admit(&self, address: IpAddr) -> Result<Place, Turned> {
        let is_proxy = self.settings.trusted_proxies.contains(address);
        self.connections.admit(address, is_proxy, self.clock.monotonic()).inspect_err(|turned| {
            let reason = match turned {
                Turned::ShareTaken => "address_share_refused",
                Turned::Full => "all_places_refused",
            };
            self.metrics.connection_closed(reason);
            self.tell(address, reason);
        })
    }

    /// Once in a while: a flood must not fill the log.
    fn tell(&self, address: IpAddr, reason: &'static str) {
        let now = self.clock.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|last| last + TELL_EVERY <= now) {
            *told = Some(now);
            tracing::warn!(%address, reason, "connections are turned away; see petrel_connections_closed_total");
        }
    }

    fn client_of(&self, request: &Request) -> Client {
        let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>() else {
            return Client::of(request.extensions());
        };
        let address = client_address(peer.address(), request.headers(), &self.settings.trusted_proxies);
        Client::new(address, Some(peer.clone()))
    }

    /// DNS that answers with this machine's address for a stranger's name lets a web page talk to us as if it were ours.
    /// A page cannot choose the `Host` that its browser sends.
    fn check_host(&self, listen: SocketAddr, request: &Request) -> Result<(), ApiError> {
        let everywhere = AllowedHosts::default();
        let hosts = match &self.settings.allowed_hosts {
            Some(hosts) => hosts,
            None if listen.ip().to_canonical().is_loopback() => &everywhere,
            None => return Ok(()),
        };
        let Some(host) = request.headers().get(HOST) else { return Ok(()) };
        let host = host.to_str().unwrap_or_default();
        if hosts.allow(host, listen) || is_health(request.uri().path()) {
            return Ok(());
        }
        self.metrics.request_refused("host");
        Err(ApiError::misdirected(format!(
            "the host `{}` is not one of this daemon; add it to `allowed_hosts` in petrel.toml",
            host.chars().take(MOST_HOST_CHARS).collect::<String>()
        )))
    }

    /// Through a proxy the shares of connections say nothing, so requests have shares instead.
    fn count_through_proxy(&self, client: &Client, peer: Option<IpAddr>) -> Result<Option<UnderWay>, ApiError> {
        if peer.is_none_or(|peer| peer == client.address()) {
            return Ok(None);
        }
        let share = client.share();
        let mut counted = self.through_proxies.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = counted.entry(share).or_default();
        if *under_way >= self.connections.share() {
            self.metrics.request_refused("address_share");
            return Err(ApiError::too_many("too many requests of this address at once", Duration::from_secs(1)));
        }
        *under_way += 1;
        Ok(Some(UnderWay { share, counted: Arc::clone(&self.through_proxies) }))
    }
}

/// How often the log says that connections are turned away.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// What is shown of a host that was refused.
const MOST_HOST_CHARS: usize = 100;

/// Whoever asks how a daemon is knows it by whatever name.
fn is_health(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    matches!(path.rsplit_once('/'), Some(("" | "/v1" | "/api/v1", "healthz" | "readyz")))
}

/// A request through a proxy.
#[derive(Debug)]
pub(super) struct UnderWay {
    share: ClientShare,
    counted: Arc<Mutex<HashMap<ClientShare, usize>>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = counted.get_mut(&self.share) {
            *under_way -= 1;
            if *under_way == 0 {
                counted.remove(&self.share);
            }
        }
    }
}

/// A request that is being answered. When it is over, however it ends, its connection waits for the next one.
struct Answering {
    peer: Option<Peer>,
    clock: Arc<dyn Clock>,
}

impl Answering {
    fn begin(peer: Option<Peer>, clock: Arc<dyn Clock>) -> Self {
        if let Some(peer) = &peer {
            peer.set_phase(Phase::Busy);
        }
        Self { peer, clock }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            peer.waits_since(self.clock.monotonic());
        }
    }
}

/// The layer. `listen` is where the listener was bound.
pub(in crate::api) async fn guard_requests(
    State((guard, listen)): State<(ListenerGuard, SocketAddr)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
    let _answering = Answering::begin(peer.clone(), Arc::clone(&guard.clock));
    let client = guard.client_of(&request);
    let checked = guard
        .check_host(listen, &request)
        .and_then(|()| guard.count_through_proxy(&client, peer.as_ref().map(Peer::address)));
    request.extensions_mut().insert(client.clone());
    match checked {
        Ok(under_way) => client.count_until_known(under_way),
        Err(refusal) => {
            discard_body(request, &*guard.clock).await;
            return refusal.into_response();
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    fn guard(allowed_hosts: Option<AllowedHosts>) -> ListenerGuard {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let settings = GuardSettings { connections: 256, trusted_proxies: Networks::default(), allowed_hosts };
        ListenerGuard::new(settings, clock, Metrics::default())
    }

    fn refusal(guard: &ListenerGuard, listen: &str, path: &str, host: &str) -> Option<String> {
        let request = Request::get(path).header(HOST, host).body(Body::empty()).unwrap();
        guard.check_host(listen.parse().unwrap(), &request).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_loopback_listener_is_called_by_its_own_names_only() {
        let guard = guard(None);
        let refused = refusal(&guard, "127.0.0.1:9101", "/v1/rules", "evil.example:9101").unwrap();
        assert!(refused.contains("evil.example") && refused.contains("allowed_hosts"), "{refused}");
        for (listen, path, host) in [
            ("127.0.0.1:9101", "/v1/rules", "127.0.0.1:9101"),
            ("127.0.0.1:9101", "/v1/rules", "localhost:9101"),
            ("127.0.0.1:9101", "/healthz", "evil.example"),
            ("127.0.0.1:9101", "/api/v1/readyz/", "evil.example"),
            ("0.0.0.0:9101", "/v1/rules", "petrel.example.org"),
        ] {
            assert_eq!(refusal(&guard, listen, path, host), None, "{listen} {path} {host}");
        }
        assert!(refusal(&guard, "127.0.0.1:9101", "/v1/webhooks/healthz", "evil.example").is_some());
    }

    #[test]
    fn where_hosts_are_named_every_listener_keeps_to_them() {
        let guard = guard(Some(AllowedHosts::default()));
        assert!(refusal(&guard, "0.0.0.0:9101", "/v1/rules", "evil.example").is_some());
        assert_eq!(refusal(&guard, "192.0.2.7:9101", "/v1/rules", "192.0.2.7:9101"), None);
    }

    #[test]
    fn clients_behind_a_proxy_have_shares_of_requests_until_they_are_known() {
        let guard = guard(None);
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let client = |last: u8| Client::new(IpAddr::from([192, 0, 2, last]), None);
        let begin = |last: u8| {
            let client = client(last);
            let under_way = guard.count_through_proxy(&client, Some(proxy))?;
            client.count_until_known(under_way);
            Ok::<_, ApiError>(client)
        };
        let mut held: Vec<Client> = (0..16).map(|_| begin(1).unwrap()).collect();
        assert_eq!(begin(1).unwrap_err().status().as_u16(), 429);
        assert!(begin(2).is_ok());
        held[0].become_known();
        assert!(begin(1).is_ok(), "who is known is not counted");
        held.clear();
        assert!(guard.through_proxies.lock().unwrap().is_empty());
        assert!(guard.count_through_proxy(&client(1), Some(client(1).address())).unwrap().is_none());
    }
}
