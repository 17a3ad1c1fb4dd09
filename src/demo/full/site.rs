//! The site of the whole story: that of the short one, attached to the servers.

use std::path::Path;

use super::rig::Rig;
use crate::demo::site;

const FILES: [(&str, &str); 8] = [
    ("petrel.toml", include_str!("site/petrel.toml")),
    ("configs/autoscale.yaml", include_str!("site/configs/autoscale.yaml")),
    ("configs/dns.yaml", include_str!("site/configs/dns.yaml")),
    ("configs/haproxy.yaml", include_str!("site/configs/haproxy.yaml")),
    ("configs/irc.yaml", include_str!("site/configs/irc.yaml")),
    ("configs/prometheus.yaml", include_str!("site/configs/prometheus.yaml")),
    ("configs/ssh.yaml", include_str!("site/configs/ssh.yaml")),
    ("profiles/web.yaml", include_str!("site/profiles/web.yaml")),
];

/// The load is measured every other second instead of four times a minute.
const SHIPPED_MEASURE: (&str, &str) = ("delta: 15", "Every 15 seconds");
const DEMO_MEASURE: (&str, &str) = ("delta: 2", "Every other second");

/// Writes it.
pub(super) fn write(folder: &Path, rig: &Rig) -> anyhow::Result<()> {
    site::write(folder)?;
    let measure = folder.join("rules/asg_measure.yaml");
    let rule = std::fs::read_to_string(&measure)?;
    let rule = rule.replace(SHIPPED_MEASURE.0, DEMO_MEASURE.0).replace(SHIPPED_MEASURE.1, DEMO_MEASURE.1);
    std::fs::write(&measure, rule)?;
    for (name, template) in FILES {
        rig.write(&folder.join(name), template)?;
    }
    Ok(())
}
