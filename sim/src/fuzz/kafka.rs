//! A connection to the Kafka front.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weir_api::fake::FakeBroker;
use weir_api::{Front, FrontContext, NewTopic};
use weir_base::{Env, TopicId};
use weir_kafka::{KafkaFront, KafkaOptions};

use super::world::{self, World};

/// Bytes on their way in a connection.
const PIPE_BYTES: usize = 64 * 1024;
/// How long the client listens before it goes away.
const LISTENS: Duration = Duration::from_secs(60);

/// What one client sends. Answers must be whole frames, no more than there were requests,
/// and the connection must end once the client is gone.
///
/// # Panics
/// If they are not, or it does not.
pub fn kafka_session(data: &[u8]) {
    world::run(|world| session(world, data));
}

async fn session(world: World, data: &[u8]) {
    let env = world.env("node");
    let (broker, _) = broker(&env).await;
    let context = FrontContext {
        env: env.clone(),
        api: broker.api(),
    };
    let front = KafkaFront::start(context, KafkaOptions::default()).await;
    let front = front.expect("the options are in bounds and somebody listens");
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    world.call(theirs);
    let answered = converse(&env, ours, data).await;
    assert!(answered <= requests(data), "{answered} answers");
    front.drain().await;
    assert_eq!(front.connections(), 0);
}

/// A broker with one topic, named as in the captures, and its id.
pub(super) async fn broker(env: &Env) -> (FakeBroker, TopicId) {
    let broker = FakeBroker::new(env);
    broker.advertise("kafka", "192.0.2.1", 9092);
    let topic = NewTopic {
        name: "captured".to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let made = broker
        .api()
        .admin
        .create_topic(topic, false, Duration::from_secs(1));
    let id = made.await.expect("an empty broker makes a topic");
    (broker, id)
}

/// Sends `data`, listens for a while, goes; gives the number of answers.
async fn converse(env: &Env, stream: DuplexStream, data: &[u8]) -> usize {
    let (mut answers, mut requests) = tokio::io::split(stream);
    let speak = async {
        // The front may have closed by now, which is its right.
        if requests.write_all(data).await.is_ok() {
            env.sleep(LISTENS).await;
        }
        requests.shutdown().await.ok();
    };
    let listen = async {
        let mut count = 0;
        while let Ok(length) = answers.read_i32().await {
            let length = u64::try_from(length).expect("lengths are not negative");
            assert!(length >= 4, "an answer without correlation id");
            let mut frame = (&mut answers).take(length);
            let passed = tokio::io::copy(&mut frame, &mut tokio::io::sink()).await;
            assert_eq!(passed.ok(), Some(length), "answers are whole");
            count += 1;
        }
        count
    };
    tokio::join!(speak, listen).1
}

/// Frames begun in `data`.
fn requests(mut data: &[u8]) -> usize {
    let mut count = 0;
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        data = rest.get(length..).unwrap_or_default();
        count += 1;
    }
    count
}
