//! Every fault does what it says, and no other.

use std::io::ErrorKind;
use std::time::Duration;

use petrel::clock::{Clock, SystemClock, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::servers::Proxy;
use crate::support::eventually;

const LONG: Duration = Duration::from_millis(200);

/// A server that says what it is told, and the network to it.
async fn echo() -> Proxy {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = server.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut said, mut says) = client.split();
                tokio::io::copy(&mut said, &mut says).await
            });
        }
    });
    Proxy::start(target).await
}

async fn connect(network: &Proxy) -> TcpStream {
    TcpStream::connect(network.address()).await.unwrap()
}

async fn say(client: &mut TcpStream, text: &str) -> std::io::Result<String> {
    client.write_all(text.as_bytes()).await?;
    hear(client, text.len()).await
}

async fn hear(client: &mut TcpStream, length: usize) -> std::io::Result<String> {
    let mut heard = vec![0; length];
    client.read_exact(&mut heard).await?;
    Ok(String::from_utf8(heard).unwrap())
}

#[tokio::test]
async fn what_passes_is_counted() {
    let network = echo().await;
    let mut client = connect(&network).await;
    assert_eq!(say(&mut client, "hello").await.unwrap(), "hello");
    assert_eq!((network.connections(), network.open_connections(), network.bytes()), (1, 1, (5, 5)));
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "an end is carried, too");
    eventually("the connection is over", async || (network.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_cut_closes_and_refuses() {
    let mut network = echo().await;
    let mut client = connect(&network).await;
    say(&mut client, "hello").await.unwrap();
    network.cut().await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(TcpStream::connect(network.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    network.pass().await;
    assert_eq!(say(&mut connect(&network).await, "again").await.unwrap(), "again");
    assert_eq!(network.connections(), 2);
}

#[tokio::test]
async fn a_black_hole_takes_connections_and_gives_nothing() {
    let mut network = echo().await;
    let mut old = connect(&network).await;
    say(&mut old, "hello").await.unwrap();
    network.black_hole().await;
    let mut new = connect(&network).await;
    let before = network.bytes();
    for client in [&mut old, &mut new] {
        let answer = say(client, "lost?");
        assert!(timeout(&SystemClock::new(), LONG, answer).await.is_err());
    }
    assert_eq!(network.bytes(), before);
    network.pass().await;
    for client in [&mut old, &mut new] {
        assert_eq!(hear(client, 5).await.unwrap(), "lost?", "it was only held up");
    }
}

#[tokio::test]
async fn a_black_hole_can_be_cut() {
    let mut network = echo().await;
    let mut client = connect(&network).await;
    network.black_hole().await;
    network.cut().await;
    assert_eq!(network.open_connections(), 0);
    assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_delay_is_felt_in_both_directions() {
    let mut network = echo().await;
    let mut client = connect(&network).await;
    network.delay(LONG).await;
    let clock = SystemClock::new();
    assert_eq!(say(&mut client, "slow").await.unwrap(), "slow");
    assert!(clock.monotonic() >= 2 * LONG);
}

#[tokio::test]
async fn a_reset_is_no_polite_end() {
    let mut network = echo().await;
    let mut client = connect(&network).await;
    say(&mut client, "hello").await.unwrap();
    network.reset().await;
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(say(&mut connect(&network).await, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn a_server_that_is_not_there_resets() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let network = Proxy::start(nobody).await;
    let mut client = connect(&network).await;
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
