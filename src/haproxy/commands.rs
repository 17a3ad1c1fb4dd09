//! The commands of the runtime API that the pack uses, and what HAProxy may answer to each. It says success and failure
//! alike in words, so an answer that is not known is an error. What changes a server takes it as no error that the
//! server is gone, or there already: whoever asked looks again.

use std::net::SocketAddr;

use super::names::Name;
use super::runtime::{Runtime, RuntimeError, unknown};
use super::servers::{Mode, Server, read_servers};
use super::settings::CheckOptions;

const NO_SERVER: &str = "No such server.";
const NOT_DYNAMIC: &str = "Backend must use a dynamic load balancing to support dynamic servers.";

/// A server of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) backend: Name,
    pub(super) server: Name,
}

/// What became of a server that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    Gone,
    /// It still has sessions.
    Busy,
    /// It is not in maintenance.
    InService,
    /// The configuration file refers to it by name.
    Pinned,
}

impl Runtime {
    /// All servers of a backend.
    pub(super) async fn servers(&self, backend: &Name) -> Result<Vec<Server>, RuntimeError> {
        let (show_state, show_stat) = (format!("show servers state {backend}"), format!("show stat {backend} 4 -1"));
        let state = self.ask(&show_state).await?;
        // Asked for later, so that load is never older than the state it belongs to.
        let statistics = self.ask(&show_stat).await?;
        for (command, answer) in [(&show_state, &state), (&show_stat, &statistics)] {
            match answer.trim() {
                said if is_no_backend(said) => return Err(RuntimeError::NoBackend(backend.clone())),
                said if !said.contains("# ") => return Err(unknown(command, said)),
                _ if !answer.ends_with("\n\n") => return Err(RuntimeError::BrokeOff { command: command.clone() }),
                _ => {}
            }
        }
        read_servers(&state, &statistics).map_err(|problem| unknown(&show_state, &format!("{problem}: {state}")))
    }

    /// One server, if it is there.
    pub(super) async fn server(&self, seat: &Seat) -> Result<Option<Server>, RuntimeError> {
        let servers = self.servers(&seat.backend).await?;
        Ok(servers.into_iter().find(|server| server.name == seat.server))
    }

    /// Can servers be added to this backend while HAProxy runs? HAProxy looks at that before it misses the address, so
    /// nothing is added. It writes a line into its log.
    pub(super) async fn takes_servers(&self, backend: &Name) -> Result<bool, RuntimeError> {
        let command = format!("add server {backend}/petrel");
        let answer = self.ask(&command).await?;
        match answer.trim() {
            NOT_DYNAMIC => Ok(false),
            said if is_no_backend(said) => Err(RuntimeError::NoBackend(backend.clone())),
            said if said.starts_with("'server' expects <name> and <addr>") => Ok(true),
            said => Err(unknown(&command, said)),
        }
    }

    /// Adds a server, in maintenance and not checked yet.
    pub(super) async fn add_server(
        &self,
        seat: &Seat,
        address: SocketAddr,
        check: &CheckOptions,
    ) -> Result<(), RuntimeError> {
        let CheckOptions { check_interval, rise, fall, maxconn } = check;
        let millis = check_interval.as_millis();
        let maxconn = maxconn.map(|limit| format!(" maxconn {limit}")).unwrap_or_default();
        let options = format!("check inter {millis}ms rise {rise} fall {fall}{maxconn}");
        let expected = ["New server registered.", "Already exists a server with the same name in backend."];
        self.tell("add server", seat, &format!(" {address} {options}"), &expected).await
    }

    /// Lets it be checked.
    pub(super) async fn enable_health(&self, seat: &Seat) -> Result<(), RuntimeError> {
        self.tell("enable health", seat, "", &["", NO_SERVER]).await
    }

    /// Tells it what to be.
    pub(super) async fn set_mode(&self, seat: &Seat, mode: Mode) -> Result<(), RuntimeError> {
        let mode = match mode {
            Mode::Maint => " state maint",
            Mode::Drain => " state drain",
            Mode::Ready => " state ready",
        };
        self.tell("set server", seat, mode, &["", NO_SERVER]).await
    }

    /// Ends its sessions, whatever they are at.
    pub(super) async fn end_sessions(&self, seat: &Seat) -> Result<(), RuntimeError> {
        self.tell("shutdown sessions server", seat, "", &["", NO_SERVER]).await
    }

    /// Deletes it.
    pub(super) async fn delete_server(&self, seat: &Seat) -> Result<Deletion, RuntimeError> {
        let command = seat.command("del server", "");
        let answer = self.ask(&command).await?;
        match answer.trim() {
            "Server deleted." | NO_SERVER => Ok(Deletion::Gone),
            "Only servers in maintenance mode can be deleted." => Ok(Deletion::InService),
            "Server still has connections attached to it, cannot remove it." => Ok(Deletion::Busy),
            "This server cannot be removed at runtime due to other configuration elements pointing to it." => {
                Ok(Deletion::Pinned)
            }
            said => Err(refusal(&command, seat, said)),
        }
    }

    /// Anything but the expected answers is an error.
    async fn tell(&self, verb: &str, seat: &Seat, rest: &str, expected: &[&str]) -> Result<(), RuntimeError> {
        let command = seat.command(verb, rest);
        let answer = self.ask(&command).await?;
        let said = answer.trim();
        if expected.contains(&said) { Ok(()) } else { Err(refusal(&command, seat, said)) }
    }
}

fn refusal(command: &str, seat: &Seat, said: &str) -> RuntimeError {
    match said {
        NOT_DYNAMIC => RuntimeError::NotDynamic(seat.backend.clone()),
        said if is_no_backend(said) => RuntimeError::NoBackend(seat.backend.clone()),
        said => unknown(command, said),
    }
}

impl Seat {
    fn command(&self, verb: &str, rest: &str) -> String {
        let Self { backend, server } = self;
        format!("{verb} {backend}/{server}{rest}")
    }
}

fn is_no_backend(said: &str) -> bool {
    ["Can't find backend.", "No such backend.", "No such proxy."].contains(&said)
}
