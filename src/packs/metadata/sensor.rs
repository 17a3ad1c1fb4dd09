//! Sensors: StackStorm's Python classes, which are listed, and Petrel's webhooks and polls, which are run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::trigger::{PollingSource, Sensor, SensorSource, TriggerType, WebhookSource};
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::metadata::trigger::read_trigger_type;
use crate::packs::metadata::{BOOKKEEPING, Origin, read_reference};
use crate::packs::yaml::{Entry, MAX_BYTES, Node};

/// StackStorm's time between polls.
const DEFAULT_POLL: Duration = Duration::from_secs(30);

/// A sensor and the trigger types it declares.
pub fn read_sensor(node: &Node, origin: &Origin, report: &mut Report) -> Option<(Sensor, Vec<TriggerType>)> {
    let mut fields = Fields::open(node, "sensor", report)?;
    let class_name = fields.text("class_name", report);
    let name = fields.text("name", report).or_else(|| class_name.clone()).unwrap_or_else(|| origin.stem());
    let reference = read_reference(Some(name), &mut fields, origin, report);
    let types = fields.list("trigger_types", report);
    let trigger_types: Vec<_> = types.iter().filter_map(|node| read_trigger_type(node, origin, report)).collect();
    let description = fields.text("description", report).unwrap_or_default();
    let enabled = fields.flag("enabled", report).unwrap_or(true);
    let source = read_source(class_name, &mut fields, origin, report);
    fields.bookkeeping(BOOKKEEPING);
    fields.finish(report);
    let sensor = Sensor {
        reference: reference?,
        description,
        enabled,
        source: source?,
        trigger_types: trigger_types.iter().map(|declared| declared.reference.clone()).collect(),
        metadata_file: origin.metadata_file.clone(),
    };
    Some((sensor, trigger_types))
}

fn read_source(
    class_name: Option<String>,
    fields: &mut Fields<'_>,
    origin: &Origin,
    report: &mut Report,
) -> Option<SensorSource> {
    let webhook = fields.node("webhook");
    let polling = fields.node("polling");
    match (webhook, polling, class_name) {
        (Some(node), None, None) => read_webhook(node, origin, report).map(SensorSource::Webhook),
        (None, Some(node), None) => read_polling(node, origin, report).map(SensorSource::Polling),
        (None, None, Some(class_name)) => {
            fields.bookkeeping(&["entry_point", "poll_interval", "artifact_uri"]);
            let span = fields.entry("class_name").and_then(Entry::place);
            report.note(span, format!("the Python sensor `{class_name}` is listed, not run"));
            Some(SensorSource::Python { class_name })
        }
        (None, None, None) => {
            report.error(fields.span(), "the sensor does not say how it listens");
            report.help("give it one of `webhook`, `polling` and `class_name`");
            None
        }
        _ => {
            report.error(fields.span(), "the sensor says in more than one way how it listens");
            report.help("keep one of `webhook`, `polling` and `class_name`");
            None
        }
    }
}

fn read_webhook(node: &Node, origin: &Origin, report: &mut Report) -> Option<WebhookSource> {
    let mut fields = Fields::open(node, "webhook", report)?;
    let path = fields.required_text("path", report).map(|path| path.trim_matches('/').to_owned());
    let listener = fields.node("listener").map(|node| read_listener(node, report));
    let script = read_script(&mut fields, origin, report);
    fields.finish(report);
    let (script, source) = script?;
    let listener = match listener {
        None => None,
        Some(read) => Some(read?),
    };
    Some(WebhookSource { path: path?, listener, script, source })
}

fn read_listener(node: &Node, report: &mut Report) -> Option<(String, u16)> {
    let mut fields = Fields::open(node, "listener", report)?;
    let name = fields.required_text("name", report);
    if fields.node("port").is_none() {
        fields.missing("port", report);
    }
    let port = fields.count("port", report);
    fields.finish(report);
    let port = u16::try_from(port?);
    if port.is_err() {
        report.error(node.locate(&["port"]), "a port is a number from 0 to 65535");
    }
    Some((name?, port.ok()?))
}

fn read_polling(node: &Node, origin: &Origin, report: &mut Report) -> Option<PollingSource> {
    let mut fields = Fields::open(node, "polling", report)?;
    let every = fields.duration("every", report);
    let every = every.or_else(|| fields.duration("poll_interval", report)).unwrap_or(DEFAULT_POLL);
    let script = read_script(&mut fields, origin, report);
    fields.finish(report);
    if every.is_zero() {
        report.error(node.locate(&["every"]), "the time between polls must be longer than nothing");
        return None;
    }
    let (script, source) = script?;
    Some(PollingSource { every, script, source })
}

/// The Rhai file beside the metadata, and its text.
fn read_script(fields: &mut Fields<'_>, origin: &Origin, report: &mut Report) -> Option<(PathBuf, Arc<str>)> {
    let script = origin.folder.join(fields.required_text("script", report)?);
    match read_bounded(&script) {
        Ok(source) => Some((script, source.into())),
        Err(error) => {
            let span = fields.entry("script").and_then(Entry::place);
            report.error(span, format!("cannot read the script {}: {error}", script.display()));
            None
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if usize::try_from(size).map_or(true, |size| size > MAX_BYTES) {
        return Err(std::io::Error::other(format!("it is larger than {} KiB", MAX_BYTES / 1024)));
    }
    std::fs::read_to_string(path)
}
