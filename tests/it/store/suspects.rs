//! What daemons may have died of: who tries it, and what counts.

use petrel::store::Store;
use petrel::store::suspects::{Subject, SubjectKind};

use super::{at, claim, id, lease, request};

super::promises![
    a_suspect_is_tried_by_one_daemon_at_a_time_and_deaths_are_counted,
    a_suspect_is_claimed_only_by_its_name,
];

async fn a_suspect_is_tried_by_one_daemon_at_a_time_and_deaths_are_counted(store: Store) {
    let (suspects, subject) = (store.suspects(), Subject::Execution(id(1)));
    request(&store, [1]).await;
    suspects.suspects_add(&[subject], at(2)).await.unwrap();
    let deaths = async |now| {
        let open = suspects.suspects_open(SubjectKind::Execution, at(now)).await.unwrap();
        open.iter().map(|suspect| suspect.deaths).collect::<Vec<_>>()
    };
    assert_eq!(deaths(3).await, [0]);
    assert!(suspects.trial_begin(subject, "a", at(3), at(100)).await.unwrap());
    assert!(!suspects.trial_begin(subject, "b", at(4), at(100)).await.unwrap());
    assert!(deaths(4).await.is_empty(), "nobody judges what is being tried");
    suspects.suspects_add(&[subject], at(5)).await.unwrap();
    assert_eq!(deaths(101).await, [1], "its daemon never came back");
    assert!(suspects.trial_begin(subject, "b", at(101), at(200)).await.unwrap());
    suspects.trials_end(Some("b")).await.unwrap();
    assert_eq!(deaths(102).await, [2], "its daemon came back");
    assert!(suspects.trial_begin(subject, "b", at(102), at(200)).await.unwrap());
    suspects.trial_undecided(subject).await.unwrap();
    assert_eq!(deaths(103).await, [2], "it lived as long as it was alone");
    suspects.suspect_set_aside(subject, "why").await.unwrap();
    assert_eq!(suspects.suspect_reason(subject).await.unwrap().as_deref(), Some("why"));
    assert!(deaths(104).await.is_empty() && !suspects.trial_begin(subject, "a", at(104), at(200)).await.unwrap());
}

async fn a_suspect_is_claimed_only_by_its_name(store: Store) {
    request(&store, [1, 2]).await;
    store.suspects().suspects_add(&[Subject::Execution(id(1))], at(2)).await.unwrap();
    let claimed: Vec<_> = claim(&store, "w", 9, at(3)).await.iter().map(|row| row.id).collect();
    assert_eq!(claimed, [id(2)]);
    assert_eq!(store.executions().queue_next().await.unwrap(), None, "nobody waits for it in the queue");
    let one = store.executions().execution_claim_one(&lease("w", at(60)), "token", id(1), at(3)).await.unwrap();
    assert_eq!(one.map(|row| row.fence), Some(1));
    store.suspects().suspect_clear(Subject::Execution(id(1))).await.unwrap();
}
