//! The leader's end of a stream that a follower opened: hands its messages to the
//! partitions, and writes what their outlet holds.

use std::sync::Arc;

use weir_base::NodeId;
use weir_peer::{FrameSink, FrameSource, FrameStream};

use super::outlet::{LOOK_BACK_EVERY, Limits, Next, Outlet};
use super::{ToLeader, decode_to_leader};
use crate::catch_up;
use crate::core::effect::Answer;
use crate::node::Node;

/// Serves the stream until it ends.
pub(crate) async fn serve(node: Arc<Node>, from: NodeId, stream: FrameStream) {
    let FrameStream {
        mut sink,
        mut source,
    } = stream;
    let options = &node.options;
    let limits = Limits {
        window: options.window_bytes,
        frame: options.frame_bytes_max,
    };
    let outlet = Arc::new(Outlet::new(limits, node.catch_up_window(from)));
    tokio::select! {
        biased;
        () = node.closed() => {}
        () = listen(&node, from, &outlet, source.as_mut()) => {}
        () = speak(&node, &outlet, sink.as_mut()) => {}
    }
    outlet.close();
}

async fn listen(node: &Node, from: NodeId, outlet: &Arc<Outlet>, source: &mut dyn FrameSource) {
    while let Ok(Some(frame)) = source.next().await {
        let Ok(messages) = decode_to_leader(&frame) else {
            tracing::warn!(follower = %from, "replication frame does not decode");
            return;
        };
        for message in messages {
            match message {
                ToLeader::Open(at, open) => match node.inbox(at) {
                    Some(inbox) => inbox.open(from, open, Arc::clone(outlet)),
                    None => outlet.answer(at, open.leader_epoch, open.session, Answer::Refused),
                },
                ToLeader::Progress(at, progress) => {
                    outlet.on_progress(at, &progress, node.env.clock.now());
                    if let Some(inbox) = node.inbox(at) {
                        inbox.progress(from, progress);
                    }
                }
            }
        }
    }
}

async fn speak(node: &Node, outlet: &Arc<Outlet>, sink: &mut dyn FrameSink) {
    let clock = &node.env.clock;
    let mut look_back = clock.sleep_until(clock.now() + LOOK_BACK_EVERY);
    loop {
        match outlet.next() {
            Next::Frame(chunks) => {
                if sink.send(chunks).await.is_err() {
                    return;
                }
            }
            Next::Read(behind) => {
                catch_up::start(&node.env, &node.catch_up_budget, Arc::clone(outlet), behind)
            }
            Next::Nothing => tokio::select! {
                biased;
                () = outlet.wake.notified() => {}
                () = &mut look_back, if outlet.is_catching_up() => {
                    outlet.look_back(clock.now());
                    look_back = clock.sleep_until(clock.now() + LOOK_BACK_EVERY);
                }
            },
        }
    }
}
