//! What ships: the pack `autoscale`, and the site's rules and workflows around it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::content::{Compilers, check_steps};
use crate::governor::actions::actions;
use crate::model::action::ParameterSpec;
use crate::packs::check::{Checks, Runners};
use crate::packs::diagnostic::Severity;
use crate::packs::layout::ContentRoots;
use crate::packs::load::{Loaded, load};

fn loaded() -> Loaded {
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    let any = || ParameterSpec { schema: serde_json::json!({}), ..ParameterSpec::default() };
    let names = ["local-shell-cmd", "local-shell-script", "http-request", "noop", "native", "inquirer", "workflow"];
    let runner = |name: &str| (name.to_owned(), BTreeMap::from([("cmd".to_owned(), any())]));
    let runners: Runners = names.into_iter().map(runner).collect();
    let roots = ContentRoots { packs: vec![site.join("packs")], site };
    load(&roots, &BTreeMap::new(), &Checks { runners: &runners, compile: &Compilers })
}

#[test]
fn everything_around_scaling_loads_and_fits_together() {
    let loaded = loaded();
    let steps = check_steps(&loaded.catalogue);
    let findings = loaded.diagnostics.iter().chain(&steps).filter(|it| it.severity != Severity::Note);
    let texts: Vec<String> = findings.map(ToString::to_string).collect();
    assert_eq!(texts, Vec::<String>::new());
    let rules = loaded.catalogue.rules.values().filter(|rule| rule.reference.name().starts_with("asg_"));
    let disabled: Vec<_> = rules.clone().filter(|rule| !rule.enabled).map(|rule| &rule.reference).collect();
    assert_eq!((rules.count(), disabled), (7, vec![]));
    for name in ["asg_create", "asg_add_node", "asg_delete_node", "asg_expand", "asg_deflate", "asg_delete"] {
        assert!(loaded.catalogue.actions.contains_key(&format!("default.{name}").parse().unwrap()), "{name}");
    }
}

#[tokio::test]
async fn every_action_of_the_pack_is_there_and_the_other_way_round() {
    let desk = super::desk::Desk::new();
    let written: Vec<&str> = actions(&desk.governor).into_iter().map(|(name, _)| name).collect();
    let loaded = loaded();
    let shipped = loaded.catalogue.actions.keys().filter(|action| action.pack() == "autoscale");
    let shipped: Vec<&str> = shipped.map(|action| action.as_str()).collect();
    let mut sorted = written.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, shipped);
}
