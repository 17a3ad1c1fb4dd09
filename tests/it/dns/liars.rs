//! Whoever answers in the server's place is not believed, and does no harm.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigResponseContext, TSigner};
use petrel::clock::{Clock, SystemClock};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Desk, record};
use crate::servers::bind::Bind;

/// Makes bytes out of a question and the secret that the true server has.
type Lie = fn(&Message, &TSigner) -> Vec<u8>;

/// Answers each question with a lie; its address.
async fn liar(secret: Vec<u8>, lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let key = signer(secret);
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut question = vec![0; client.read_u16().await.unwrap().into()];
            client.read_exact(&mut question).await.unwrap();
            client.write_all(&lie(&Message::from_vec(&question).unwrap(), &key)).await.unwrap();
        }
    });
    address
}

fn signer(secret: Vec<u8>) -> TSigner {
    TSigner::new(secret, TsigAlgorithm::HmacSha256, Name::from_ascii("petrel.").unwrap(), 300).unwrap()
}

/// "Yes", to whatever was asked.
fn yes(question: &Message) -> Message {
    let mut answer = Message::new(question.id, MessageType::Response, question.op_code);
    answer.metadata.response_code = ResponseCode::NoError;
    answer
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn signed(question: &Message, key: TSigner, seconds: u64) -> Vec<u8> {
    let mut answer = yes(question);
    let asked = question.signature.as_ref().unwrap().data.mac.clone();
    let context = TSigResponseContext::new(question.id, seconds, key, asked, None);
    let signature = context.sign(&answer.to_vec().unwrap()).unwrap();
    answer.set_signature(signature);
    framed(&answer.to_vec().unwrap())
}

fn seconds_of_day() -> u64 {
    u64::try_from(SystemClock::new().now().as_micros() / 1_000_000).unwrap()
}

#[tokio::test]
async fn an_answer_that_is_not_the_servers_is_not_believed() {
    let bind = Bind::start().await;
    let secret = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, bind.secret("petrel")).unwrap();
    let lies: [(&str, Lie, &str); 9] = [
        ("no signature", |question, _| framed(&yes(question).to_vec().unwrap()), "without a signature"),
        (
            "another secret",
            |question, _| signed(question, signer(b"guessed".to_vec()), seconds_of_day()),
            "a signature that is not good",
        ),
        ("an old answer", |question, key| signed(question, key.clone(), seconds_of_day() - 3600), "not good"),
        ("the beginning of time", |question, key| signed(question, key.clone(), 0), "no time that there was"),
        (
            "somebody else's answer",
            |question, _| {
                let mut answer = yes(question);
                answer.metadata.id = question.id.wrapping_add(1);
                framed(&answer.to_vec().unwrap())
            },
            "something that was not asked",
        ),
        ("the question itself", |question, _| framed(&question.to_vec().unwrap()), "something that was not asked"),
        (
            "more records than there are",
            |_, _| framed(&[[0, 1, 0x80, 0], [0xff; 4], [0xff; 4]].concat()),
            "reading what",
        ),
        ("nothing", |_, _| framed(&[]), "reading what"),
        ("half an answer", |_, _| vec![0xff, 0xff, 0], "waiting for"),
    ];
    for (what, lie, says) in lies {
        let desk = Desk::with(&bind, json!({ "server": liar(secret.clone(), lie).await }));
        let refusal = desk.fail("upsert_record", record("n", "127.0.0.1")).await;
        assert!(refusal.contains(says), "{what}: {refusal}");
        assert!(!refusal.contains(bind.secret("petrel")), "{what}: {refusal}");
    }
}
