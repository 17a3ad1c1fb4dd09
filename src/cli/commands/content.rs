//! Actions and packs: what is loaded.

use serde_json::Value;

use crate::cli::args::content::PackFilter;
use crate::cli::args::{ActionCommand, PackCommand};
use crate::cli::commands::{Outcome, Session, publish, text};
use crate::cli::output::{Column, bare_table, plain, trimmed};
use crate::model::time::Timestamp;

pub(super) async fn execute_action(session: &Session, command: &ActionCommand) -> Outcome {
    const COLUMNS: [Column; 3] = [
        Column::text("ref", "/ref"),
        Column::text("runner", "/runner_type"),
        Column::line("description", "/description"),
    ];
    const ROWS: [Column; 6] = [
        Column::text("ref", "/ref"),
        Column::text("description", "/description"),
        Column::text("runner", "/runner_type"),
        Column::text("enabled", "/enabled"),
        Column::text("entry point", "/entry_point"),
        Column::with("parameters", parameters),
    ];
    match command {
        ActionCommand::List(filter) => session.show_list(&["actions"], &in_pack(filter), &COLUMNS).await,
        ActionCommand::Get { reference } => session.show_object(&["actions", reference], &ROWS).await,
    }
}

pub(super) async fn execute_pack(session: &Session, command: &PackCommand) -> Outcome {
    const COLUMNS: [Column; 3] = [
        Column::text("name", "/ref"),
        Column::text("version", "/version"),
        Column::line("description", "/description"),
    ];
    const ROWS: [Column; 6] = [
        Column::text("name", "/ref"),
        Column::text("version", "/version"),
        Column::text("description", "/description"),
        Column::text("author", "/author"),
        Column::text("keywords", "/keywords"),
        Column::text("path", "/path"),
    ];
    match command {
        PackCommand::List => session.show_list(&["packs"], &[], &COLUMNS).await,
        PackCommand::Get { name } => session.show_object(&["packs", name], &ROWS).await,
        PackCommand::Publish(arguments) => publish::publish(session, arguments).await,
        PackCommand::Unpublish => publish::unpublish(session).await,
        PackCommand::Published => publish::list(session).await,
    }
}

/// The query that keeps to one pack.
pub(super) fn in_pack(filter: &PackFilter) -> Vec<(&'static str, &str)> {
    filter.pack.as_deref().map(|pack| ("pack", pack)).into_iter().collect()
}

/// One line per parameter: name, type, what it must be, what it is for.
fn parameters(action: &Value, _now: Timestamp) -> String {
    let Some(parameters) = action["parameters"].as_object().filter(|parameters| !parameters.is_empty()) else {
        return String::new();
    };
    let mut table = bare_table();
    for (name, spec) in parameters {
        let default = spec.get("default").filter(|default| !default.is_null());
        let need = match default {
            Some(default) => format!("= {}", plain(default).lines().next().unwrap_or_default()),
            None if spec["required"] == true => "required".to_owned(),
            None => String::new(),
        };
        table.add_row([name.clone(), plain(&spec["type"]), need, text(spec, "/description").to_owned()]);
    }
    format!("{}\n", trimmed(&table))
}
