//! Autoscaling groups: what they have, what the governor says, and asking it for more or less.

use serde_json::{Map, Value, json};

use crate::cli::args::AsgCommand;
use crate::cli::args::asg::{CreateArguments, ScaleArguments, SteerCommand};
use crate::cli::commands::{Outcome, Session, group_file, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::moments;
use crate::cli::output::{Column, bare_table, plain, trimmed};
use crate::cli::parameters::read_free_words;
use crate::model::decision::Decision;
use crate::model::drift::Drift;
use crate::model::printable::escape_line;
use crate::model::time::Timestamp;

pub(super) async fn execute(session: &Session, command: &AsgCommand) -> Outcome {
    const COLUMNS: [Column; 6] = [
        Column::with("name", name),
        Column::with("nodes", nodes),
        Column::with("mode", |group, _| plain(&config(group)["mode"])),
        Column::with("incidents", incidents),
        Column::with("activity", activity),
        Column::with("next", next),
    ];
    match command {
        AsgCommand::List => session.show_list(&["asg"], &[], &COLUMNS).await,
        AsgCommand::Get { name } => get(session, name).await,
        AsgCommand::Create(arguments) => {
            let answer = session.api.post(&["asg"], &new_group(arguments)?).await?;
            admitted(session, &answer, &arguments.name)
        }
        AsgCommand::Delete { name } => {
            let answer = session.api.delete(&["asg", name], &[]).await?;
            admitted(session, &answer, name)
        }
        AsgCommand::Expand(arguments) => scale(session, arguments, "expand").await,
        AsgCommand::Deflate(arguments) => scale(session, arguments, "deflate").await,
        AsgCommand::AddNode { name, force } => {
            let answer = session.api.post(&["asg", name, "nodes"], &json!({ "force": force })).await?;
            admitted(session, &answer, name)
        }
        AsgCommand::DeleteNode { name, node, force } => {
            let force = if *force { "true" } else { "false" };
            let answer = session.api.delete(&["asg", name, "nodes", node], &[("force", force)]).await?;
            admitted(session, &answer, name)
        }
        AsgCommand::Update { name, knobs } => {
            let config = read_free_words(knobs)?;
            let answer = session.api.put(&["asg", name], &json!({ "config": config })).await?;
            session.say(&answer, format!("{name}: changed {}", knobs.join(", ")))
        }
        AsgCommand::Plan { file } => group_file::plan(session, file).await,
        AsgCommand::Apply { file } => group_file::apply(session, file).await,
        AsgCommand::Drift { name } => drift(session, name).await,
        AsgCommand::History { name, limit } => history(session, name, *limit).await,
        AsgCommand::Explain { name, limit } => decisions(session, name, *limit).await,
        AsgCommand::Steer(command) => steer(session, command).await,
    }
}

async fn steer(session: &Session, command: &SteerCommand) -> Outcome {
    match command {
        SteerCommand::Protect { name, node, off } => {
            let answer = session.api.put(&["asg", name, "nodes", node], &json!({ "protected": !off })).await?;
            let said = if *off { "may be chosen for removal again" } else { "is never chosen for removal" };
            session.say(&answer, format!("{name}: {node} {said}"))
        }
        SteerCommand::Approve { name } => {
            let answer = session.api.post(&["asg", name, "approve"], &json!({})).await?;
            admitted(session, &answer, name)
        }
        SteerCommand::Deny { name } => {
            let answer = session.api.post(&["asg", name, "deny"], &json!({})).await?;
            session.say(&answer, format!("{name}: denied for as long as it is wanted"))
        }
        SteerCommand::Suspend { name, what, duration, reason } => {
            let mut body = json!({ "what": what.as_str(), "reason": reason });
            if let Some(duration) = duration {
                body["for"] = duration.as_str().into();
            }
            let answer = session.api.post(&["asg", name, "suspend"], &body).await?;
            session.say(&answer, format!("{name}: {} is suspended", what.as_str()))
        }
        SteerCommand::Resume { name, what } => {
            let body = json!({ "what": what.as_str() });
            let answer = session.api.post(&["asg", name, "resume"], &body).await?;
            session.say(&answer, format!("{name}: {} is resumed", what.as_str()))
        }
    }
}

async fn decisions(session: &Session, name: &str, limit: u32) -> Outcome {
    let decisions = session.api.get(&["asg", name, "explain"], &[("limit", &limit.to_string())]).await?;
    session.output.answer(&decisions, || explain(&decisions, session.now()))?;
    Ok(Ending::Done)
}

async fn drift(session: &Session, name: &str) -> Outcome {
    let group = session.api.get(&["asg", name], &[]).await?;
    let lines = || {
        let lines: Vec<String> = members(&group, "drift").map(|row| drift_line(row, session.now())).collect();
        if lines.is_empty() { "(as the ledger says)".to_owned() } else { lines.join("\n") }
    };
    session.output.answer(&group["drift"], lines)?;
    Ok(Ending::Done)
}

fn drift_line(row: &Value, now: Timestamp) -> String {
    let words = match serde_json::from_value::<Drift>(row.clone()) {
        Ok(known) => known.to_string(),
        Err(_) => plain(row).replace('\n', "; "),
    };
    format!("{} (since {}, seen {}x)", escape_line(&words), moments::ago(&row["since"], now), row["times"])
}

/// Why it was begun, and what went wrong.
fn why(activity: &Value) -> String {
    match activity["problem"].as_str() {
        Some(problem) => escape_line(&format!("{}; {problem}", plain(&activity["reason"]))).into_owned(),
        None => plain(&activity["reason"]),
    }
}

async fn history(session: &Session, name: &str, limit: u32) -> Outcome {
    const COLUMNS: [Column; 7] = [
        Column::moment("when", "/started_at"),
        Column::text("kind", "/kind"),
        Column::text("status", "/status"),
        Column::with("took", |row, now| moments::took(&row["started_at"], &row["ended_at"], now)),
        Column::with("nodes", |row, _| plain(&row["nodes"])),
        Column::with("by", |row, _| row.pointer("/origin/human/user").map_or_else(|| plain(&row["origin"]), plain)),
        Column::with("why", |row, _| why(row)),
    ];
    session.show_list(&["asg", name, "activities"], &[("limit", &limit.to_string())], &COLUMNS).await
}

async fn scale(session: &Session, arguments: &ScaleArguments, way: &str) -> Outcome {
    let ScaleArguments { name, by, force } = arguments;
    let mut body = json!({ "force": force });
    if let Some(by) = by {
        body["by"] = (*by).into();
    }
    let answer = session.api.post(&["asg", name, way], &body).await?;
    admitted(session, &answer, name)
}

/// What the governor said to a request, and how to watch what comes of it.
fn admitted(session: &Session, answer: &Value, name: &str) -> Outcome {
    let what = ["/verdict/is", "/verdict", "/activity/kind"].map(|pointer| text(answer, pointer));
    let what = what.into_iter().find(|word| !word.is_empty()).unwrap_or("admitted").replace('_', " ");
    let with = |before: &str, said: String, after: &str| {
        if said.is_empty() { said } else { format!("{before}{said}{after}") }
    };
    let nodes = with(" ", plain(&answer["nodes"]), "");
    let reason = with(": ", plain(&answer["reason"]), "");
    let watch = with("\nwatch it with `petrel execution tail ", plain(&answer["execution"]), "`");
    let said = session.say(answer, format!("{name}: {what}{nodes}{reason}{watch}"))?;
    // A new group is kept although its nodes were refused: the governor looks again.
    Ok(if text(answer, "/verdict/is") == "refuse" { Ending::ThingFailed } else { said })
}

fn new_group(arguments: &CreateArguments) -> Result<Value, Failure> {
    let mut config = read_free_words(&arguments.knobs)?;
    let bounds = [("min_nodes", arguments.min_nodes), ("max_nodes", arguments.max_nodes)];
    config.extend(bounds.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count?.into()))));
    let mut body = Map::from_iter([
        ("name".to_owned(), json!(arguments.name)),
        ("provider".to_owned(), json!(arguments.provider)),
        ("config".to_owned(), Value::Object(config)),
        ("node_parameters".to_owned(), Value::Object(read_free_words(&arguments.node_parameters)?)),
    ]);
    let texts = [
        ("dns", &arguments.dns),
        ("load_balancer", &arguments.load_balancer),
        ("configure", &arguments.configure),
        ("metrics", &arguments.metrics),
        ("domain", &arguments.domain),
        ("application", &arguments.application),
        ("channel", &arguments.channel),
    ];
    body.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
    Ok(Value::Object(body))
}

