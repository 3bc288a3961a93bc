//! A Kafka front over an in-memory broker, to try clients by hand:
//! `cargo run -p weir-kafka --example fake -- 127.0.0.1:9092`. A second address is what
//! clients are told to connect to (a proxy that records them).

#[path = "../tests/support/env.rs"]
mod env;

use std::net::SocketAddr;

use weir_api::FrontContext;
use weir_api::fake::FakeBroker;
use weir_base::NodeId;
use weir_base::image::Endpoint;
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
        let told = std::env::args().nth(2).and_then(|told| told.parse().ok());
        // Nodes 2 and 3 are more doors to the same broker, on the next ports, for clients
        // that want three replicas.
        let mut fronts = Vec::new();
        for node in 1..=3u16 {
            let mut listen = listen;
            listen.set_port(listen.port() + node - 1);
            let options = KafkaOptions {
                listen,
                ..KafkaOptions::default()
            };
            match KafkaFront::start(context.clone(), options).await {
                Ok(front) => fronts.push(front),
                Err(error) => return tracing::error!(%error, "not started"),
            }
            let told: SocketAddr = told.filter(|_| node == 1).unwrap_or(listen);
            let endpoint = Endpoint {
                host: told.ip().to_string(),
                port: told.port(),
            };
            let endpoints = [("kafka".to_owned(), endpoint)].into();
            broker.add_node(NodeId(node.into()), endpoints);
        }
        let address = listen;
        tracing::info!(%address, "listening");
        std::future::pending().await
    });
}
