//! Messages of which nothing could be made.

use petrel::model::refs::DeadLetterId;
use petrel::store::dead_letters::{DeadLetterRow, NewDeadLetter};
use petrel::store::rows::Page;
use petrel::store::{Store, StoreError};

use super::{PAGE, at, id};

super::promises![
    a_dead_letter_is_kept_byte_for_byte,
    dead_letters_are_listed_newest_first_page_by_page,
    a_dead_letter_that_came_again_is_not_forgotten_as_it_was_before,
];

fn letter(number: u8, received_at: i64) -> NewDeadLetter {
    NewDeadLetter {
        id: id(number),
        source: "petrel.arrivals".to_owned(),
        reason: format!("reason {number}"),
        body: vec![0, 0xff, number],
        received_at: at(received_at),
    }
}

async fn listed(store: &Store, page: Page) -> (Vec<DeadLetterId>, i64) {
    let (rows, count) = store.dead_letters().dead_letter_list(page).await.unwrap();
    (rows.into_iter().map(|row| row.id).collect(), count)
}

async fn a_dead_letter_is_kept_byte_for_byte(store: Store) {
    let letters = store.dead_letters();
    letters.dead_letters_put(&[letter(1, 5)]).await.unwrap();
    let (row, body) = letters.dead_letter_get(id(1)).await.unwrap();
    assert_eq!(body, [0, 0xff, 1]);
    let (source, reason) = ("petrel.arrivals".to_owned(), "reason 1".to_owned());
    assert_eq!(row, DeadLetterRow { id: id(1), source, reason, size_bytes: 3, received_at: at(5) });
    let unknown = letters.dead_letter_get(id(2)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound(_)));
}

async fn dead_letters_are_listed_newest_first_page_by_page(store: Store) {
    let letters = [letter(1, 5), letter(2, 7), letter(3, 6), letter(4, 6)];
    store.dead_letters().dead_letters_put(&letters).await.unwrap();
    assert_eq!(listed(&store, PAGE).await, (vec![id(2), id(3), id(4), id(1)], 4));
    assert_eq!(listed(&store, Page { limit: 2, offset: 1 }).await, (vec![id(3), id(4)], 4));
}

async fn a_dead_letter_that_came_again_is_not_forgotten_as_it_was_before(store: Store) {
    let letters = store.dead_letters();
    letters.dead_letters_put(&[letter(1, 5)]).await.unwrap();
    let (seen, _) = letters.dead_letter_get(id(1)).await.unwrap();
    letters.dead_letters_put(&[letter(1, 6), letter(2, 6)]).await.unwrap();
    assert_eq!(listed(&store, PAGE).await.1, 2, "once for the same bytes");
    assert!(!letters.dead_letter_delete(&seen).await.unwrap());
    let (seen, _) = letters.dead_letter_get(id(1)).await.unwrap();
    assert!(letters.dead_letter_delete(&seen).await.unwrap());
    assert!(!letters.dead_letter_delete(&seen).await.unwrap());
    assert_eq!(listed(&store, PAGE).await, (vec![id(2)], 1));
}