async fn get(session: &Session, group: &str) -> Outcome {
    const ROWS: [Column; 12] = [
        Column::with("name", name),
        Column::with("nodes", nodes),
        Column::with("mode", |group, _| plain(&config(group)["mode"])),
        Column::with("incidents", incidents),
        Column::with("activity", activity),
        Column::with("next", next),
        Column::with("suspended", suspensions),
        Column::with("waits for approval", approval),
        Column::with("roles", |group, _| plain(&inner(group)["roles"])),
        Column::with("config", |group, _| plain(config(group))),
        Column::with("ledger", ledger),
        Column::with("open incidents", open_incidents),
    ];
    session.show_object(&["asg", group], &ROWS).await
}

/// The group's own words, whether they stand at the top or below `group`.
fn inner(group: &Value) -> &Value {
    group.get("group").filter(|inner| inner.is_object()).unwrap_or(group)
}

fn config(group: &Value) -> &Value {
    &inner(group)["config"]
}

fn name(group: &Value, _now: Timestamp) -> String {
    plain(&inner(group)["name"])
}

fn members<'a>(group: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    group[key].as_array().into_iter().flatten()
}

/// `2/3 of 1..4`: in service, all that are not gone, bounds.
fn nodes(group: &Value, _now: Timestamp) -> String {
    let in_phase = |wanted: &str| members(group, "nodes").filter(|node| text(node, "/phase") == wanted).count();
    let total = members(group, "nodes").count() - in_phase("gone");
    let config = config(group);
    format!("{}/{total} of {}..{}", in_phase("in_service"), plain(&config["min_nodes"]), plain(&config["max_nodes"]))
}

