//! A PostgreSQL of our own: it can be killed, started again on the same data, and stopped in the middle of a query.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;
use tokio_postgres::{Client, NoTls};

use super::certificates::Certificates;
use super::guarded::Guarded;
use super::packages::{POSTGRES, user};
use super::ports::{free_port, random};
use crate::support::eventually;

/// What is durable is really written: stories about crashes must be honest. All else is small.
const SETTINGS: [&str; 7] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "max_connections=200",
    "shared_buffers=16MB",
    "listen_addresses=127.0.0.1",
    // In its own folder instead of /dev/shm, where kill -9 would leave it.
    "dynamic_shared_memory_type=mmap",
];

/// Everybody else is trusted.
pub(crate) const CAREFUL_USER: &str = "careful";

/// A server that runs, or the place where one ran.
pub(crate) struct Postgres {
    guarded: Guarded,
    programs: PathBuf,
    port: u16,
    certificates: Certificates,
}

impl Postgres {
    /// Makes one and waits until it answers.
    pub(crate) async fn start() -> Self {
        super::announce();
        let programs = POSTGRES.programs().await;
        let guarded = Guarded::new(POSTGRES.name, "QUIT");
        let certificates = Certificates::write(guarded.folder());
        if let Some((user, group)) = owner() {
            for path in [guarded.folder(), &certificates.key] {
                chown(path, Some(user), Some(group)).expect("root may give it away");
            }
        }
        let mut postgres = Self { guarded, programs, port: free_port(), certificates };
        let mut init = postgres.command("initdb");
        init.args(["--username=petrel", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        postgres.guarded.run(init).await;
        postgres.keep_out_the_careless();
        postgres.start_again().await;
        postgres
    }

    /// Where a database of it is.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://petrel@127.0.0.1:{}/{database}", self.port)
    }

    /// Where a database of it is for [`CAREFUL_USER`], who is let in with a password and over TLS only.
    pub(crate) fn careful_url(&self, host: &str, password: &str, database: &str) -> String {
        format!("postgres://{CAREFUL_USER}:{password}@{host}:{}/{database}?sslmode=require", self.port)
    }

    /// The certificate of who signed its own, as a PEM file.
    pub(crate) fn authority(&self) -> &Path {
        &self.certificates.authority
    }

    /// Makes a new database; its URL.
    pub(crate) async fn fresh_database(&self) -> String {
        create_database(&self.url("postgres")).await
    }

    /// Ends it as a power cut would: the postmaster and all of its children.
    pub(crate) async fn kill_9(&mut self) {
        self.guarded.kill_9().await;
    }

    /// Starts it after its end, on the same port and the same data, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let mut server = self.command("postgres");
        server.arg("-p").arg(self.port.to_string()).arg("-k").arg(self.guarded.folder());
        server.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let Certificates { certificate, key, .. } = &self.certificates;
        server.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", certificate.display())]);
        server.args(["-c", &format!("ssl_key_file={}", key.display())]);
        self.guarded.start(server);
        let url = self.url("postgres");
        eventually("PostgreSQL answers a query", async || {
            self.guarded.assert_alive();
            try_connect(&url).await?.simple_query("SELECT 1").await.ok()
        })
        .await;
    }

    /// Stops it where it is: connections stay open, nobody answers.
    pub(crate) async fn pause(&self) {
        self.guarded.pause().await;
    }

    /// Lets it go on.
    pub(crate) async fn resume(&self) {
        self.guarded.resume().await;
    }

    /// The first line that fits decides.
    fn keep_out_the_careless(&self) {
        let file = self.guarded.folder().join("data/pg_hba.conf");
        let rest = fs::read_to_string(&file).expect("what initdb has written");
        let first = format!(
            "hostssl all {CAREFUL_USER} 127.0.0.1/32 scram-sha-256\nhostnossl all {CAREFUL_USER} 127.0.0.1/32 reject\n"
        );
        fs::write(&file, format!("{first}{rest}")).expect("our own folder");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-D").arg(self.guarded.folder().join("data")).current_dir(self.guarded.folder());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }
}

/// As whom it runs, if we are root: it refuses to be that.
fn owner() -> Option<(u32, u32)> {
    geteuid().is_root().then(|| user("postgres").or_else(|| user("nobody")).expect("a user who is not root"))
}

/// Makes a new database on the server where `url` is another one; its URL.
pub(crate) async fn create_database(url: &str) -> String {
    let name = format!("petrel_test_{:016x}", random());
    let client = connect(url).await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the right to create databases");
    let (server, database) = url.rsplit_once('/').expect("a URL with a database");
    let parameters = database.split_once('?').map(|(_, parameters)| format!("?{parameters}"));
    format!("{server}/{name}{}", parameters.unwrap_or_default())
}

/// A connection; its other half ends with it.
pub(crate) async fn connect(url: &str) -> Client {
    try_connect(url).await.unwrap_or_else(|| panic!("no connection to {url}"))
}

async fn try_connect(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}
