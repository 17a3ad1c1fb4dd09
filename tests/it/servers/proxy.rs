//! A TCP proxy between a client and a server that does what networks do: break, stall, delay, reset.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use petrel::clock::{SystemClock, sleep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ports::free_port;
use crate::support::eventually;

/// Small enough that a delay per chunk is felt by what is large.
const CHUNK_BYTES: usize = 16 * 1024;

/// The network between whoever connects to it and the target. It belongs to the runtime in which it was started.
pub(crate) struct Proxy {
    target: SocketAddr,
    port: u16,
    weather: watch::Sender<Weather>,
    counts: Arc<Counts>,
    listener: Option<JoinHandle<()>>,
}

/// What happens to connections now.
#[derive(Debug, Clone, Copy)]
struct Weather {
    fault: Fault,
    /// Connections of an earlier era end.
    era: u64,
    ending: Ending,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    BlackHole,
    Delay(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Reset,
}

/// What has gone through.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    ended: AtomicU64,
    bytes_to_server: AtomicU64,
    bytes_to_client: AtomicU64,
}

impl Proxy {
    /// A network without faults in front of `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let weather = Weather { fault: Fault::None, era: 0, ending: Ending::Close };
        let mut proxy = Self {
            target,
            port: free_port(),
            weather: watch::Sender::new(weather),
            counts: Arc::default(),
            listener: None,
        };
        proxy.listen().await;
        proxy
    }

    /// A network without faults in front of the server of a URL.
    pub(crate) async fn in_front_of(url: &str) -> Self {
        let target = authority(url).parse().unwrap_or_else(|_| panic!("no address and port in {url}"));
        Self::start(target).await
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The same URL, but through this network.
    pub(crate) fn through(&self, url: &str) -> String {
        url.replacen(authority(url), &self.address().to_string(), 1)
    }

    /// No faults from now on.
    pub(crate) async fn pass(&mut self) {
        self.weather.send_modify(|weather| weather.fault = Fault::None);
        self.listen().await;
    }

    /// Existing connections are closed and new ones refused.
    pub(crate) async fn cut(&mut self) {
        self.end_connections(Ending::Close).await;
    }

    /// Connections stay open and new ones are accepted, but no byte moves until the next `pass` or `delay`.
    pub(crate) async fn black_hole(&mut self) {
        self.weather.send_modify(|weather| weather.fault = Fault::BlackHole);
        self.listen().await;
    }

    /// Every chunk takes so much longer, in both directions.
    pub(crate) async fn delay(&mut self, by: Duration) {
        self.weather.send_modify(|weather| weather.fault = Fault::Delay(by));
        self.listen().await;
    }

    /// Existing connections are reset; new ones fare as before.
    pub(crate) async fn reset(&mut self) {
        self.end_connections(Ending::Reset).await;
        self.listen().await;
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub(crate) fn open_connections(&self) -> u64 {
        let ended = self.counts.ended.load(Ordering::Acquire);
        self.connections() - ended
    }

    /// How many bytes went through: to the server, to the clients.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.counts.bytes_to_server.load(Ordering::Relaxed), self.counts.bytes_to_client.load(Ordering::Relaxed))
    }

    async fn listen(&mut self) {
        if self.listener.is_some() {
            return;
        }
        let listener = TcpListener::bind(self.address()).await.expect("its port is its own");
        let (target, weather, counts) = (self.target, self.weather.subscribe(), Arc::clone(&self.counts));
        self.listener = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = Connection::new(client, weather.clone(), Counted::new(&counts));
                tokio::spawn(connection.run(target, Arc::clone(&counts)));
            }
        }));
    }

    async fn end_connections(&mut self, ending: Ending) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
            assert!(listener.await.is_err_and(|error| error.is_cancelled()), "nobody else ends it");
        }
        self.weather.send_modify(|weather| {
            weather.era += 1;
            weather.ending = ending;
        });
        eventually("no connection is left", async || (self.open_connections() == 0).then_some(())).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
        // Connections end, too: nobody makes weather any more.
    }
}

/// `address:port` of a URL.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("a URL");
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

struct Connection {
    client: TcpStream,
    weather: watch::Receiver<Weather>,
    era: u64,
    /// The last field: what is counted as ended is closed.
    _counted: Counted,
}

impl Connection {
    fn new(client: TcpStream, weather: watch::Receiver<Weather>, counted: Counted) -> Self {
        let era = weather.borrow().era;
        Self { client, weather, era, _counted: counted }
    }

    /// Carries bytes both ways until one side fails, both are done, or the weather ends it.
    async fn run(mut self, target: SocketAddr, counts: Arc<Counts>) {
        let (mut weather, era) = (self.weather.clone(), self.era);
        let mut server = None;
        let ending = tokio::select! {
            biased;
            now = weather.wait_for(|now| now.era != era) => now.map_or(Ending::Close, |now| now.ending),
            done = self.carry(target, &mut server, &counts) => done.map_or(Ending::Reset, |()| Ending::Close),
        };
        if ending == Ending::Reset {
            for stream in [Some(&self.client), server.as_ref()].into_iter().flatten() {
                stream.set_zero_linger().expect("our own socket");
            }
        }
    }

    async fn carry(&mut self, target: SocketAddr, server: &mut Option<TcpStream>, counts: &Counts) -> io::Result<()> {
        clear(&mut self.weather).await;
        let server = server.insert(TcpStream::connect(target).await?);
        self.client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = self.client.split();
        let (from_server, to_server) = server.split();
        let there = pump(from_client, to_server, self.weather.clone(), &counts.bytes_to_server);
        let back = pump(from_server, to_client, self.weather.clone(), &counts.bytes_to_client);
        tokio::try_join!(there, back)?;
        Ok(())
    }
}

/// One connection among those that there are.
struct Counted(Arc<Counts>);

impl Counted {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// Moves chunks from one side to the other until the first says that it is done.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        let fault = clear(&mut weather).await;
        if let Fault::Delay(by) = fault {
            sleep(&SystemClock::new(), by).await;
            clear(&mut weather).await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
        bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Waits for the end of a black hole.
async fn clear(weather: &mut watch::Receiver<Weather>) -> Fault {
    match weather.wait_for(|now| !matches!(now.fault, Fault::BlackHole)).await {
        Ok(now) => now.fault,
        // The proxy is gone; the connection ends by that.
        Err(_) => Fault::None,
    }
}