fn is_open(incident: &Value) -> bool {
    text(incident, "/state") != "closed"
}

fn incidents(group: &Value, _now: Timestamp) -> String {
    match members(group, "incidents").filter(|incident| is_open(incident)).count() {
        0 => "-".to_owned(),
        count => format!("{count} open"),
    }
}

fn activity(group: &Value, now: Timestamp) -> String {
    let current = &group["activity"];
    if !current.is_object() {
        return "-".to_owned();
    }
    let took = moments::took(&current["started_at"], &Value::Null, now);
    format!("{} {} ({took})", text(current, "/kind"), text(current, "/status"))
}

/// When the governor may change its mind.
fn next(group: &Value, now: Timestamp) -> String {
    let times = ["/next_at", "/decision/next_at", "/last_decision/next_at"];
    times.iter().filter_map(|pointer| group.pointer(pointer)).map(|at| moments::ago(at, now)).collect()
}

fn suspensions(group: &Value, now: Timestamp) -> String {
    let lines = members(inner(group), "suspensions").map(|it| {
        let until = match moments::ago(&it["until"], now) {
            end if end.is_empty() => "until resumed".to_owned(),
            end => format!("ends {end}"),
        };
        let line = format!("{} by {}, {until} {}", text(it, "/part"), text(it, "/author"), text(it, "/reason"));
        escape_line(line.trim_end()).into_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn approval(group: &Value, now: Timestamp) -> String {
    let approval = &group["approval"];
    if !approval.is_object() {
        return String::new();
    }
    let since = moments::ago(&approval["since"], now);
    let denied = match text(approval, "/denied_by") {
        "" => String::new(),
        user => format!(", denied by {user}"),
    };
    format!("{}, wanted since {since}{denied}", text(approval, "/wish"))
}

fn ledger(group: &Value, now: Timestamp) -> String {
    let mut table = bare_table();
    for node in members(group, "nodes").filter(|node| text(node, "/phase") != "gone") {
        let since = moments::ago(&node["since"], now);
        let mark = if node["protected"] == true { "protected" } else { "" };
        let cells = [text(node, "/name"), text(node, "/phase"), text(node, "/address"), since.as_str(), mark];
        table.add_row(cells.map(|cell| escape_line(cell).into_owned()));
    }
    if table.is_empty() { String::new() } else { format!("{}\n", trimmed(&table)) }
}

fn open_incidents(group: &Value, now: Timestamp) -> String {
    let open = members(group, "incidents").filter(|incident| is_open(incident));
    let lines = open.map(|it| {
        let key = escape_line(text(it, "/key"));
        format!("{} {key} since {}", text(it, "/severity"), moments::ago(&it["opened_at"], now))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One line per decision: when, how often, what and why.
fn explain(decisions: &Value, now: Timestamp) -> String {
    let lines: Vec<String> = decisions.as_array().into_iter().flatten().map(|row| decision_line(row, now)).collect();
    if lines.is_empty() { "(no decision yet)".to_owned() } else { lines.join("\n") }
}

fn decision_line(row: &Value, now: Timestamp) -> String {
    let at = |key: &str| moments::read(&row[key]).map(|at| moments::clock_time(at, now)).unwrap_or_default();
    let times = row["times"].as_u64().unwrap_or(1);
    let when = if times > 1 { format!("{} – {}  {times}x", at("first_at"), at("last_at")) } else { at("first_at") };
    let decision = &row["decision"];
    let words = match serde_json::from_value::<Decision>(decision.clone()) {
        Ok(known) => known.to_string(),
        Err(_) => plain(decision).replace('\n', "; "),
    };
    format!("{when:<26}  {}", escape_line(&words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::table;
    use crate::model::decision::{Inputs, Request, Row, Verdict};
    use crate::model::group::NodeCount;
    use crate::model::group_config::Mode;
    use crate::model::reason::Reason;

    fn now() -> Timestamp {
        "2026-11-21T08:30:00Z".parse().unwrap()
    }

    fn group() -> Value {
        json!({"group": {"name": "web", "config": {"min_nodes": 1, "max_nodes": 4, "mode": "auto"}},
            "nodes": [{"name": "web-001", "phase": "in_service"}, {"name": "web-002", "phase": "booting"},
                {"name": "web-003", "phase": "gone"}],
            "incidents": [{"key": "a", "state": "open"}, {"key": "b", "state": "closed"}],
            "activity": {"kind": "expand", "status": "in_progress", "started_at": "2026-11-21T08:29:00Z"},
            "next_at": "2026-11-21T08:40:00Z"})
    }

    #[test]
    fn a_group_is_one_line() {
        let columns = [
            Column::with("name", name),
            Column::with("nodes", nodes),
            Column::with("incidents", incidents),
            Column::with("activity", activity),
            Column::with("next", next),
        ];
        insta::assert_snapshot!(table(&json!([group()]), &columns, now()), @r#"
        NAME  NODES        INCIDENTS  ACTIVITY                 NEXT
        web   1/2 of 1..4  1 open     expand in_progress (1m)  in 10m
        "#);
    }

    #[test]
    fn decisions_are_read_as_lines() {
        let decision = Decision {
            at: now(),
            request: Request::Tick,
            verdict: Verdict::Hold,
            row: Row::RecoveryHold,
            reason: Reason::FirstTick,
            next_at: None,
            notices: Vec::new(),
            rebase: None,
            inputs: Inputs {
                live: NodeCount::new(1),
                in_service: NodeCount::new(1),
                total: NodeCount::new(1),
                failed: NodeCount::ZERO,
                min: NodeCount::new(1),
                max: NodeCount::new(4),
                critical: Vec::new(),
                warnings: Vec::new(),
                activity: None,
                flips: 0,
                failures_in_row: 0,
                mode: Mode::Auto,
            },
        };
        let rows = json!([
            {"first_at": "2026-11-21T08:20:00Z", "last_at": "2026-11-21T08:29:30Z", "times": 20, "decision": decision},
            {"first_at": "2026-11-20T23:00:00Z", "last_at": "2026-11-20T23:00:00Z", "times": 1, "decision": {"new": 1}},
        ]);
        insta::assert_snapshot!(explain(&rows, now()), @r#"
        08:20:00 – 08:29:30  20x    holding: 1 node in service of at most 4; this is the first look at the group
        2026-11-20 23:00:00         new: 1
        "#);
        assert_eq!(explain(&json!([]), now()), "(no decision yet)");
    }

    #[test]
    fn a_new_group_says_only_what_was_said() {
        let arguments = CreateArguments {
            name: "web".into(),
            provider: "local".into(),
            dns: None,
            load_balancer: None,
            configure: None,
            metrics: None,
            domain: None,
            application: Some("shop".into()),
            channel: None,
            min_nodes: Some(2),
            max_nodes: None,
            knobs: vec!["expand_delay=10m".into()],
            node_parameters: vec!["boot=1".into()],
        };
        let expected = json!({"name": "web", "provider": "local", "application": "shop",
            "config": {"min_nodes": 2, "expand_delay": "10m"}, "node_parameters": {"boot": 1}});
        assert_eq!(new_group(&arguments).unwrap(), expected);
    }
}
