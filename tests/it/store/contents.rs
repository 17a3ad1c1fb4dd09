//! Last good content, the API's layer of rules, settings; and the sequence of announcements.

use std::collections::BTreeMap;

use petrel::store::contents::RuleLayer;
use petrel::store::{Store, StoreError};
use serde_json::json;

use super::{at, execution};

super::promises![
    the_last_good_content_is_what_was_written_last,
    the_layer_of_rules_keeps_switch_and_definition_apart,
    a_setting_is_set_and_forgotten,
    announcements_are_numbered_upwards_and_read_on_from_anywhere,
];

async fn the_last_good_content_is_what_was_written_last(store: Store) {
    let contents = store.contents();
    let objects = |list: &[(&str, &str)]| -> BTreeMap<String, (String, String)> {
        list.iter().map(|(uid, text)| ((*uid).to_owned(), ("file".to_owned(), (*text).to_owned()))).collect()
    };
    for list in [&[("a", "1"), ("b", "1")][..], &[("b", "2"), ("c", "1")], &[("b", "2"), ("c", "1")], &[]] {
        contents.last_good_write(&objects(list)).await.unwrap();
        assert_eq!(contents.last_good_read().await.unwrap(), objects(list));
    }
}

async fn the_layer_of_rules_keeps_switch_and_definition_apart(store: Store) {
    let contents = store.contents();
    let layer = |name: &str, enabled, definition| RuleLayer { rule: name.parse().unwrap(), enabled, definition };
    let (off, made) = (layer("p.off", Some(false), None), layer("p.made", None, Some(json!({ "name": "made" }))));
    for layer in [&off, &made] {
        contents.rule_layer_write(layer, at(1)).await.unwrap();
    }
    assert_eq!(contents.rule_layer_read().await.unwrap(), [made.clone(), off.clone()]);
    let on = RuleLayer { enabled: Some(true), ..off.clone() };
    contents.rule_layer_write(&on, at(2)).await.unwrap();
    contents.rule_layer_delete(&made.rule).await.unwrap();
    assert_eq!(contents.rule_layer_read().await.unwrap(), [on]);
    assert!(matches!(contents.rule_layer_delete(&made.rule).await, Err(StoreError::NotFound(_))));
}

async fn a_setting_is_set_and_forgotten(store: Store) {
    let contents = store.contents();
    for value in [Some("1"), Some("2"), None] {
        contents.setting_put("freeze", value).await.unwrap();
        assert_eq!(contents.setting_get("freeze").await.unwrap().as_deref(), value);
    }
}

async fn announcements_are_numbered_upwards_and_read_on_from_anywhere(store: Store) {
    let announcements = store.announcements();
    assert_eq!(announcements.announcements_last().await.unwrap(), 0);
    for number in 1..=3 {
        announcements.announce("st2.announcement__ops", "x", &json!(number), at(number)).await.unwrap();
    }
    store.executions().execution_request(&execution(1, at(4))).await.unwrap();
    let all = announcements.announcements_read(0, 100).await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    assert_eq!(all.last().unwrap().sequence, announcements.announcements_last().await.unwrap());
    let payloads: Vec<_> = all.iter().map(|row| row.payload.clone()).collect();
    assert_eq!(payloads, [Some(json!(1)), Some(json!(2)), Some(json!(3)), None]);
    let rest = announcements.announcements_read(all[1].sequence, 1).await.unwrap();
    assert_eq!(rest, [all[2].clone()]);
}
