//! A RabbitMQ of our own: a node with its own port mapper, cookie and data, which can be killed, started again and
//! stopped.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use petrel::clock::{SystemClock, timeout};
use tokio::sync::Mutex;

use super::certificates::Certificates;
use super::guarded::Guarded;
use super::packages::RABBITMQ;
use super::ports::{free_port, random};
use crate::support::eventually;

/// Virtual hosts are made so many at a time: it is the tool's start that takes its time.
const VHOSTS_AT_ONCE: usize = 8;

/// Erlang for everybody: on the loopback, on two cores that others need, without busy waiting.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none";

/// More than any story needs.
const MEMORY_LIMIT: &str = "512MiB";

/// One attempt to connect. The client may wait for ever for a broker that closes the connection while it boots.
const ATTEMPT: Duration = Duration::from_secs(3);

/// A broker that runs, or the place where one ran.
pub(crate) struct RabbitMq {
    guarded: Guarded,
    programs: PathBuf,
    ports: Ports,
    certificates: Certificates,
    vhosts: Mutex<VecDeque<String>>,
}

struct Ports {
    amqp: u16,
    amqps: u16,
    distribution: u16,
    mapper: u16,
}

impl RabbitMq {
    /// Makes one and waits until it takes queues.
    pub(crate) async fn start() -> Self {
        super::announce();
        let programs = RABBITMQ.programs().await;
        let guarded = Guarded::new(RABBITMQ.name, "KILL");
        let ports = Ports { amqp: free_port(), amqps: free_port(), distribution: free_port(), mapper: free_port() };
        let certificates = Certificates::write(guarded.folder());
        let configuration = format!(
            "listeners.tcp.default = 127.0.0.1:{}\nlisteners.ssl.default = 127.0.0.1:{}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\nloopback_users.guest = true\n\
             vm_memory_high_watermark.absolute = {MEMORY_LIMIT}\ndisk_free_limit.absolute = 100MB\n\
             log.console = true\nlog.console.level = warning\nlog.file = false\n",
            ports.amqp,
            ports.amqps,
            certificates.certificate.display(),
            certificates.key.display(),
        );
        fs::write(guarded.folder().join("rabbit.conf"), configuration).expect("our own folder");
        let mut broker = Self { guarded, programs, ports, certificates, vhosts: Mutex::default() };
        broker.start_again().await;
        broker
    }

    /// Where its first virtual host is.
    pub(crate) fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// Where its first virtual host is for those who speak TLS.
    pub(crate) fn tls_url(&self, host: &str, password: &str) -> String {
        format!("amqps://guest:{password}@{host}:{}/%2f", self.ports.amqps)
    }

    /// The certificate of who signed its own, as a PEM file.
    pub(crate) fn authority(&self) -> &Path {
        &self.certificates.authority
    }

    /// Makes it believe that its memory is used up: it stops reading from whoever publishes.
    pub(crate) async fn run_out_of_memory(&self) {
        self.limit_memory("1MiB").await;
    }

    /// Takes the belief away.
    pub(crate) async fn find_memory(&self) {
        self.limit_memory(MEMORY_LIMIT).await;
    }

    async fn limit_memory(&self, limit: &str) {
        let mut command = self.command("rabbitmqctl");
        command.args(["set_vm_memory_high_watermark", "absolute", limit]);
        self.guarded.run(command).await;
    }

    /// A virtual host that nobody else has; its URL.
    pub(crate) async fn fresh_vhost(&self) -> String {
        let mut vhosts = self.vhosts.lock().await;
        if vhosts.is_empty() {
            vhosts.extend(self.make_vhosts().await);
        }
        self.url_of(&vhosts.pop_front().expect("some were made"))
    }

    /// Ends it as a power cut would: the broker, its port mapper and all of their children.
    pub(crate) async fn kill_9(&mut self) {
        self.guarded.kill_9().await;
    }

    /// Starts it after its end, on the same port and the same data, and waits until it takes queues: that a port is
    /// open says little.
    pub(crate) async fn start_again(&mut self) {
        self.guarded.start(self.command("rabbitmq-server"));
        let url = self.url();
        eventually("RabbitMQ declares a queue", async || {
            self.guarded.assert_alive();
            let declared = timeout(&SystemClock::new(), ATTEMPT, declares(&url)).await;
            declared.ok()?.ok()
        })
        .await;
    }

    /// Waits until the broker has written down under which name the quorum queue keeps its messages. It takes seconds
    /// for that; killed earlier, the queue is declared after the next start, but what it has confirmed is out of reach
    /// (seen with 3.10.8).
    pub(crate) async fn until_kept(&self, queue: &str) {
        let names = self.guarded.folder().join("mnesia/petrel@localhost/quorum/petrel@localhost/names.dets");
        // As Erlang writes it: the virtual host, the queue, and `m`, which begins the name that is given to the queue.
        let record = format!("_{queue}m");
        eventually("the broker has written down where the quorum queue is", async || {
            let written = fs::read(&names).unwrap_or_default();
            written.windows(record.len()).any(|text| text == record.as_bytes()).then_some(())
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

    fn url_of(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.ports.amqp)
    }

    async fn make_vhosts(&self) -> Vec<String> {
        let names: Vec<String> = (0..VHOSTS_AT_ONCE).map(|_| format!("test-{:016x}", random())).collect();
        let binaries: Vec<String> = names.iter().map(|name| format!("<<\"{name}\">>")).collect();
        let expression = format!(
            "[begin ok = rabbit_vhost:add(V, <<\"test\">>), ok = rabbit_auth_backend_internal:set_permissions(\
             <<\"guest\">>, V, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>) end || V <- [{}]].",
            binaries.join(", ")
        );
        let mut command = self.command("rabbitmqctl");
        command.args(["eval", &expression]);
        self.guarded.run(command).await;
        names
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.guarded.folder();
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(folder).env("HOME", folder);
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", self.ports.mapper.to_string());
        command.env("RABBITMQ_NODENAME", "petrel@localhost");
        command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODE_PORT", self.ports.amqp.to_string());
        command.env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string());
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG).env("RABBITMQ_CTL_ERL_ARGS", ERLANG);
        command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("RABBITMQ_CONFIG_FILE", folder.join("rabbit"));
        for (variable, name) in [
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_SCHEMA_DIR", "schema"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "logs"),
            ("RABBITMQ_PID_FILE", "pid"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ] {
            command.env(variable, folder.join(name));
        }
        command
    }
}

async fn declares(url: &str) -> lapin::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    connection.close(200, "it does".into()).await
}

/// A connection that does not come back by itself.
pub(crate) async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}
