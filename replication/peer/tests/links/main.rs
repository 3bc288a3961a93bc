//! Links over the machine's loopback: what the rooms above rely on.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests on the machine's own sockets and clock"
)]

mod torn;
mod world;

use std::time::Duration;

use bytes::Bytes;
use weir_base::NodeId;
use weir_base::limits::PEER_FRAME_BYTES_MAX;
use weir_peer::{LinkEvent, PeerError, Service};
use world::{Authority, Node, World, patient};

const SOON: Duration = Duration::from_secs(5);

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_by_the_node_and_the_service_it_names() {
    let world = World::of(&[1, 2, 3]).await;
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 2)] {
        let answer = world.ask(from, to, "hello").await.unwrap();
        assert_eq!(answer, format!("{to} heard hello from {from}"));
    }
    let peers = &world.node(1).peers;
    let refused = world.ask(1, 2, "refuse").await;
    let detail = "refuse is refused".to_owned();
    assert_eq!(
        refused,
        Err(PeerError::Refused {
            node: NodeId(2),
            detail
        })
    );
    let nobody = peers
        .request(NodeId(2), Service::Raft, body("x"), SOON)
        .await;
    assert!(
        matches!(nobody, Err(PeerError::Unreachable { .. })),
        "{nobody:?}"
    );
    let stranger = peers
        .request(NodeId(9), Service::Broker, body("x"), SOON)
        .await;
    assert!(
        matches!(stranger, Err(PeerError::Unreachable { .. })),
        "{stranger:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_after_the_deadline_is_lost() {
    let world = World::of(&[1, 2]).await;
    world.ask(1, 2, "hello").await.unwrap();
    let deadline = Duration::from_millis(50);
    let peers = &world.node(1).peers;
    let late = peers
        .request(NodeId(2), Service::Broker, body("never"), deadline)
        .await;
    assert!(matches!(late, Err(PeerError::Lost { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_carries_a_hundred_megabytes_in_frames_of_any_size() {
    let world = World::of(&[1, 2]).await;
    world.ask(1, 2, "hello").await.unwrap();
    let peers = &world.node(1).peers;
    let mut stream = peers
        .open_stream(NodeId(2), Service::Replication, SOON)
        .await
        .unwrap();
    let block = Bytes::from(
        (0..1_u32 << 20)
            .map(|i| i.to_le_bytes()[0])
            .collect::<Vec<u8>>(),
    );
    let sizes = [0, 1, 4095, 65_536, 1 << 20, 3 << 20];
    let started = tokio::time::Instant::now();
    let (mut sent, mut turn) = (0_u64, 0);
    while sent < 100_000_000 {
        let mut left = sizes[turn % sizes.len()];
        let mut chunks = vec![];
        while left > 0 {
            let take = left.min(block.len());
            chunks.push(block.slice(..take));
            left -= take;
        }
        sent += chunks.iter().map(|c| c.len() as u64).sum::<u64>();
        stream.sink.send(chunks).await.unwrap();
        turn += 1;
    }
    drop(stream.sink);
    // The service echoes a count and a checksum when the stream ends cleanly.
    let told = stream.source.next().await.unwrap().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0} MB/s", sent as f64 / 1e6 / seconds);
    assert_eq!(told, format!("{turn} frames, {sent} bytes"));
    assert_eq!(stream.source.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_nobody_serves_is_refused() {
    let world = World::of(&[1, 2]).await;
    let peers = &world.node(1).peers;
    let mut stream =
        patient(async || peers.open_stream(NodeId(2), Service::Raft, SOON).await).await;
    let next = stream.source.next().await;
    assert!(matches!(next, Err(PeerError::Refused { .. })), "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_frames_and_requests_are_refused_before_they_are_sent() {
    let world = World::of(&[1, 2]).await;
    world.ask(1, 2, "hello").await.unwrap();
    let peers = &world.node(1).peers;
    let big = Bytes::from(vec![0; PEER_FRAME_BYTES_MAX + 1]);
    let request = peers
        .request(NodeId(2), Service::Broker, big.clone(), SOON)
        .await;
    assert!(matches!(request, Err(PeerError::Frame(_))), "{request:?}");
    let mut stream = peers
        .open_stream(NodeId(2), Service::Replication, SOON)
        .await
        .unwrap();
    let sent = stream.sink.send(vec![big]).await;
    assert!(matches!(sent, Err(PeerError::Frame(_))), "{sent:?}");
    // The stream is as good as before.
    stream.sink.send(vec![body("abc")]).await.unwrap();
    drop(stream.sink);
    let told = stream.source.next().await.unwrap().unwrap();
    assert_eq!(told, "1 frames, 3 bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_authority_gets_in_neither_way() {
    let (ours, theirs) = (Authority::new("c"), Authority::new("c"));
    let honest = Node::start(1, &ours).await;
    let stranger = Node::start(2, &theirs).await;
    honest.meet(&stranger);
    stranger.meet(&honest);
    for (from, to) in [(&honest, 2), (&stranger, 1)] {
        let asked = from.ask(to, "hello").await;
        assert!(
            matches!(asked, Err(PeerError::Unreachable { .. })),
            "{asked:?}"
        );
    }
    assert_eq!(honest.heard() + stranger.heard(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_under_the_same_authority_is_turned_away() {
    let authority = Authority::new("c");
    let honest = Node::start(1, &authority).await;
    let stranger = Node::start(2, &authority.for_cluster("d")).await;
    stranger.meet(&honest);
    let asked = stranger.ask(1, "hello").await;
    assert!(
        matches!(asked, Err(PeerError::Unreachable { .. })),
        "{asked:?}"
    );
    assert_eq!(honest.heard(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_under_another_id_is_not_talked_to() {
    let authority = Authority::new("c");
    let (one, three) = (
        Node::start(1, &authority).await,
        Node::start(3, &authority).await,
    );
    one.peers
        .set_address(NodeId(2), three.links.local_address());
    let asked = one.ask(2, "hello").await;
    assert!(
        matches!(asked, Err(PeerError::Unreachable { .. })),
        "{asked:?}"
    );
    assert_eq!(three.heard(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cannot_start_under_an_id_that_is_not_its_certificates() {
    let authority = Authority::new("c");
    let started = Node::try_start(1, authority.identity(2)).await;
    assert!(started.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_reach_the_service() {
    let world = World::of(&[1, 2]).await;
    world.ask(1, 2, "hello").await.unwrap();
    let mut heard = world.node(2).datagrams();
    // One may be lost even here: send until one arrives.
    let got = patient(async || {
        world
            .node(1)
            .peers
            .send_datagram(NodeId(2), Service::Gossip, body("ping"));
        let next = tokio::time::timeout(Duration::from_millis(100), heard.recv()).await;
        next.map_err(|_| ())
    })
    .await;
    assert_eq!(got.unwrap(), (NodeId(1), body("ping")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_dial_each_other_at_once_come_up_once_and_stay_up() {
    for _ in 0..10 {
        let authority = Authority::new("c");
        let (one, two) = (
            Node::start(1, &authority).await,
            Node::start(2, &authority).await,
        );
        let (mut at_one, mut at_two) = (one.links.link_events(), two.links.link_events());
        one.meet(&two);
        two.meet(&one);
        let (a, b) = tokio::join!(one.ask(2, "hello"), two.ask(1, "hello"));
        a.unwrap();
        b.unwrap();
        assert_eq!(at_one.recv().await.unwrap(), LinkEvent::Up(NodeId(2)));
        assert_eq!(at_two.recv().await.unwrap(), LinkEvent::Up(NodeId(1)));
        assert!(at_one.is_empty() && at_two.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_tells_its_peers() {
    let authority = Authority::new("c");
    let (one, two) = (
        Node::start(1, &authority).await,
        Node::start(2, &authority).await,
    );
    one.meet(&two);
    one.ask(2, "hello").await.unwrap();
    let mut events = one.links.link_events();
    two.links.shutdown().await;
    let LinkEvent::Down { node, detail, .. } = events.recv().await.unwrap() else {
        panic!("a link that stops went up");
    };
    assert_eq!(node, NodeId(2));
    assert!(detail.contains("stopping"), "{detail}");
}

#[test]
fn a_killed_peer_is_noticed_and_its_successor_found() {
    let here = runtime();
    let there = runtime();
    let authority = Authority::new("c");
    let one = here.block_on(Node::start(1, &authority));
    let two = there.block_on(Node::start(2, &authority));
    let address = two.links.local_address();
    one.meet(&two);
    here.block_on(one.ask(2, "hello")).unwrap();
    let waiting = {
        let peers = one.peers.clone();
        here.spawn(async move {
            peers
                .request(
                    NodeId(2),
                    Service::Broker,
                    body("never"),
                    Duration::from_secs(60),
                )
                .await
        })
    };
    let mut events = one.links.link_events();
    here.block_on(patient(async || one.watches(2)));

    // As `kill -9` does: nothing more is sent, the sockets are closed.
    let killed = tokio::time::Instant::now();
    there.shutdown_timeout(SOON);
    drop(two);

    let lost = here.block_on(waiting).unwrap();
    assert!(matches!(lost, Err(PeerError::Lost { .. })), "{lost:?}");
    let noticed = killed.elapsed();
    println!("noticed after {noticed:?}");
    // Long before the idle timeout of two seconds.
    assert!(noticed < Duration::from_secs(1), "{noticed:?}");
    let down = here.block_on(events.recv()).unwrap();
    assert!(
        matches!(
            down,
            LinkEvent::Down {
                node: NodeId(2),
                ..
            }
        ),
        "{down:?}"
    );

    let there = runtime();
    let two = there.block_on(Node::start_at(2, &authority, address));
    here.block_on(patient(async || one.ask(2, "hello").await));
    assert_eq!(two.heard(), 1);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
