//! The governor's invariants over the real admission and real stores: random alerts, commands, ends, configurations, jumps of the clock,
//! restarts, and at each step two daemons of which one loses. The same histories, from fixed seeds, run on both back ends.
//!
//! Where each invariant is held, on the pure decision (`src/governor/tests/invariants.rs`) and over rows (here):
//!
//! | | Invariant | On the pure decision | Over a store |
//! |---|---|---|---|
//! | 1 | never above the maximum | `g05_any_history_…` | `watched` 1 |
//! | 2 | never voluntarily below the minimum | `g05_any_history_…` | `watched` 2 |
//! | 3 | one activity per group | `g05_any_history_…` | `watched` 3, with lost races; `g05_max_holds_…` with kills |
//! | 4 | delays between automatic scalings | `g05_any_history_…` | `watched` 4 |
//! | 5 | no deflation during an incident | `g05_any_history_…` | `watched` 5 |
//! | 6 | one ledger node for each create; all agree at rest | `g05_any_history_…` (names) | `watched` 6, and the matrix |
//! | 7 | same inputs, same decision | `g05_any_history_…` | `watched` 7 |
//! | 8 | more trouble never shrinks a group | `g05_any_history_…` | only there: a property of the function |
//! | 9 | a critical incident fills the group | `after_any_history_…` | `watched` 9 |
//! | 10 | quiet empties it to the minimum | `after_any_history_…` | `watched` 10 |
//! | 11 | a kill at every step, and the same end | | the matrix |
//! | 12 | a jump of the clock costs a look and no more | `g05_any_history_…` | `watched` 12 |
//! | 13 | activities per hour are bounded | | `watched` 13 |
//! | 14 | every look has a record with its reason | | `watched` 14 |
//! | 15 | reports may come twice and in any order | `reports_in_any_order_…` | `watched` 15 (twice) |
//! | 16 | a protected node is never chosen | `g05_any_history_…` | `watched` 16 |
//! | 17 | no request is lost when a node drains | | `haproxy::traffic`, measured |

mod desk;
mod watched;

use std::cell::Cell;

use petrel::store::Store;

use watched::{Dice, Watched};

const EVENTS: usize = 60;
const HISTORIES: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0x2545_f491_4f6c_dd1d];

async fn any_history_keeps_the_invariants(open: impl AsyncFn() -> Store) {
    for seed in HISTORIES {
        let mut watched = Watched::over(open().await, Dice(seed)).await;
        for _ in 0..EVENTS {
            watched.happen().await;
        }
        watched.owe().await;
        watched.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_keeps_the_governors_invariants_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Cell::new(0);
    any_history_keeps_the_invariants(async || {
        opened.set(opened.get() + 1);
        Store::open_sqlite(&folder.path().join(format!("{}.db", opened.get())), None).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_keeps_the_governors_invariants_on_postgresql() {
    any_history_keeps_the_invariants(crate::store::open_postgres).await;
}
