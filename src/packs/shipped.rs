//! The packs that come with Petrel, carried in the binary so that it works in an empty folder.
//!
//! They are written to the data folder and loaded from there as the last of the roots: a pack of the same name in
//! any other root takes the place of the shipped one.

use std::io;
use std::path::{Path, PathBuf};

use crate::packs::digest::sha256_of_parts;
use crate::private::Readers;

/// Path below the folder of packs, and content.
const SHIPPED: &[(&str, &str)] = &[
    ("core/pack.yaml", include_str!("../../packs/core/pack.yaml")),
    ("core/actions/announcement.yaml", include_str!("../../packs/core/actions/announcement.yaml")),
    ("core/actions/ask.yaml", include_str!("../../packs/core/actions/ask.yaml")),
    ("core/actions/http.yaml", include_str!("../../packs/core/actions/http.yaml")),
    ("core/actions/inject_trigger.yaml", include_str!("../../packs/core/actions/inject_trigger.yaml")),
    ("core/actions/local.yaml", include_str!("../../packs/core/actions/local.yaml")),
    ("core/actions/noop.yaml", include_str!("../../packs/core/actions/noop.yaml")),
    ("core/actions/pause.yaml", include_str!("../../packs/core/actions/pause.yaml")),
    ("core/actions/remote.yaml", include_str!("../../packs/core/actions/remote.yaml")),
    ("core/actions/remote_sudo.yaml", include_str!("../../packs/core/actions/remote_sudo.yaml")),
    ("core/actions/uuid.yaml", include_str!("../../packs/core/actions/uuid.yaml")),
    ("core/triggers/actiontrigger.yaml", include_str!("../../packs/core/triggers/actiontrigger.yaml")),
    ("core/triggers/cron_timer.yaml", include_str!("../../packs/core/triggers/cron_timer.yaml")),
    ("core/triggers/date_timer.yaml", include_str!("../../packs/core/triggers/date_timer.yaml")),
    ("core/triggers/inquiry.yaml", include_str!("../../packs/core/triggers/inquiry.yaml")),
    ("core/triggers/interval_timer.yaml", include_str!("../../packs/core/triggers/interval_timer.yaml")),
    ("core/triggers/notifytrigger.yaml", include_str!("../../packs/core/triggers/notifytrigger.yaml")),
    ("core/triggers/webhook.yaml", include_str!("../../packs/core/triggers/webhook.yaml")),
    ("amqp/pack.yaml", include_str!("../../packs/amqp/pack.yaml")),
    ("amqp/config.schema.yaml", include_str!("../../packs/amqp/config.schema.yaml")),
    ("amqp/actions/publish.yaml", include_str!("../../packs/amqp/actions/publish.yaml")),
    ("amqp/triggers/message.yaml", include_str!("../../packs/amqp/triggers/message.yaml")),
    ("dns/pack.yaml", include_str!("../../packs/dns/pack.yaml")),
    ("dns/config.schema.yaml", include_str!("../../packs/dns/config.schema.yaml")),
    ("dns/actions/create_zone.yaml", include_str!("../../packs/dns/actions/create_zone.yaml")),
    ("dns/actions/delete_record.yaml", include_str!("../../packs/dns/actions/delete_record.yaml")),
    ("dns/actions/delete_zone.yaml", include_str!("../../packs/dns/actions/delete_zone.yaml")),
    ("dns/actions/list_records.yaml", include_str!("../../packs/dns/actions/list_records.yaml")),
    ("dns/actions/upsert_record.yaml", include_str!("../../packs/dns/actions/upsert_record.yaml")),
    ("ssh/pack.yaml", include_str!("../../packs/ssh/pack.yaml")),
    ("ssh/config.schema.yaml", include_str!("../../packs/ssh/config.schema.yaml")),
    ("ssh/actions/configure_node.yaml", include_str!("../../packs/ssh/actions/configure_node.yaml")),
    ("local/pack.yaml", include_str!("../../packs/local/pack.yaml")),
    ("local/actions/crash_node.yaml", include_str!("../../packs/local/actions/crash_node.yaml")),
    ("local/actions/create_node.yaml", include_str!("../../packs/local/actions/create_node.yaml")),
    ("local/actions/delete_node.yaml", include_str!("../../packs/local/actions/delete_node.yaml")),
    ("local/actions/list_nodes.yaml", include_str!("../../packs/local/actions/list_nodes.yaml")),
    ("local/actions/wait_ready.yaml", include_str!("../../packs/local/actions/wait_ready.yaml")),
    ("haproxy/pack.yaml", include_str!("../../packs/haproxy/pack.yaml")),
    ("haproxy/config.schema.yaml", include_str!("../../packs/haproxy/config.schema.yaml")),
    ("haproxy/actions/add_backend.yaml", include_str!("../../packs/haproxy/actions/add_backend.yaml")),
    ("haproxy/actions/create_pool.yaml", include_str!("../../packs/haproxy/actions/create_pool.yaml")),
    ("haproxy/actions/delete_pool.yaml", include_str!("../../packs/haproxy/actions/delete_pool.yaml")),
    ("haproxy/actions/drain_backend.yaml", include_str!("../../packs/haproxy/actions/drain_backend.yaml")),
    ("haproxy/actions/list_backends.yaml", include_str!("../../packs/haproxy/actions/list_backends.yaml")),
    ("haproxy/actions/remove_backend.yaml", include_str!("../../packs/haproxy/actions/remove_backend.yaml")),
    ("aws/pack.yaml", include_str!("../../packs/aws/pack.yaml")),
    ("aws/config.schema.yaml", include_str!("../../packs/aws/config.schema.yaml")),
    ("aws/actions/add_backend.yaml", include_str!("../../packs/aws/actions/add_backend.yaml")),
    ("aws/actions/create_node.yaml", include_str!("../../packs/aws/actions/create_node.yaml")),
    ("aws/actions/create_pool.yaml", include_str!("../../packs/aws/actions/create_pool.yaml")),
    ("aws/actions/create_zone.yaml", include_str!("../../packs/aws/actions/create_zone.yaml")),
    ("aws/actions/delete_node.yaml", include_str!("../../packs/aws/actions/delete_node.yaml")),
    ("aws/actions/delete_pool.yaml", include_str!("../../packs/aws/actions/delete_pool.yaml")),
    ("aws/actions/delete_record.yaml", include_str!("../../packs/aws/actions/delete_record.yaml")),
    ("aws/actions/delete_zone.yaml", include_str!("../../packs/aws/actions/delete_zone.yaml")),
    ("aws/actions/drain_backend.yaml", include_str!("../../packs/aws/actions/drain_backend.yaml")),
    ("aws/actions/list_backends.yaml", include_str!("../../packs/aws/actions/list_backends.yaml")),
    ("aws/actions/list_nodes.yaml", include_str!("../../packs/aws/actions/list_nodes.yaml")),
    ("aws/actions/list_records.yaml", include_str!("../../packs/aws/actions/list_records.yaml")),
    ("aws/actions/remove_backend.yaml", include_str!("../../packs/aws/actions/remove_backend.yaml")),
    ("aws/actions/upsert_record.yaml", include_str!("../../packs/aws/actions/upsert_record.yaml")),
    ("aws/actions/wait_ready.yaml", include_str!("../../packs/aws/actions/wait_ready.yaml")),
    ("autoscale/config.schema.yaml", include_str!("../../packs/autoscale/config.schema.yaml")),
    ("autoscale/pack.yaml", include_str!("../../packs/autoscale/pack.yaml")),
    ("autoscale/actions/alert.yaml", include_str!("../../packs/autoscale/actions/alert.yaml")),
    ("autoscale/actions/approve.yaml", include_str!("../../packs/autoscale/actions/approve.yaml")),
    ("autoscale/actions/deny.yaml", include_str!("../../packs/autoscale/actions/deny.yaml")),
    ("autoscale/actions/configure.yaml", include_str!("../../packs/autoscale/actions/configure.yaml")),
    ("autoscale/actions/deflate.yaml", include_str!("../../packs/autoscale/actions/deflate.yaml")),
    ("autoscale/actions/expand.yaml", include_str!("../../packs/autoscale/actions/expand.yaml")),
    ("autoscale/actions/governor_tick.yaml", include_str!("../../packs/autoscale/actions/governor_tick.yaml")),
    ("autoscale/actions/group_info.yaml", include_str!("../../packs/autoscale/actions/group_info.yaml")),
    ("autoscale/actions/load.yaml", include_str!("../../packs/autoscale/actions/load.yaml")),
    ("autoscale/actions/observe.yaml", include_str!("../../packs/autoscale/actions/observe.yaml")),
    ("autoscale/actions/node_phase.yaml", include_str!("../../packs/autoscale/actions/node_phase.yaml")),
    ("autoscale/actions/add_node.yaml", include_str!("../../packs/autoscale/actions/add_node.yaml")),
    ("autoscale/actions/create.yaml", include_str!("../../packs/autoscale/actions/create.yaml")),
    ("autoscale/actions/delete.yaml", include_str!("../../packs/autoscale/actions/delete.yaml")),
    ("autoscale/actions/delete_node.yaml", include_str!("../../packs/autoscale/actions/delete_node.yaml")),
    ("autoscale/actions/explain.yaml", include_str!("../../packs/autoscale/actions/explain.yaml")),
    ("autoscale/actions/list.yaml", include_str!("../../packs/autoscale/actions/list.yaml")),
    ("autoscale/aliases/asg_approve.yaml", include_str!("../../packs/autoscale/aliases/asg_approve.yaml")),
    ("autoscale/aliases/asg_deny.yaml", include_str!("../../packs/autoscale/aliases/asg_deny.yaml")),
    ("autoscale/aliases/asg_create.yaml", include_str!("../../packs/autoscale/aliases/asg_create.yaml")),
    ("autoscale/aliases/asg_deflate.yaml", include_str!("../../packs/autoscale/aliases/asg_deflate.yaml")),
    ("autoscale/aliases/asg_delete.yaml", include_str!("../../packs/autoscale/aliases/asg_delete.yaml")),
    ("autoscale/aliases/asg_expand.yaml", include_str!("../../packs/autoscale/aliases/asg_expand.yaml")),
    ("autoscale/aliases/asg_explain.yaml", include_str!("../../packs/autoscale/aliases/asg_explain.yaml")),
    ("autoscale/aliases/asg_list.yaml", include_str!("../../packs/autoscale/aliases/asg_list.yaml")),
    ("autoscale/aliases/asg_node_add.yaml", include_str!("../../packs/autoscale/aliases/asg_node_add.yaml")),
    ("autoscale/aliases/asg_node_delete.yaml", include_str!("../../packs/autoscale/aliases/asg_node_delete.yaml")),
    ("autoscale/triggers/scale_down_pulse.yaml", include_str!("../../packs/autoscale/triggers/scale_down_pulse.yaml")),
    ("autoscale/triggers/scale_up_pulse.yaml", include_str!("../../packs/autoscale/triggers/scale_up_pulse.yaml")),
    ("chatops/pack.yaml", include_str!("../../packs/chatops/pack.yaml")),
    ("chatops/actions/post_message.yaml", include_str!("../../packs/chatops/actions/post_message.yaml")),
    ("chatops/actions/post_result.yaml", include_str!("../../packs/chatops/actions/post_result.yaml")),
    ("chatops/rules/notify.yaml", include_str!("../../packs/chatops/rules/notify.yaml")),
    ("irc/pack.yaml", include_str!("../../packs/irc/pack.yaml")),
    ("irc/config.schema.yaml", include_str!("../../packs/irc/config.schema.yaml")),
    ("slack/pack.yaml", include_str!("../../packs/slack/pack.yaml")),
    ("slack/config.schema.yaml", include_str!("../../packs/slack/config.schema.yaml")),
    ("slack/actions/command.yaml", include_str!("../../packs/slack/actions/command.yaml")),
    ("slack/rules/command.yaml", include_str!("../../packs/slack/rules/command.yaml")),
    ("slack/triggers/command.yaml", include_str!("../../packs/slack/triggers/command.yaml")),
    ("newrelic/actions/simulate.rhai", include_str!("../../packs/newrelic/actions/simulate.rhai")),
    ("newrelic/actions/simulate.yaml", include_str!("../../packs/newrelic/actions/simulate.yaml")),
    ("newrelic/aliases/asg_simulate.yaml", include_str!("../../packs/newrelic/aliases/asg_simulate.yaml")),
    ("newrelic/config.schema.yaml", include_str!("../../packs/newrelic/config.schema.yaml")),
    ("newrelic/pack.yaml", include_str!("../../packs/newrelic/pack.yaml")),
    ("newrelic/sensors/newrelic_hook.rhai", include_str!("../../packs/newrelic/sensors/newrelic_hook.rhai")),
    ("newrelic/sensors/newrelic_hook.yaml", include_str!("../../packs/newrelic/sensors/newrelic_hook.yaml")),
    ("newrelic/triggers/server_alert.yaml", include_str!("../../packs/newrelic/triggers/server_alert.yaml")),
    ("newrelic/triggers/server_normal.yaml", include_str!("../../packs/newrelic/triggers/server_normal.yaml")),
    ("newrelic/triggers/web_app_alert.yaml", include_str!("../../packs/newrelic/triggers/web_app_alert.yaml")),
    ("newrelic/triggers/web_app_normal.yaml", include_str!("../../packs/newrelic/triggers/web_app_normal.yaml")),
    ("prometheus/pack.yaml", include_str!("../../packs/prometheus/pack.yaml")),
    ("prometheus/config.schema.yaml", include_str!("../../packs/prometheus/config.schema.yaml")),
    ("prometheus/actions/measure_load.yaml", include_str!("../../packs/prometheus/actions/measure_load.yaml")),
    ("prometheus/actions/query.yaml", include_str!("../../packs/prometheus/actions/query.yaml")),
    ("prometheus/actions/remove_targets.yaml", include_str!("../../packs/prometheus/actions/remove_targets.yaml")),
    ("prometheus/actions/write_targets.yaml", include_str!("../../packs/prometheus/actions/write_targets.yaml")),
    ("prometheus/sensors/alertmanager.rhai", include_str!("../../packs/prometheus/sensors/alertmanager.rhai")),
    ("prometheus/sensors/alertmanager.yaml", include_str!("../../packs/prometheus/sensors/alertmanager.yaml")),
    ("prometheus/triggers/alert.yaml", include_str!("../../packs/prometheus/triggers/alert.yaml")),
    ("prometheus/triggers/resolved.yaml", include_str!("../../packs/prometheus/triggers/resolved.yaml")),
];

