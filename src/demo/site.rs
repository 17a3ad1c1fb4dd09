//! The site that the demo plays on: the rules and workflows that come with Petrel, with short times, written into a folder.

use std::io;
use std::path::Path;

use crate::private;

/// Path below the site, and content.
const FILES: &[(&str, &str)] = &[
    ("rules/asg_governor_tick.yaml", include_str!("../../rules/asg_governor_tick.yaml")),
    ("rules/asg_measure.yaml", include_str!("../../rules/asg_measure.yaml")),
    ("rules/asg_newrelic_application_alert.yaml", include_str!("../../rules/asg_newrelic_application_alert.yaml")),
    (
        "rules/asg_newrelic_application_recovery.yaml",
        include_str!("../../rules/asg_newrelic_application_recovery.yaml"),
    ),
    ("rules/asg_newrelic_server_alert.yaml", include_str!("../../rules/asg_newrelic_server_alert.yaml")),
    ("rules/asg_newrelic_server_recovery.yaml", include_str!("../../rules/asg_newrelic_server_recovery.yaml")),
    ("rules/asg_observe.yaml", include_str!("../../rules/asg_observe.yaml")),
    ("rules/asg_prometheus_alert.yaml", include_str!("../../rules/asg_prometheus_alert.yaml")),
    ("rules/asg_prometheus_resolved.yaml", include_str!("../../rules/asg_prometheus_resolved.yaml")),
    ("rules/asg_scale_down_pulse.yaml", include_str!("../../rules/asg_scale_down_pulse.yaml")),
    ("rules/asg_scale_up_pulse.yaml", include_str!("../../rules/asg_scale_up_pulse.yaml")),
    ("workflows/asg_add_node.rhai", include_str!("../../workflows/asg_add_node.rhai")),
    ("workflows/asg_add_node.yaml", include_str!("../../workflows/asg_add_node.yaml")),
    ("workflows/asg_create.rhai", include_str!("../../workflows/asg_create.rhai")),
    ("workflows/asg_create.yaml", include_str!("../../workflows/asg_create.yaml")),
    ("workflows/asg_deflate.rhai", include_str!("../../workflows/asg_deflate.rhai")),
    ("workflows/asg_deflate.yaml", include_str!("../../workflows/asg_deflate.yaml")),
    ("workflows/asg_delete.rhai", include_str!("../../workflows/asg_delete.rhai")),
    ("workflows/asg_delete.yaml", include_str!("../../workflows/asg_delete.yaml")),
    ("workflows/asg_delete_node.rhai", include_str!("../../workflows/asg_delete_node.rhai")),
    ("workflows/asg_delete_node.yaml", include_str!("../../workflows/asg_delete_node.yaml")),
    ("workflows/asg_expand.rhai", include_str!("../../workflows/asg_expand.rhai")),
    ("workflows/asg_expand.yaml", include_str!("../../workflows/asg_expand.yaml")),
    ("workflows/asg_measure.rhai", include_str!("../../workflows/asg_measure.rhai")),
    ("workflows/asg_measure.yaml", include_str!("../../workflows/asg_measure.yaml")),
    ("workflows/asg_observe.rhai", include_str!("../../workflows/asg_observe.rhai")),
    ("workflows/asg_observe.yaml", include_str!("../../workflows/asg_observe.yaml")),
    ("workflows/asg_reconcile.rhai", include_str!("../../workflows/asg_reconcile.rhai")),
    ("workflows/asg_reconcile.yaml", include_str!("../../workflows/asg_reconcile.yaml")),
];

/// What only the demo has: a recovery counts after a second, and the log is for the audit to read.
const OWN: &[(&str, &str)] = &[
    ("configs/newrelic.yaml", "normal_report_delay: 1\n"),
    ("petrel.toml", "[log]\nlevel = \"info\"\nformat = \"json\"\n"),
];

const SHIPPED_TICK: (&str, &str) = ("delta: 30", "twice a minute");
const DEMO_TICK: (&str, &str) = ("delta: 1", "every second");

/// Writes the site.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    for (path, content) in FILES.iter().chain(OWN) {
        let file = folder.join(path);
        private::create_folder(file.parent().unwrap_or(folder))?;
        private::replace_file(&file, hurried(content).as_bytes())?;
    }
    Ok(())
}

/// The governor looks every second instead of twice a minute.
fn hurried(content: &str) -> String {
    content.replace(SHIPPED_TICK.0, DEMO_TICK.0).replace(SHIPPED_TICK.1, DEMO_TICK.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_and_workflow_of_the_repository_is_in_the_demo() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut on_disk = BTreeSet::new();
        for folder in ["rules", "workflows"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                on_disk.insert(format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()));
            }
        }
        let carried: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(carried, on_disk);
    }

    #[test]
    fn the_governor_of_the_demo_looks_every_second() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let rule = std::fs::read_to_string(folder.path().join("rules/asg_governor_tick.yaml")).unwrap();
        assert!(rule.contains("delta: 1\n"), "{rule}");
    }
}
