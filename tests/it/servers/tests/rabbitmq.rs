//! RabbitMQ under violence.

use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use petrel::clock::{SystemClock, timeout};

use crate::servers::rabbitmq::connect;
use crate::servers::{RabbitMq, fresh_vhost};

const QUEUE: &str = "a-queue-that-is-kept";
const MESSAGES: u8 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_story_has_a_virtual_host_of_its_own() {
    let (one, other) = (fresh_vhost().await, fresh_vhost().await);
    declare(&connect(&one).await.unwrap().create_channel().await.unwrap()).await;
    let other = connect(&other).await.unwrap().create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    other.queue_declare(QUEUE.into(), passive, FieldTable::default()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_has_confirmed_survives_kill_9() {
    let mut rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    let connection = connect(&url).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    declare(&channel).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for n in 0..MESSAGES {
        assert!(publish(&channel, n).await.is_ack());
    }
    rabbitmq.until_kept(QUEUE).await;
    rabbitmq.kill_9().await;
    connect(&url).await.unwrap_err();
    rabbitmq.start_again().await;
    let connection = connect(&url).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    for n in 0..MESSAGES {
        assert_eq!(get(&channel).await, Some(n));
    }
    assert_eq!(get(&channel).await, None);
    let stands_still = async {
        rabbitmq.pause().await;
        let answer = get(&channel);
        tokio::pin!(answer);
        let late = timeout(&SystemClock::new(), Duration::from_millis(200), &mut answer).await.is_err();
        rabbitmq.resume().await;
        (late, answer.await)
    };
    assert_eq!(stands_still.await, (true, None));
}

async fn declare(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

async fn publish(channel: &Channel, n: u8) -> lapin::Confirmation {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
    channel.basic_publish("".into(), QUEUE.into(), options, &[n], properties).await.unwrap().await.unwrap()
}

async fn get(channel: &Channel) -> Option<u8> {
    let message = channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await.unwrap()?;
    message.ack(BasicAckOptions::default()).await.unwrap();
    message.data.first().copied()
}
