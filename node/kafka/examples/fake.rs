//! A Kafka front over an in-memory broker, to try clients by hand:
//! `cargo run -p weir-kafka --example fake -- 127.0.0.1:9092`. A second address is what
//! clients are told to connect to (a proxy that records them).

#[path = "../tests/support/env.rs"]
mod env;

use std::net::SocketAddr;

use weir_api::FrontContext;
use weir_api::fake::FakeBroker;
use weir_kafka::{KafkaFront, KafkaOptions};

fn main() {
    tracing_subscriber::fmt().with_env_filter("debug").init();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listen = std::env::args().nth(1);
        let listen: SocketAddr = match listen.as_deref().unwrap_or("127.0.0.1:9092").parse() {
            Ok(listen) => listen,
            Err(error) => return tracing::error!(%error, "not an address"),
        };
        let env = env::env();
        let broker = FakeBroker::new(&env);
        let context = FrontContext {
            env,
            api: broker.api(),
        };
        let options = KafkaOptions {
            listen,
            ..KafkaOptions::default()
        };
        let front = match KafkaFront::start(context, options).await {
            Ok(front) => front,
            Err(error) => return tracing::error!(%error, "not started"),
        };
        let told = std::env::args().nth(2).and_then(|told| told.parse().ok());
        let address: SocketAddr = told.unwrap_or_else(|| front.local_address());
        broker.advertise("kafka", &address.ip().to_string(), address.port());
        tracing::info!(%address, "listening");
        std::future::pending().await
    });
}
