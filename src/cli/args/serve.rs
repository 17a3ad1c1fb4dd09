//! Commands that are not a client's: the daemon, and what works on its files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Format, Globals};
use crate::config::Role;
use crate::model::time::parse_duration;

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Where the API listens; port 0 takes a free one. `127.0.0.1:9101` if not said
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Configuration; `petrel.toml` if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A folder of packs; may be said several times
    #[arg(long, value_name = "DIR")]
    packs: Vec<PathBuf>,
    /// What this daemon does: api, sensors, rules, workers, governor; everything if not said
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',')]
    roles: Vec<Role>,
}

impl ServeArguments {
    pub(super) fn with(self, globals: Globals) -> ServeOptions {
        let Self { listen, config, packs, roles } = self;
        ServeOptions { data_dir: globals.data_dir, listen, config, packs, roles }
    }
}

/// What the command line says about the daemon; what it does not say is for the configuration to decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServeOptions {
    /// Where everything is kept.
    pub data_dir: Option<PathBuf>,
    /// Where the API listens.
    pub listen: Option<SocketAddr>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Folders of packs, besides those of the configuration.
    pub packs: Vec<PathBuf>,
    /// What it does; nothing: as the configuration says.
    pub roles: Vec<Role>,
}

#[derive(Debug, Args)]
pub(super) struct ValidateArguments {
    /// A site, a pack or a file; the current folder if not said
    path: Option<PathBuf>,
    /// Another folder of packs that the content may refer to
    #[arg(long, value_name = "DIR")]
    packs: Vec<PathBuf>,
}

impl ValidateArguments {
    pub(super) fn with(self, globals: &Globals) -> ValidateOptions {
        let path = self.path.unwrap_or_else(|| PathBuf::from("."));
        ValidateOptions { path, packs: self.packs, format: globals.format }
    }
}

/// Which content to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidateOptions {
    /// A site, a pack or a file.
    pub path: PathBuf,
    /// Folders of packs besides the site's own.
    pub packs: Vec<PathBuf>,
    /// How the findings are shown.
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// A file that `petrel backup` wrote
    backup: PathBuf,
}

impl RestoreArguments {
    pub(super) fn with(self, globals: &Globals) -> RestoreOptions {
        RestoreOptions { backup: self.backup, data_dir: globals.data_dir().to_owned() }
    }
}

/// What to put where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The copy.
    pub backup: PathBuf,
    /// The data folder of a daemon that does not run.
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct MigrateStoreArguments {
    /// The new store: an empty PostgreSQL database, by its URL; `store.url` if not said
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Configuration; `petrel.toml` if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl MigrateStoreArguments {
    pub(super) fn with(self, globals: &Globals) -> MigrateStoreOptions {
        let Self { to, config } = self;
        MigrateStoreOptions { data_dir: globals.data_dir().to_owned(), to, config }
    }
}

/// Which store to move where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateStoreOptions {
    /// The data folder of the stopped daemon.
    pub data_dir: PathBuf,
    /// The new store, if it is said here.
    pub to: Option<String>,
    /// The configuration file.
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// With three daemons over one PostgreSQL
    #[arg(long)]
    cluster: bool,
    /// The store of the three: an empty database; `PETREL__STORE__URL` if not said
    #[arg(long, value_name = "URL", requires = "cluster")]
    store: Option<String>,
    /// The broker of the three; `PETREL__BUS__URL` if not said, none if that is not set
    #[arg(long, value_name = "URL", requires = "cluster")]
    bus: Option<String>,
    /// The whole story with real servers: HAProxy, BIND, sshd, ngircd, Prometheus, Alertmanager
    #[arg(long, conflicts_with = "cluster")]
    full: bool,
    /// How long the load is held once the site has recovered
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration, requires = "full")]
    steady: Duration,
    /// The folder for the picture of the story, as SVG and PNG
    #[arg(long, value_name = "FOLDER", default_value = ".", requires = "full")]
    pictures: PathBuf,
}

impl DemoArguments {
    pub(super) fn with(self, globals: Globals) -> DemoOptions {
        let Self { cluster, store, bus, full, steady, pictures } = self;
        let scene = match (cluster, full) {
            (true, _) => Scene::Cluster(ClusterOptions { store, bus }),
            (false, true) => Scene::Full(FullOptions { steady, pictures }),
            (false, false) => Scene::Short,
        };
        DemoOptions { data_dir: globals.data_dir, scene }
    }
}

/// Where the demo plays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DemoOptions {
    /// Its data folder, kept afterwards; one that vanishes if not said.
    pub data_dir: Option<PathBuf>,
    /// What is played.
    pub scene: Scene,
}

/// Which story.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scene {
    /// In about a minute, with nothing but the binary.
    #[default]
    Short,
    /// The same with several daemons.
    Cluster(ClusterOptions),
    /// With real servers around it.
    Full(FullOptions),
}

/// How the whole story is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullOptions {
    /// How long the load is held once the site has recovered.
    pub steady: Duration,
    /// Where the picture goes.
    pub pictures: PathBuf,
}

/// What several daemons share, as far as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterOptions {
    /// Their store.
    pub store: Option<String>,
    /// Their broker.
    pub bus: Option<String>,
}
