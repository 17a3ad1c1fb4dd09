//! What can be said on the command line: one file per noun, and here what is true for all of them.

pub mod admin;
pub mod asg;
pub mod chat;
pub mod cluster;
pub mod content;
pub mod dead_letter;
pub mod execution;
pub mod serve;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::admin::{ApiKeyCommand, TokenCommand, UserCommand};
pub use self::asg::AsgCommand;
pub use self::cluster::ClusterCommand;
pub use self::content::{ActionCommand, KeyCommand, PackCommand, RuleCommand, TriggerCommand, TriggerInstanceCommand};
pub use self::dead_letter::DeadLetterCommand;
pub use self::execution::{ExecutionCommand, InquiryCommand, RunArguments, SignalArguments, WorkflowCommand};
pub use self::serve::{
    ClusterOptions, DemoOptions, FullOptions, MigrateStoreOptions, RestoreOptions, Scene, ServeOptions, ValidateOptions,
};

use self::serve::{DemoArguments, MigrateStoreArguments, RestoreArguments, ServeArguments, ValidateArguments};

/// Events through rules to durable workflows: daemon and client in one binary.
#[derive(Debug, Parser)]
#[command(name = "petrel", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 the thing failed, 2 usage, 3 cannot reach or not allowed.\n\
    Clients find the daemon by PETREL_URL and PETREL_API_KEY, else by --data-dir.")]
pub struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every command.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Globals {
    /// How to show the answer
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// URL of the daemon, over `PETREL_URL`
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// API key to come with, over `PETREL_API_KEY`
    #[arg(long, global = true, value_name = "KEY", hide_default_value = true)]
    pub api_key: Option<String>,
    /// Folder where the daemon keeps everything; `./.petrel` if not said
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Globals {
    /// The data folder of a local daemon.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or_else(|| Path::new(DEFAULT_DATA_DIR))
    }
}

const DEFAULT_DATA_DIR: &str = ".petrel";

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon
    Serve(ServeArguments),
    /// Check rules, workflows and packs on disk
    Validate(ValidateArguments),
    /// Put a backup in the place of a stopped daemon's data
    Restore(RestoreArguments),
    /// Move a stopped daemon's embedded store to PostgreSQL
    MigrateStore(MigrateStoreArguments),
    /// Tell the autoscaling story on real parts in about a minute
    Demo(DemoArguments),
    #[command(flatten)]
    Client(ClientCommand),
}

/// What is asked of a running daemon.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ClientCommand {
    /// Run an action and wait for it
    Run(RunArguments),
    /// What runs and what has run
    #[command(subcommand)]
    Execution(ExecutionCommand),
    /// What happens when
    #[command(subcommand)]
    Rule(RuleCommand),
    /// What can happen
    #[command(subcommand)]
    Trigger(TriggerCommand),
    /// What has happened
    #[command(subcommand)]
    TriggerInstance(TriggerInstanceCommand),
    /// Messages of which nothing could be made
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// What can be done
    #[command(subcommand)]
    Action(ActionCommand),
    /// The datastore
    #[command(subcommand)]
    Key(KeyCommand),
    /// What is loaded
    #[command(subcommand)]
    Pack(PackCommand),
    /// Autoscaling groups
    #[command(subcommand)]
    Asg(AsgCommand),
    /// Commands as in a chat room
    Chat(chat::ChatArguments),
    /// Questions that workflows ask
    #[command(subcommand)]
    Inquiry(InquiryCommand),
    /// Send a signal to workflows that wait for it
    Signal(SignalArguments),
    /// Durable scripts
    #[command(subcommand)]
    Workflow(WorkflowCommand),
    /// Record everything and act on nothing until `thaw`
    Freeze(admin::FreezeArguments),
    /// Act again
    Thaw,
    /// Who may log in
    #[command(subcommand)]
    User(UserCommand),
    /// Who is logged in
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys for programs
    #[command(subcommand)]
    Apikey(ApiKeyCommand),
    /// Write a consistent copy of the store while the daemon runs
    Backup(admin::BackupArguments),
    /// What the daemon does right now
    Status,
    /// The daemons over one store
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// As whom the daemon knows me
    Whoami,
}

/// What this process is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Be the daemon.
    Serve(ServeOptions),
    /// Tell the story.
    Demo(DemoOptions),
    /// Check content.
    Validate(ValidateOptions),
    /// Put a backup back.
    Restore(RestoreOptions),
    /// Move a store.
    MigrateStore(MigrateStoreOptions),
    /// Watch over a child process of the daemon.
    Guard,
    /// Start a program that outlives the daemon.
    Detach(Vec<OsString>),
    /// Become another user and a program.
    AsUser(Vec<OsString>),
    /// Be a node of the `local` provider; these are its knobs.
    Node(Vec<OsString>),
    /// Ask a daemon.
    Client(Box<ClientCommand>, Globals),
}

impl From<Arguments> for Command {
    fn from(arguments: Arguments) -> Self {
        let Arguments { globals, verb } = arguments;
        match verb {
            Verb::Serve(serve) => Self::Serve(serve.with(globals)),
            Verb::Validate(validate) => Self::Validate(validate.with(&globals)),
            Verb::Restore(restore) => Self::Restore(restore.with(&globals)),
            Verb::MigrateStore(migrate) => Self::MigrateStore(migrate.with(&globals)),
            Verb::Demo(demo) => Self::Demo(demo.with(globals)),
            Verb::Client(command) => Self::Client(Box::new(command), globals),
        }
    }
}
