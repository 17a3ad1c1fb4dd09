//! Catalogues that were published for all daemons.

use petrel::store::catalogues::PublishedRow;
use petrel::store::contents::RuleLayer;
use petrel::store::{Store, StoreError};

use super::at;

super::promises![
    what_was_published_last_holds_with_all_of_its_content,
    of_two_who_publish_the_same_version_one_is_told_so_and_has_changed_nothing,
    an_earlier_catalogue_is_published_again_as_a_version_of_its_own,
    after_the_end_of_a_publication_there_is_a_version_without_content,
    the_last_ten_publications_are_kept_with_their_content,
    whatever_changes_stored_content_changes_the_number_that_daemons_look_at,
];

fn row(version: u64, digest: &str) -> PublishedRow {
    PublishedRow {
        version,
        digest: Some(digest.to_owned()),
        published_by: "ann".to_owned(),
        published_at: at(i64::try_from(version).unwrap()),
    }
}

async fn what_was_published_last_holds_with_all_of_its_content(store: Store) {
    let catalogues = store.catalogues();
    assert_eq!(catalogues.catalogue_current().await.unwrap(), None);
    let large: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    catalogues.catalogue_publish(&row(1, "a"), b"first").await.unwrap();
    catalogues.catalogue_publish(&row(2, "b"), &large).await.unwrap();
    assert_eq!(catalogues.catalogue_current().await.unwrap(), Some(row(2, "b")));
    assert_eq!(catalogues.catalogue_list().await.unwrap(), [row(2, "b"), row(1, "a")]);
    assert_eq!(catalogues.catalogue_content(1).await.unwrap(), b"first");
    assert_eq!(catalogues.catalogue_content(2).await.unwrap(), large);
    assert!(matches!(catalogues.catalogue_content(3).await, Err(StoreError::NotFound(_))));
}

async fn of_two_who_publish_the_same_version_one_is_told_so_and_has_changed_nothing(store: Store) {
    let catalogues = store.catalogues();
    let (ours, theirs) = (row(1, "a"), row(1, "b"));
    let (first, second) =
        tokio::join!(catalogues.catalogue_publish(&ours, b"ours"), catalogues.catalogue_publish(&theirs, b"theirs"));
    let (kept, content) = if first.is_ok() { (ours, b"ours".to_vec()) } else { (theirs, b"theirs".to_vec()) };
    assert_eq!([&first, &second].into_iter().filter(|answer| **answer == Err(StoreError::Conflict)).count(), 1);
    assert_eq!(catalogues.catalogue_list().await.unwrap(), [kept]);
    assert_eq!(catalogues.catalogue_content(1).await.unwrap(), content);
}

async fn an_earlier_catalogue_is_published_again_as_a_version_of_its_own(store: Store) {
    let catalogues = store.catalogues();
    catalogues.catalogue_publish(&row(1, "a"), b"first").await.unwrap();
    catalogues.catalogue_publish(&row(2, "b"), b"second").await.unwrap();
    catalogues.catalogue_publish_again(&row(3, "a"), 1).await.unwrap();
    assert_eq!(catalogues.catalogue_current().await.unwrap(), Some(row(3, "a")));
    assert_eq!(catalogues.catalogue_content(3).await.unwrap(), b"first");
    assert_eq!(catalogues.catalogue_publish_again(&row(4, "x"), 99).await, Err(StoreError::Conflict));
    assert_eq!(catalogues.catalogue_current().await.unwrap(), Some(row(3, "a")), "what is not there changes nothing");
}

async fn after_the_end_of_a_publication_there_is_a_version_without_content(store: Store) {
    let catalogues = store.catalogues();
    catalogues.catalogue_publish(&row(1, "a"), b"first").await.unwrap();
    let end = PublishedRow { digest: None, ..row(2, "") };
    catalogues.catalogue_withdraw(&end).await.unwrap();
    assert_eq!(catalogues.catalogue_current().await.unwrap(), Some(end));
    assert!(matches!(catalogues.catalogue_content(2).await, Err(StoreError::NotFound(_))));
    assert_eq!(catalogues.catalogue_content(1).await.unwrap(), b"first", "to go back to");
}

async fn the_last_ten_publications_are_kept_with_their_content(store: Store) {
    let catalogues = store.catalogues();
    for version in 1..=12 {
        catalogues.catalogue_publish(&row(version, "a"), b"content").await.unwrap();
    }
    let kept: Vec<u64> = catalogues.catalogue_list().await.unwrap().iter().map(|row| row.version).collect();
    assert_eq!(kept, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
    assert!(matches!(catalogues.catalogue_content(2).await, Err(StoreError::NotFound(_))));
    assert_eq!(catalogues.catalogue_content(3).await.unwrap(), b"content");
}

async fn whatever_changes_stored_content_changes_the_number_that_daemons_look_at(store: Store) {
    let (catalogues, contents) = (store.catalogues(), store.contents());
    let mut seen = vec![contents.content_changes().await.unwrap()];
    catalogues.catalogue_publish(&row(1, "a"), b"first").await.unwrap();
    seen.push(contents.content_changes().await.unwrap());
    catalogues.catalogue_withdraw(&PublishedRow { digest: None, ..row(2, "") }).await.unwrap();
    seen.push(contents.content_changes().await.unwrap());
    let layer = RuleLayer { rule: "p.off".parse().unwrap(), enabled: Some(false), definition: None };
    contents.rule_layer_write(&layer, at(1)).await.unwrap();
    seen.push(contents.content_changes().await.unwrap());
    contents.rule_layer_delete(&layer.rule).await.unwrap();
    seen.push(contents.content_changes().await.unwrap());
    assert!(seen.is_sorted_by(|before, after| before != after), "{seen:?}");
    assert_eq!(contents.content_changes().await.unwrap().as_ref(), seen.last().unwrap().as_ref());
}
