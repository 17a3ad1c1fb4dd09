//! The datastore.

use petrel::store::Store;
use petrel::store::StoreError;
use petrel::store::key_values::{Expected, KeyWrite};
use petrel::store::rows::Page;

use super::{PAGE, at};

super::promises![
    every_write_is_another_version,
    a_write_happens_only_if_what_it_expects_is_there,
    what_has_expired_is_not_there,
    a_prefix_is_letters_not_a_pattern,
    scopes_do_not_see_each_other,
    deleting_what_is_not_there_says_so,
];

fn write(name: &str, value: &str, expected: Expected) -> KeyWrite {
    KeyWrite {
        scope: "system".to_owned(),
        name: name.to_owned(),
        value: Some(value.to_owned()),
        secret: false,
        expires_at: None,
        expected,
    }
}

async fn value(store: &Store, name: &str, now: i64) -> Option<(String, i64)> {
    let row = store.key_values().key_get("system", name, at(now)).await.unwrap();
    row.map(|row| (row.value, row.version))
}

async fn every_write_is_another_version(store: Store) {
    for version in 1..=3 {
        let text = format!("v{version}");
        assert!(store.key_values().key_write(&write("a", &text, Expected::Anything), at(1)).await.unwrap());
        assert_eq!(value(&store, "a", 1).await, Some((text, version)));
    }
    let sealed = KeyWrite { secret: true, expires_at: Some(at(9)), ..write("a", "x", Expected::Anything) };
    store.key_values().key_write(&sealed, at(1)).await.unwrap();
    let row = store.key_values().key_get("system", "a", at(1)).await.unwrap().unwrap();
    assert_eq!((row.secret, row.version, row.expires_at), (true, 4, Some(at(9))));
}

async fn a_write_happens_only_if_what_it_expects_is_there(store: Store) {
    let values = store.key_values();
    let put = async |text: &str, expected| values.key_write(&write("a", text, expected), at(1)).await.unwrap();
    assert!(!put("x", Expected::Version(1)).await);
    assert!(put("one", Expected::Absent).await);
    assert!(!put("x", Expected::Absent).await);
    assert!(put("two", Expected::Version(1)).await);
    assert!(!put("x", Expected::Version(1)).await);
    assert_eq!(value(&store, "a", 1).await, Some(("two".to_owned(), 2)));
    let delete = |expected| KeyWrite { value: None, ..write("a", "", expected) };
    assert!(!values.key_write(&delete(Expected::Version(1)), at(1)).await.unwrap());
    assert!(values.key_write(&delete(Expected::Version(2)), at(1)).await.unwrap());
    assert_eq!(value(&store, "a", 1).await, None);
}

async fn what_has_expired_is_not_there(store: Store) {
    let values = store.key_values();
    let brief = KeyWrite { expires_at: Some(at(10)), ..write("a", "old", Expected::Absent) };
    assert!(values.key_write(&brief, at(1)).await.unwrap());
    assert_eq!(value(&store, "a", 9).await, Some(("old".to_owned(), 1)));
    assert_eq!(value(&store, "a", 10).await, None);
    assert_eq!(values.key_list(None, "", PAGE, at(10)).await.unwrap(), []);
    assert_eq!(values.key_count(None, "", at(10)).await.unwrap(), 0);
    assert!(!values.key_write(&write("a", "x", Expected::Version(1)), at(10)).await.unwrap());
    assert!(values.key_write(&write("a", "new", Expected::Absent), at(10)).await.unwrap());
    assert_eq!(value(&store, "a", 10).await.unwrap().0, "new");
}

async fn a_prefix_is_letters_not_a_pattern(store: Store) {
    let values = store.key_values();
    for name in ["a%b", "a_b", "axb", "a*b", "é1", "É1", "'; --"] {
        values.key_write(&write(name, "", Expected::Absent), at(1)).await.unwrap();
    }
    let cases: [(&str, &[&str]); 7] = [
        ("a%", &["a%b"]),
        ("a_", &["a_b"]),
        ("a*", &["a*b"]),
        ("a", &["a%b", "a*b", "a_b", "axb"]),
        ("é", &["é1"]),
        ("'", &["'; --"]),
        ("A", &[]),
    ];
    for (prefix, expected) in cases {
        let found = values.key_list(Some("system"), prefix, PAGE, at(1)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), expected, "{prefix}");
        let count = values.key_count(Some("system"), prefix, at(1)).await.unwrap();
        assert_eq!(usize::try_from(count).unwrap(), expected.len());
    }
}

async fn scopes_do_not_see_each_other(store: Store) {
    let values = store.key_values();
    values.key_write(&write("a", "ours", Expected::Absent), at(1)).await.unwrap();
    let anns = KeyWrite { scope: "user:ann".to_owned(), ..write("a", "hers", Expected::Absent) };
    assert!(values.key_write(&anns, at(1)).await.unwrap());
    assert_eq!(values.key_get("user:ann", "a", at(1)).await.unwrap().unwrap().value, "hers");
    assert_eq!(values.key_list(Some("user:ann"), "", PAGE, at(1)).await.unwrap().len(), 1);
    let second = values.key_list(None, "", Page { limit: 1, offset: 1 }, at(1)).await.unwrap();
    assert_eq!(second[0].scope, "user:ann");
}

async fn deleting_what_is_not_there_says_so(store: Store) {
    let values = store.key_values();
    values.key_write(&write("a", "", Expected::Absent), at(1)).await.unwrap();
    values.key_delete("system", "a").await.unwrap();
    let refused = values.key_delete("system", "a").await;
    assert!(matches!(&refused, Err(StoreError::NotFound(what)) if what.contains("`a`")), "{refused:?}");
}
