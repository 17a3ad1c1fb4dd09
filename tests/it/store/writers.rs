//! Many at once: one wins where one may, and nobody suffers for another's refusal.

use futures_util::future::join_all;
use petrel::store::Store;
use petrel::store::events::Accepted;
use petrel::store::rows::{Lease, NewInstance};

use super::{accept, at, claimed, end, id, instance, request};

super::promises![
    sixty_four_who_bring_the_same_event_bring_one,
    sixty_four_who_claim_get_each_execution_once,
    a_batch_that_is_refused_takes_no_other_with_it,
];

async fn sixty_four_who_bring_the_same_event_bring_one(store: Store) {
    let events = store.events();
    let bring = |number: u8| {
        let events = events.clone();
        async move {
            let new = NewInstance { dedupe: Some(("delivery".to_owned(), at(100))), ..instance(number) };
            (id(number), accept(&events, &new, at(1)).await.unwrap())
        }
    };
    let answers = join_all((0..64).map(bring)).await;
    let news: Vec<_> = answers.iter().filter(|(_, accepted)| *accepted == Accepted::New).collect();
    assert_eq!((news.len(), events.instances_pending_count().await.unwrap()), (1, 1));
    let first = news[0].0;
    assert!(answers.iter().all(|(own, accepted)| *own == first || *accepted == Accepted::Duplicate(first)));
}

async fn sixty_four_who_claim_get_each_execution_once(store: Store) {
    request(&store, 0..40).await;
    let executions = store.executions();
    let take = |number: u8| {
        let executions = executions.clone();
        let lease = Lease { owner: format!("w{number}"), until: at(60) };
        async move {
            executions
                .execution_claim(&lease, &format!("t{number}"), 3, petrel::store::rows::Share::Everything, at(1))
                .await
                .unwrap()
        }
    };
    let mut taken: Vec<_> = join_all((0..64).map(take)).await.into_iter().flatten().map(|row| row.id).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..40).map(id).collect::<Vec<_>>());
}

async fn a_batch_that_is_refused_takes_no_other_with_it(store: Store) {
    let held = claimed(&store, 200).await;
    store.executions().execution_finish(&end(held, at(2))).await.unwrap();
    let refused = end(held, at(3));
    let write = |number: u8| {
        let (store, refused) = (store.clone(), refused.clone());
        async move {
            if number % 2 == 0 {
                return store.executions().execution_finish(&refused).await.is_err();
            }
            accept(&store.events(), &instance(number), at(1)).await == Ok(Accepted::New)
        }
    };
    let as_expected = join_all((0..128).map(write)).await;
    assert!(as_expected.iter().all(|expected| *expected));
    assert_eq!(store.events().instances_pending_count().await.unwrap(), 64);
}
