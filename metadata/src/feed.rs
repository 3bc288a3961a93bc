//! How nodes that are no voters get the committed log: pushed by a voter, as it is
//! applied there.
//!
//! The observer opens a stream to a voter and says how far it is; the voter sends the
//! entries after that, or the whole image if it does not have them all any more, and
//! then each entry the moment it is applied. The observer applies them itself, so its
//! image is a prefix of the same log (I15). A voter that lost touch with the group
//! ends the stream, and the observer tries the next. Nothing is kept on disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_base::{ClusterImage, Env, NodeId};
use weir_peer::{FrameStream, PeerError, Peers, Service};

use crate::ask::{FeedFrame, Hello, News};
use crate::command::Proposal;
use crate::image_store::ImageStore;
use crate::options::MetadataOptions;
use crate::raft::Group;

fn bad(detail: impl std::fmt::Display) -> PeerError {
    PeerError::Frame(format!("metadata feed: {detail}"))
}

/// The voter's side: feeds one observer until it leaves or the voter is out of touch.
pub(crate) async fn serve(
    env: Env,
    group: Arc<Group>,
    store: Arc<ImageStore>,
    options: MetadataOptions,
    mut stream: FrameStream,
) {
    if let Err(error) = feed(&env, &group, &store, &options, &mut stream).await {
        tracing::debug!(%error, "an observer left");
    }
}

async fn feed(
    env: &Env,
    group: &Group,
    store: &ImageStore,
    options: &MetadataOptions,
    stream: &mut FrameStream,
) -> Result<(), PeerError> {
    let first = env.timeout(options.request_deadline, stream.source.next());
    let Some(Some(hello)) = first.await.transpose()? else {
        return Ok(());
    };
    let hello: Hello = postcard::from_bytes(&hello).map_err(bad)?;
    let mut sent = hello.version;
    let mut images = store.images();
    let mut greeted = false;
    loop {
        if !group.is_in_touch() {
            return Ok(());
        }
        images.borrow_and_update();
        let news = match store.feed_after(sent) {
            // The first frame always says whom to ask.
            Some(entries) if entries.is_empty() => (!greeted).then_some(News::Alive),
            Some(entries) => {
                sent = entries.last().map_or(sent, |(index, _)| *index);
                Some(News::Entries(entries))
            }
            None => {
                let image = store.image();
                sent = image.version;
                let bytes = postcard::to_stdvec(&*image).map_err(bad)?;
                Some(News::Image(bytes.into()))
            }
        };
        let is_news = news.is_some();
        if let Some(news) = news {
            send(group, stream, news).await?;
            greeted = true;
        }
        if is_news {
            continue;
        }
        tokio::select! {
            biased;
            changed = images.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = env.sleep(options.heartbeat) => send(group, stream, News::Alive).await?,
        }
    }
}

async fn send(group: &Group, stream: &mut FrameStream, news: News) -> Result<(), PeerError> {
    let frame = FeedFrame {
        controller: group.standing().borrow().leader,
        news,
    };
    let bytes = postcard::to_stdvec(&frame).map_err(bad)?;
    stream.sink.send(vec![bytes.into()]).await
}

/// The observer's side: follows one voter after the other, for ever.
pub(crate) async fn follow(
    env: Env,
    peers: Peers,
    me: NodeId,
    voters: Vec<NodeId>,
    store: Arc<ImageStore>,
    options: MetadataOptions,
    controller: watch::Sender<Option<NodeId>>,
) {
    // Spread over the voters by id.
    let start = usize::try_from(me.0).unwrap_or(0);
    for voter in voters.iter().cycle().skip(start % voters.len().max(1)) {
        let link = peers.open_stream(*voter, Service::Controller, options.request_deadline);
        let ended = match link.await {
            Ok(stream) => listen(&env, &store, &options, stream, &controller).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%voter, %error, "no metadata from this voter");
        }
        env.sleep(options.raft_heartbeat.min(Duration::from_millis(50)))
            .await;
    }
}

async fn listen(
    env: &Env,
    store: &ImageStore,
    options: &MetadataOptions,
    mut stream: FrameStream,
    controller: &watch::Sender<Option<NodeId>>,
) -> Result<(), PeerError> {
    let hello = Hello {
        version: store.image().version,
    };
    let bytes = postcard::to_stdvec(&hello).map_err(bad)?;
    stream.sink.send(vec![bytes.into()]).await?;
    loop {
        let frame = env.timeout(options.session, stream.source.next()).await;
        let Some(Some(frame)) = frame.transpose()? else {
            return Ok(());
        };
        let frame: FeedFrame = postcard::from_bytes(&frame).map_err(bad)?;
        take(store, frame.news)?;
        controller.send_if_modified(|known| {
            std::mem::replace(known, frame.controller) != frame.controller
        });
    }
}

fn take(store: &ImageStore, news: News) -> Result<(), PeerError> {
    match news {
        News::Alive => Ok(()),
        News::Image(bytes) => {
            let image: ClusterImage = postcard::from_bytes(&bytes).map_err(bad)?;
            store.install(image);
            Ok(())
        }
        News::Entries(entries) => {
            let mut proposals: Vec<(u64, Proposal)> = Vec::with_capacity(entries.len());
            let mut next = store.image().version + 1;
            for (index, bytes) in &entries {
                if *index < next {
                    continue;
                }
                if *index > next {
                    return Err(bad(format!("I15: entry {index} where {next} was due")));
                }
                next += 1;
                proposals.push((*index, postcard::from_bytes(bytes).map_err(bad)?));
            }
            store.apply_all(proposals.iter().map(|(index, p)| (*index, p)));
            Ok(())
        }
    }
}
