//! What the servers and the proxy promise to those who rely on them.

use super::{fresh_database, fresh_vhost};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first() {
    println!("{}", fresh_database().await);
    println!("{}", fresh_vhost().await);
    println!("{}", fresh_vhost().await);
}
