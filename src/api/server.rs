//! The socket under the router: bound with a clear word when it cannot be, read with a limit on patience, closed in
//! order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::middleware::from_fn_with_state;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::api::listen::{ListenerGuard, Peer, Phase, Place, Turned, guard_requests};
use crate::clock::{self, Clock};
use crate::runners::descriptors;

/// So many connections at once, of all listeners together, if there are descriptors for them.
const MOST_CONNECTIONS: usize = 4096;
/// The head of a request must arrive within this time of the last answer; silence counts too.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// The same for a connection on which nobody has shown a valid credential.
const IDLE_LIMIT_OF_STRANGER: Duration = Duration::from_secs(10);
/// An answer of which nothing is taken for so long is given up. Clients of the event stream come back with their last id.
const WRITE_LIMIT: Duration = Duration::from_mins(5);
/// The same for a connection on which nobody has shown a valid credential.
const WRITE_LIMIT_OF_STRANGER: Duration = Duration::from_secs(20);
/// So much is read at once on a connection on which nobody has shown a valid credential.
const PIECE_OF_STRANGER: usize = 8 << 10;
/// Longer heads are nobody's: proxies refuse them at a quarter of this.
const MOST_HEAD_BYTES: usize = 64 << 10;
/// When the system has no more sockets, asking again at once only spins.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How many connections all listeners together may have, so that a flood of them leaves descriptors for the store and for
/// actions.
pub fn most_connections() -> usize {
    MOST_CONNECTIONS.min(descriptors::connections_allowed())
}

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody is there already.
    #[error("port {port} is in use by another process; stop it, or choose another with {option}")]
    InUse {
        /// The port.
        port: u16,
        /// How to choose another, as `--listen`.
        option: String,
    },
    /// Ports below 1024, or an address of another machine.
    #[error("cannot listen on {address}; choose another address with {option}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// How to choose another.
        option: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Takes a port. `option` is how the operator chooses another one.
pub fn bind(address: SocketAddr, option: &str) -> Result<std::net::TcpListener, BindError> {
    let option = option.to_owned();
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            return BindError::InUse { port: address.port(), option };
        }
        BindError::Refused { address, option, source }
    })
}

/// Answers requests until the token is cancelled; then lets those at work finish.
pub async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    guard: ListenerGuard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listen = listener.local_addr()?;
    let sockets = TcpListener::from_std(listener)?;
    let router = router.layer(from_fn_with_state((guard.clone(), listen), guard_requests));
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(Accepting { sockets, guard }, service).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

/// Accepts the connections for which there is a place.
struct Accepting {
    sockets: TcpListener,
    guard: ListenerGuard,
}

impl Listener for Accepting {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let mut told = None;
        loop {
            match self.sockets.accept().await {
                Ok((stream, peer)) => match self.guard.admit(peer.ip()) {
                    Ok(place) => return (Connection::new(stream, Arc::clone(self.guard.clock()), place), peer),
                    Err(turned) => turn_away(&stream, turned),
                },
                Err(problem) => {
                    if told.replace(problem.kind()) != Some(problem.kind()) {
                        tracing::warn!(%problem, "connections cannot be accepted; trying again until they can");
                    }
                    clock::sleep(&**self.guard.clock(), ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.local_addr()
    }
}

impl Connected<IncomingStream<'_, Accepting>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Accepting>) -> Self {
        stream.io().place.peer().clone()
    }
}

/// Says so at once, as far as it can be said without waiting for anybody.
fn turn_away(stream: &TcpStream, turned: Turned) {
    let (status, fault) = match turned {
        Turned::ShareTaken => ("429 Too Many Requests", "too many connections of this address"),
        Turned::Full => ("503 Service Unavailable", "too many connections"),
    };
    let body = format!("{{\"faultstring\":\"{fault}\"}}");
    let answer = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    if let Err(problem) = stream.try_write(answer.as_bytes()) {
        tracing::debug!(%problem, "a connection was turned away without an answer");
    }
}

/// A connection whose client must say something whole in time, and take what it asked for.
struct Connection {
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    place: Place,
    /// Of the head that is being read.
    head_bytes: usize,
    reading: Alarm,
    /// Since when nothing could be written.
    blocked: Option<Duration>,
    writing: Alarm,
}

impl Connection {
    fn new(stream: TcpStream, clock: Arc<dyn Clock>, place: Place) -> Self {
        if let Err(problem) = stream.set_nodelay(true) {
            tracing::debug!(%problem, "a connection answers in larger pieces");
        }
        place.peer().waits_since(clock.monotonic());
        let (reading, writing) = (Alarm::default(), Alarm::default());
        Self { stream, clock, place, head_bytes: 0, reading, blocked: None, writing }
    }

    /// Ready when it must not wait for a head any longer, with the reason.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<&'static str> {
        let peer = self.place.peer();
        if peer.phase() != Phase::Waiting {
            self.head_bytes = 0;
            return Poll::Pending;
        }
        let limit = if peer.is_known() { IDLE_LIMIT } else { IDLE_LIMIT_OF_STRANGER };
        let until = peer.waiting_since() + limit;
        ready!(self.reading.poll(until, &self.clock, context));
        Poll::Ready("head_deadline")
    }

