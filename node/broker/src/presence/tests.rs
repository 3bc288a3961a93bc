use std::net::SocketAddr;
use std::sync::Mutex;

use super::*;
use weir_peer::{FrameStream, PeerClient, PeerError};

const NODE: NodeId = NodeId(2);

/// One peer that answers, fails or is silent.
struct OnePeer(Mutex<Result<Bytes, Option<PeerError>>>);

impl PeerClient for OnePeer {
    fn request(
        &self,
        _to: NodeId,
        _service: Service,
        _body: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async move {
            match answer {
                Ok(body) => Ok(body),
                Err(Some(error)) => Err(error),
                Err(None) => std::future::pending().await,
            }
        })
    }

    fn open_stream(
        &self,
        to: NodeId,
        _service: Service,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<FrameStream, PeerError>> {
        Box::pin(std::future::ready(Err(unreachable(to))))
    }

    fn send_datagram(&self, _to: NodeId, _service: Service, _body: Bytes) {}

    fn set_address(&self, _node: NodeId, _address: SocketAddr) {}
}

fn unreachable(node: NodeId) -> PeerError {
    PeerError::Unreachable {
        node,
        detail: "down".to_owned(),
    }
}

fn presence(answer: Result<Bytes, Option<PeerError>>) -> Arc<Presence> {
    let disk = weir_os::OsDisk::open(tempfile::tempdir().unwrap().path()).unwrap();
    let env = weir_os::os_env(Arc::new(disk));
    Presence::new(env, Arc::new(OnePeer(Mutex::new(answer))))
}

#[tokio::test]
async fn who_answers_is_there() {
    let presence = presence(Ok(Bytes::new()));
    Arc::clone(&presence).sign_of_life(vec![NODE]).await;
    assert!(!presence.is_gone(NODE));
}

#[tokio::test]
async fn news_of_an_end_are_waited_for_and_end_the_wait() {
    for answer in [Err(None), Err(Some(unreachable(NODE)))] {
        let presence = presence(answer);
        let before = presence.env.clock.now();
        let mut asking = std::pin::pin!(Arc::clone(&presence).sign_of_life(vec![NODE]));
        let first = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_pending())).await;
        assert!(first, "no news yet");
        presence.set_gone(NODE, true);
        asking.await;
        assert!(presence.is_gone(NODE));
        assert!(presence.env.clock.now() - before < SIGN_WAIT);
    }
}

#[tokio::test]
async fn silence_is_waited_for_no_longer_than_that_and_proves_nothing() {
    let presence = presence(Err(None));
    let before = presence.env.clock.now();
    Arc::clone(&presence)
        .sign_of_life(vec![NODE, NodeId(3)])
        .await;
    assert!(presence.env.clock.now() - before >= SIGN_WAIT);
    assert!(!presence.is_gone(NODE));
}