/// Writes the shipped packs below `folder`, once per version of their content, and says where: a root for
/// [`ContentRoots::packs`](crate::packs::layout::ContentRoots::packs).
pub fn unpack(folder: &Path) -> io::Result<PathBuf> {
    unpack_for(folder, Readers::Owner)
}

/// The same for these readers.
pub fn unpack_for(folder: &Path, readers: Readers) -> io::Result<PathBuf> {
    let target = folder.join(version());
    if target.is_dir() {
        return Ok(target);
    }
    let unfinished = folder.join(format!(".{}.{}", version(), std::process::id()));
    for (path, content) in SHIPPED {
        let file = unfinished.join(path);
        readers.create_folder(file.parent().unwrap_or(&unfinished))?;
        readers.write_file(&file, content.as_bytes(), false)?;
    }
    match std::fs::rename(&unfinished, &target) {
        Ok(()) => Ok(target),
        Err(_) if target.is_dir() => std::fs::remove_dir_all(&unfinished).map(|()| target),
        Err(error) => Err(error),
    }
}

/// Changes whenever a shipped file does.
fn version() -> String {
    sha256_of_parts(SHIPPED.iter().flat_map(|(path, content)| [*path, *content])).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::*;
    use crate::model::action::ParameterSpec;
    use crate::packs::check::{Checks, Runners};
    use crate::packs::layout::ContentRoots;
    use crate::packs::load::{Loaded, load};

    fn load_from(root: PathBuf) -> Loaded {
        let any = ParameterSpec { schema: json!({}), ..ParameterSpec::default() };
        let cmd = BTreeMap::from([("cmd".to_owned(), any)]);
        let names = [
            "local-shell-cmd",
            "local-shell-script",
            "http-request",
            "noop",
            "native",
            "inquirer",
            "remote-shell-cmd",
            "workflow",
        ];
        let runners: Runners = names.iter().map(|name| ((*name).to_owned(), cmd.clone())).collect();
        let roots = ContentRoots { site: "/nonexistent".into(), packs: vec![root] };
        load(&roots, &BTreeMap::new(), &Checks { runners: &runners, compile: &() })
    }

    fn files_below(folder: &Path, root: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, root, into);
            } else {
                into.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }

    #[test]
    fn every_file_of_the_shipped_packs_is_in_the_binary() {
        let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("packs");
        let mut on_disk = BTreeSet::new();
        files_below(&packs, &packs, &mut on_disk);
        let carried: BTreeSet<String> = SHIPPED.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(carried, on_disk);
    }

    #[test]
    fn the_shipped_core_pack_loads_without_a_finding() {
        let folder = tempfile::tempdir().unwrap();
        let root = unpack(folder.path()).unwrap();
        assert_eq!(unpack(folder.path()).unwrap(), root, "a second time changes nothing");
        let loaded = load_from(root);
        let findings: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(findings, Vec::<String>::new());
        for name in ["local", "http", "noop", "pause", "uuid", "announcement", "inject_trigger", "ask"] {
            assert!(loaded.catalogue.actions.contains_key(&format!("core.{name}").parse().unwrap()), "{name}");
        }
        for name in ["webhook", "IntervalTimer", "CronTimer", "DateTimer", "generic.actiontrigger", "generic.inquiry"] {
            assert!(
                loaded.catalogue.trigger_types.contains_key(&format!("core.st2.{name}").parse().unwrap()),
                "{name}"
            );
        }
    }
}