    /// The reader above keeps a buffer for as much as it was once given, so a stranger is read in small pieces.
    fn poll_stream(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.place.peer().is_known() || buffer.remaining() <= PIECE_OF_STRANGER {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut bytes = [0; PIECE_OF_STRANGER];
        let mut piece = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
        buffer.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }

    fn poll_blocked(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let limit = if self.place.peer().is_known() { WRITE_LIMIT } else { WRITE_LIMIT_OF_STRANGER };
        let since = *self.blocked.get_or_insert_with(|| self.clock.monotonic());
        ready!(self.writing.poll(since + limit, &self.clock, context));
        self.place.peer().count_closed("write_deadline");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(&mut self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        self.place.peer().wrote_at(self.clock.monotonic());
        (self.blocked, self.head_bytes) = (None, 0);
        Poll::Ready(written)
    }
}

/// A point in time that is waited for; it may move while it is.
#[derive(Default)]
struct Alarm(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Alarm {
    fn poll(&mut self, until: Duration, clock: &Arc<dyn Clock>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = until.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return Poll::Ready(());
            }
            let alarm = self.0.get_or_insert_with(|| {
                let clock = Arc::clone(clock);
                Box::pin(async move { clock.sleep_for(left).await })
            });
            ready!(alarm.as_mut().poll(context));
            self.0 = None;
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.place.peer().is_evicted(context.waker()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        // The head was looked at after each read before this one: it is longer than that.
        if self.head_bytes > MOST_HEAD_BYTES {
            self.place.peer().count_closed("head_size");
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        if let Poll::Ready(result) = self.poll_stream(context, buffer) {
            if self.place.peer().phase() == Phase::Waiting {
                self.head_bytes += buffer.filled().len() - before;
            }
            return Poll::Ready(result);
        }
        let reason = ready!(self.poll_refusal(context));
        self.place.peer().count_closed(reason);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => self.wrote(written),
            Poll::Pending => self.poll_blocked(context),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, parts) {
            Poll::Ready(written) => self.wrote(written),
            Poll::Pending => self.poll_blocked(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::api::listen::GuardSettings;
    use crate::clock::{SimClock, SystemClock};
    use crate::config::Networks;
    use crate::metrics::Metrics;
    use crate::model::time::Timestamp;
    use crate::supervise::Supervisor;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_port_in_use_is_named_with_the_way_out() {
        let held = bind(ANY_PORT, "--listen").unwrap();
        let address = held.local_addr().unwrap();
        let expected =
            format!("port {} is in use by another process; stop it, or choose another with --listen", address.port());
        assert_eq!(bind(address, "--listen").unwrap_err().to_string(), expected);
    }

    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        metrics: Metrics,
        _supervisor: Supervisor,
    }

    fn open(clock: Arc<dyn Clock>, connections: usize) -> Served {
        let listener = bind(ANY_PORT, "--listen").unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello")).route("/healthz", get(async || "ok"));
        let (supervisor, stop) = (Supervisor::new(Arc::new(SystemClock::new())), CancellationToken::new());
        let (token, metrics) = (stop.clone(), Metrics::default());
        let settings = GuardSettings { connections, trusted_proxies: Networks::default(), allowed_hosts: None };
        let guard = ListenerGuard::new(settings, clock, metrics.clone());
        supervisor.spawn_once("api", async move { serve(listener, router, guard, token).await });
        Served { address, stop, metrics, _supervisor: supervisor }
    }

    impl Served {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn ask(&self, path: &str, host: &str) -> String {
            let mut client = self.connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        }

        fn closed(&self, reason: &str) -> bool {
            self.metrics.render().unwrap().contains(&format!("connections_closed_total{{reason=\"{reason}\"}}"))
        }
    }

    #[tokio::test]
    async fn requests_are_answered_until_the_door_is_closed() {
        let served = open(Arc::new(SystemClock::new()), 64);
        let mut client = served.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        served.stop.cancel();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"hello"));
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_is_sent_away() {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let served = open(Arc::<SimClock>::clone(&clock), 64);
        let mut client = served.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        let mut answer = Vec::new();
        tokio::select! {
            read = client.read_to_end(&mut answer) => read.map(drop).unwrap_or_default(),
            () = async { loop { clock.advance(IDLE_LIMIT_OF_STRANGER / 4); tokio::task::yield_now().await; } } => {}
        }
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        assert!(served.closed("head_deadline"));
    }

    #[tokio::test]
    async fn idle_connections_keep_nobody_out() {
        let served = open(Arc::new(SystemClock::new()), 64);
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(served.connect().await);
        }
        let answer = served.ask("/healthz", "localhost").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(served.closed("address_share"));
        assert_eq!(idle.len(), 200, "each of them was accepted");
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_not_kept() {
        let served = open(Arc::new(SystemClock::new()), 64);
        let mut client = served.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-long: ").await.unwrap();
        let piece = [b'x'; 4096];
        let mut sent = 0;
        while client.write_all(&piece).await.is_ok() && sent < 1 << 24 {
            sent += piece.len();
        }
        assert!(sent < 1 << 24, "the connection was closed");
        assert!(served.closed("head_size"));
    }

    #[tokio::test]
    async fn a_page_that_calls_us_by_its_own_name_is_refused() {
        let served = open(Arc::new(SystemClock::new()), 64);
        let refused = served.ask("/", "evil.example").await;
        assert!(refused.starts_with("HTTP/1.1 421") && refused.contains("allowed_hosts"), "{refused}");
        let healthy = served.ask("/healthz", "evil.example").await;
        assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
    }
}
