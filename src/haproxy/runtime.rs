//! The wire to HAProxy's runtime API: one command per connection, a bounded answer, a limit on every wait. What a
//! command means is not known here.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::names::Name;
use crate::clock::{self, Clock, Elapsed};
use crate::model::time::format_duration;

/// HAProxy answers within milliseconds; while it is busy with a reload it takes longer.
const LIMIT: Duration = Duration::from_secs(5);

/// The statistics of one server are 600 bytes: these are more servers than a backend has.
const LARGEST_ANSWER_BYTES: u64 = 8 * 1024 * 1024;

/// So much of an answer that nobody expected is shown.
const SHOWN_ANSWER_CHARS: usize = 300;

/// Where HAProxy takes commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port.
    Tcp {
        /// Name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// Why a text is not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("socket `{text}` is neither an absolute path nor `host:port`")]
pub(super) struct BadPlace {
    text: String,
}

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let bad = || BadPlace { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Why HAProxy did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    #[error(
        "HAProxy does not answer at {place}: is it running, and does its configuration have \
         `stats socket … level admin`?"
    )]
    Away { place: Place, source: io::Error },
    #[error("HAProxy hung up before it had answered `{command}`: what was asked for may be done, or not")]
    BrokeOff { command: String },
    #[error("HAProxy at {place} may not change servers: write `level admin` behind its `stats socket`")]
    NotAllowed { place: Place },
    #[error(
        "HAProxy has no backend `{0}`: write `backend {0}` into haproxy.cfg, with `balance leastconn` or \
         `balance roundrobin` and a check as `option httpchk GET /health` below it, and reload HAProxy"
    )]
    NoBackend(Name),
    #[error(
        "servers cannot be added to the backend `{0}` while HAProxy runs: write `balance leastconn`, or \
         `balance roundrobin`, below it in haproxy.cfg and reload HAProxy"
    )]
    NotDynamic(Name),
    #[error("HAProxy was told `{command}` and answered what nobody here knows: {answer}")]
    Unknown { command: String, answer: String },
}

/// HAProxy, to be told things.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    place: Place,
    clock: Arc<dyn Clock>,
}

impl Runtime {
    /// The one at this place.
    pub(super) fn new(place: Place, clock: Arc<dyn Clock>) -> Self {
        Self { place, clock }
    }

    /// Whose time limits its waits.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Says one command and gives back the whole answer, which ends with a line's end. Whoever makes the command makes
    /// sure that it is one.
    pub(super) async fn ask(&self, command: &str) -> Result<String, RuntimeError> {
        let exchange = async {
            match &self.place {
                Place::Unix(path) => converse(UnixStream::connect(path).await?, command).await,
                Place::Tcp { host, port } => converse(TcpStream::connect((&**host, *port)).await?, command).await,
            }
        };
        let answer = clock::timeout(&*self.clock, LIMIT, exchange).await.unwrap_or_else(|Elapsed| {
            let why = format!("no answer to `{command}` within {}", format_duration(LIMIT));
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        });
        let answer = answer.map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                RuntimeError::BrokeOff { command: command.to_owned() }
            }
            _ => RuntimeError::Away { place: self.place.clone(), source },
        })?;
        match answer.trim() {
            _ if !answer.ends_with('\n') => Err(RuntimeError::BrokeOff { command: command.to_owned() }),
            "Permission denied" => Err(RuntimeError::NotAllowed { place: self.place.clone() }),
            _ => Ok(answer),
        }
    }
}

/// An answer that is not one of those that HAProxy is known to give.
pub(super) fn unknown(command: &str, answer: &str) -> RuntimeError {
    let answer = answer.trim();
    let shown: String = answer.chars().take(SHOWN_ANSWER_CHARS).collect();
    let rest = if shown.len() < answer.len() { "…" } else { "" };
    RuntimeError::Unknown { command: command.to_owned(), answer: format!("{shown:?}{rest}") }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER_BYTES).read_to_end(&mut answer).await?;
    if answer.len() as u64 == LARGEST_ANSWER_BYTES {
        return Err(io::Error::other(format!("the answer to `{command}` is longer than {LARGEST_ANSWER_BYTES} bytes")));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::TcpListener;

    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    fn runtime(place: &str) -> (Runtime, Arc<SimClock>) {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        (Runtime::new(place.parse().unwrap(), Arc::<SimClock>::clone(&clock)), clock)
    }

    /// Somebody who answers one command with this text and hangs up.
    async fn answered(text: &str) -> Result<String, RuntimeError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (runtime, _clock) = runtime(&listener.local_addr().unwrap().to_string());
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut command = [0; 10];
            stream.read_exact(&mut command).await.unwrap();
            assert_eq!(&command, b"show info\n");
            stream.write_all(text.as_bytes()).await.unwrap();
        };
        tokio::join!(runtime.ask("show info"), answering).0
    }

    #[test]
    fn a_place_is_a_path_or_a_port() {
        for text in ["/run/haproxy/admin.sock", "127.0.0.1:9999", "lb.example:9999"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:9".parse::<Place>(), Ok(Place::Tcp { host: "::1".to_owned(), port: 9 }));
        for text in ["", "admin.sock", ":99", "host", "host:port", "host:99999", "a b:9", "a\n:9"] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_counts_only_if_it_is_whole() {
        assert_eq!(answered("Name: HAProxy\n\n").await.unwrap(), "Name: HAProxy\n\n");
        for broken in ["", "Name: HAPr"] {
            assert!(matches!(answered(broken).await, Err(RuntimeError::BrokeOff { .. })), "{broken:?}");
        }
        let refused = answered("Permission denied\n\n").await.unwrap_err().to_string();
        assert!(refused.contains("write `level admin`"), "{refused}");
    }

    #[tokio::test]
    async fn nobody_there_says_what_to_look_at() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let (runtime, _clock) = runtime(socket.to_str().unwrap());
        let away = runtime.ask("show info").await.unwrap_err().to_string();
        assert!(away.contains(&format!("HAProxy does not answer at {}", socket.display())), "{away}");
        assert!(away.contains("stats socket … level admin"), "{away}");
    }

    #[tokio::test]
    async fn somebody_who_never_answers_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (runtime, clock) = runtime(&listener.local_addr().unwrap().to_string());
        let silence = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut command = [0; 10];
            stream.read_exact(&mut command).await.unwrap();
            clock.advance(LIMIT);
            stream
        };
        let (answer, _stream) = tokio::join!(runtime.ask("show info"), silence);
        let RuntimeError::Away { source, .. } = answer.unwrap_err() else { panic!("it is away") };
        assert_eq!(source.to_string(), "no answer to `show info` within 5s");
    }

    #[test]
    fn an_unknown_answer_is_quoted_and_not_at_length() {
        let said = unknown("show info", &format!("{}\n", "ä\n".repeat(1000))).to_string();
        assert!(said.contains(r"ä\nä") && said.ends_with('…') && said.len() < 1200, "{said}");
    }
}
