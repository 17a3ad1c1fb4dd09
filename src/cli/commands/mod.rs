//! What every command asks of the daemon and shows of its answer: one file per noun.

mod admin;
mod asg;
mod chat;
mod cluster;
mod content;
mod dead_letter;
mod execution;
mod group_file;
mod inquiry;
mod key;
mod publish;
mod rule;
mod run;
mod tail;
mod trigger;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::args::ClientCommand;
use crate::cli::client::{Api, Page, Query};
use crate::cli::failure::{Ending, Failure};
use crate::cli::output::{Column, Output};
use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::packs::check::Runners;

/// What a command works with.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) api: Api,
    pub(super) output: Output,
    pub(super) clock: Arc<dyn Clock>,
    /// The parameters of the daemon's runners, for checking content as it does.
    pub(super) runners: fn() -> Runners,
}

pub(super) type Outcome = Result<Ending, Failure>;

/// Does what the command says.
#[expect(clippy::cognitive_complexity, reason = "one line per command, and nothing else")]
pub(super) async fn execute(session: &Session, command: &ClientCommand) -> Outcome {
    match command {
        ClientCommand::Run(arguments) => run::run(session, arguments).await,
        ClientCommand::Execution(command) => execution::execute(session, command).await,
        ClientCommand::Rule(command) => rule::execute(session, command).await,
        ClientCommand::Trigger(command) => trigger::execute(session, command).await,
        ClientCommand::TriggerInstance(command) => trigger::execute_instance(session, command).await,
        ClientCommand::DeadLetter(command) => dead_letter::execute(session, command).await,
        ClientCommand::Action(command) => content::execute_action(session, command).await,
        ClientCommand::Pack(command) => content::execute_pack(session, command).await,
        ClientCommand::Key(command) => key::execute(session, command).await,
        ClientCommand::Asg(command) => asg::execute(session, command).await,
        ClientCommand::Chat(arguments) => chat::execute(session, arguments).await,
        ClientCommand::Inquiry(command) => inquiry::execute(session, command).await,
        ClientCommand::Signal(arguments) => inquiry::signal(session, arguments).await,
        ClientCommand::Workflow(command) => execution::execute_workflow(session, command).await,
        ClientCommand::Freeze(arguments) => admin::freeze(session, arguments).await,
        ClientCommand::Thaw => admin::thaw(session).await,
        ClientCommand::User(command) => admin::execute_user(session, command).await,
        ClientCommand::Token(command) => admin::execute_token(session, command).await,
        ClientCommand::Apikey(command) => admin::execute_api_key(session, command).await,
        ClientCommand::Backup(arguments) => admin::backup(session, arguments).await,
        ClientCommand::Status => admin::status(session).await,
        ClientCommand::Cluster(command) => cluster::execute(session, *command).await,
        ClientCommand::Whoami => admin::whoami(session).await,
    }
}

impl Session {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Shows a list, and says if there is more of it.
    async fn show_list(&self, path: &[&str], query: Query<'_>, columns: &[Column]) -> Outcome {
        let Page { items, total } = self.api.list(path, query).await?;
        self.output.list(&items, columns, self.now())?;
        let shown = items.as_array().map_or(0, Vec::len);
        if let Some(total) = total.filter(|total| *total > shown) {
            self.output.remark(&format!("{shown} of {total}; --limit shows more where there is one"))?;
        }
        Ok(Ending::Done)
    }

    /// Shows one thing.
    async fn show_object(&self, path: &[&str], rows: &[Column]) -> Outcome {
        let object = self.api.get(path, &[]).await?;
        self.output.object(&object, rows, self.now())?;
        Ok(Ending::Done)
    }

    /// Says in one sentence that something was done; programs get the daemon's answer.
    fn say(&self, answer: &Value, sentence: String) -> Outcome {
        let nothing = json!({ "message": sentence });
        let value = if answer.is_null() { &nothing } else { answer };
        self.output.answer(value, || sentence)?;
        Ok(Ending::Done)
    }
}

/// The text at a JSON pointer; empty if there is none.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
