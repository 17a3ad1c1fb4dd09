//! One life of a connection to the broker: how it begins, with an end to every wait, and how its end is noticed. Whoever
//! lives on it begins anew after its end; nothing is recovered behind anybody's back.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event};

use super::address::Address;
use crate::clock::{self, Clock};

/// The broker has to be reached, and to have greeted us, within this time.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A farewell that is not answered is none.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Ends are announced; if one were not, it would be noticed this late.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    address: Address,
    clock: Arc<dyn Clock>,
}

/// The socket under a connection that is being made, by which it can be ended from outside: the library goes on waiting
/// for a greeting on a thread of its own, whoever has given up.
type Socket = Arc<Mutex<Option<TcpStream>>>;

impl Connector {
    pub(super) const fn new(address: Address, clock: Arc<dyn Clock>) -> Self {
        Self { address, clock }
    }

    /// Connects, for a purpose that the broker's own pages show.
    pub(super) async fn connect(&self, purpose: &str) -> anyhow::Result<Life> {
        let socket = Socket::default();
        let opening = open(&self.address, purpose, Arc::clone(&socket), Arc::clone(&self.clock));
        let opened = clock::timeout(&*self.clock, CONNECT_LIMIT, opening).await;
        if !matches!(opened, Ok(Ok(_))) {
            cut(&socket);
        }
        let connection = opened
            .map_err(|elapsed| anyhow!(elapsed))
            .and_then(|opened| opened.map_err(Into::into))
            .with_context(|| format!("connecting to the broker at {}", self.address))?;
        let events = connection.events_listener().boxed();
        Ok(Life { connection: Arc::new(connection), events, channels: Vec::new(), clock: Arc::clone(&self.clock) })
    }
}

async fn open(address: &Address, purpose: &str, socket: Socket, clock: Arc<dyn Clock>) -> lapin::Result<Connection> {
    let name = format!("petrel {purpose}");
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let (tls, runtime) = (address.tls().clone(), lapin::runtime::default_runtime()?);
    let for_library = runtime.clone();
    let connect = async move |uri: AMQPUri, _| {
        let reach = async {
            let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
            let stream = plain.connect_with_config_async(OwnedTLSConfig::default().as_ref(), &runtime).await?;
            if let AsyncTcpStream::Plain(tcp) = &stream {
                hold(&socket, tcp.get_ref())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await,
            }
        };
        let reached = clock::timeout(&*clock, CONNECT_LIMIT, reach).await;
        reached.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(lapin::Error::from)
    };
    Connection::connector(address.uri().clone(), for_library, connect, properties).await
}

/// Keeps a second handle on a socket. Messages are small and somebody waits for each: none is held back to fill a packet.
fn hold(socket: &Socket, tcp: &impl AsFd) -> std::io::Result<()> {
    let handle = TcpStream::from(tcp.as_fd().try_clone_to_owned()?);
    handle.set_nodelay(true)?;
    *socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    Ok(())
}

fn cut(socket: &Socket) {
    let held = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(problem) = held.and_then(|socket| socket.shutdown(Shutdown::Both).err()) {
        tracing::debug!(%problem, "the broker had hung up before we did");
    }
}

/// A problem with its causes, without those that are said already: the library's problems repeat their causes.
pub(super) fn told(problem: &anyhow::Error) -> String {
    problem.chain().skip(1).fold(problem.to_string(), |told, cause| {
        let cause = cause.to_string();
        if told.contains(&cause) { told } else { format!("{told}: {cause}") }
    })
}

/// A connection that stands, or stood a moment ago.
pub(super) struct Life {
    connection: Arc<Connection>,
    events: BoxStream<'static, Event>,
    /// Those whose end is the end of everything here.
    channels: Vec<Channel>,
    clock: Arc<dyn Clock>,
}

/// What happens to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The broker takes no messages for this reason.
    Blocked(String),
    /// It takes messages again.
    Unblocked,
    /// It is over.
    Ended(String),
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Life")
    }
}

impl Life {
    /// For channels whose end is not the end of this life, as those of questions: the answer may be their end.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// A channel for work: its end is the end of this life.
    pub(super) async fn channel(&mut self) -> lapin::Result<Channel> {
        let channel = self.connection.create_channel().await?;
        self.channels.push(channel.clone());
        Ok(channel)
    }

    /// Returns when something changes.
    pub(super) async fn change(&mut self) -> Change {
        let mut said = None;
        loop {
            if !self.is_alive() {
                return Change::Ended(said.unwrap_or_else(|| "it was closed".to_owned()));
            }
            let event = tokio::select! {
                event = self.events.next() => event,
                () = self.clock.sleep_for(LOOK_EVERY) => continue,
            };
            match event {
                Some(Event::ConnectionBlocked(why)) => return Change::Blocked(why),
                Some(Event::ConnectionUnblocked) => return Change::Unblocked,
                // Also the end of a question is told here.
                Some(Event::Error(problem)) => said = Some(problem.to_string()),
                Some(_) => {}
                None => return Change::Ended("it was closed".to_owned()),
            }
        }
    }

    /// Returns when it is over, and why.
    pub(super) async fn end(&mut self) -> String {
        loop {
            if let Change::Ended(why) = self.change().await {
                return why;
            }
        }
    }

    /// Does the connection stand, with all of its channels for work?
    pub(super) fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channels.iter().all(|channel| channel.status().connected())
    }

    /// Says farewell.
    pub(super) async fn close(self) {
        let closing = self.connection.close(200, "petrel stops".into());
        match clock::timeout(&*self.clock, CLOSE_LIMIT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::debug!(%problem, "the broker went before we could say farewell"),
            Err(_) => tracing::debug!("the broker did not answer our farewell"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_its_causes_and_each_of_them_once() {
        let io = std::io::Error::other("reset by peer");
        let problem = anyhow!(lapin::Error::from(io)).context("connecting");
        assert_eq!(told(&problem), "connecting: IO error: reset by peer");
    }
}
