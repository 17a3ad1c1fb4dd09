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
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::runners::descriptors;

/// A whole request, its headers and body, must arrive within this time of the last answer; silence counts too.
const PATIENCE: Duration = Duration::from_mins(1);
/// So many connections at once, if there are descriptors for them; the rest waits in the system's queue.
const MOST_CONNECTIONS: usize = 4096;
/// When the system has no more sockets, asking again at once only spins.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How many connections there may be at once, so that a flood of them leaves descriptors for the store and for actions.
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
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let sockets = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(most_connections()));
    let door = Door { sockets, clock, places };
    axum::serve(door, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

/// Accepts connections that lose patience.
struct Door {
    sockets: TcpListener,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let mut told = None;
        loop {
            match self.sockets.accept().await {
                Ok((stream, peer)) => {
                    if let Err(problem) = stream.set_nodelay(true) {
                        tracing::debug!(%problem, "a connection answers in larger pieces");
                    }
                    return (Connection::new(stream, Arc::clone(&self.clock), place), peer);
                }
                Err(problem) => {
                    if told.replace(problem.kind()) != Some(problem.kind()) {
                        tracing::warn!(%problem, "connections cannot be accepted; trying again until they can");
                    }
                    clock::sleep(&*self.clock, ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.local_addr()
    }
}

/// A connection whose client must say something whole in time.
struct Connection {
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    /// When we last said something.
    answered: Duration,
    alarm: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: TcpStream, clock: Arc<dyn Clock>, place: Option<OwnedSemaphorePermit>) -> Self {
        let answered = clock.monotonic();
        Self { stream, clock, answered, alarm: None, _place: place }
    }

    /// Ready when patience is at its end.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let waited = self.clock.monotonic().saturating_sub(self.answered);
            let left = PATIENCE.saturating_sub(waited);
            if left.is_zero() {
                return Poll::Ready(());
            }
            let clock = &self.clock;
            let alarm = self.alarm.get_or_insert_with(|| {
                let clock = Arc::clone(clock);
                Box::pin(async move { clock.sleep_for(left).await })
            });
            ready!(alarm.as_mut().poll(context));
            self.alarm = None;
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            return Poll::Ready(result);
        }
        ready!(self.poll_patience(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.answered = self.clock.monotonic();
        Poll::Ready(written)
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
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts));
        self.answered = self.clock.monotonic();
        Poll::Ready(written)
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
    use crate::clock::{SimClock, SystemClock};
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

    async fn open(clock: Arc<dyn Clock>) -> (TcpStream, CancellationToken, Supervisor) {
        let listener = bind(ANY_PORT, "--listen").unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        let (supervisor, stop) = (Supervisor::new(Arc::new(SystemClock::new())), CancellationToken::new());
        let token = stop.clone();
        supervisor.spawn_once("api", async move { serve(listener, router, clock, token).await });
        (TcpStream::connect(address).await.unwrap(), stop, supervisor)
    }

    #[tokio::test]
    async fn requests_are_answered_until_the_door_is_closed() {
        let (mut client, stop, _supervisor) = open(Arc::new(SystemClock::new())).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        stop.cancel();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"hello"));
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_is_sent_away() {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let (mut client, _stop, _supervisor) = open(Arc::<SimClock>::clone(&clock)).await;
        client.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        let mut answer = Vec::new();
        tokio::select! {
            read = client.read_to_end(&mut answer) => read.map(drop).unwrap_or_default(),
            () = async { loop { clock.advance(PATIENCE / 4); tokio::task::yield_now().await; } } => {}
        }
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
}
