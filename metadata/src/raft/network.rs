//! Raft between nodes: one request a call over the peer link, each with a deadline.
//!
//! Every message carries the sender's data directory. A node that lost its disk has
//! forgotten its votes; under its old id it could elect itself out of nothing, and
//! openraft cannot see that. Whoever knows the id by another directory refuses it.

use std::future::Future;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    Fatal, InstallSnapshotError, NetworkError, RPCError, RaftError, ReplicationClosed,
    StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot, SnapshotMeta, Vote};
use serde::{Deserialize, Serialize};
use weir_base::{NodeId, Uuid};
use weir_peer::{PeerError, Peers, Service};

use super::{Node, TypeConfig};
use crate::image_store::ImageStore;

/// What goes over `Service::Raft`. Append-only.
#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    Snapshot {
        vote: Vote<u64>,
        meta: SnapshotMeta<u64, Node>,
        image: Bytes,
    },
    /// Whether the asked node has ever been part of a group.
    IsInitialized,
}

/// The answers, in the same order.
#[derive(Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(SnapshotResponse<u64>),
    IsInitialized(bool),
}

/// A message and whose it is.
#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope<T> {
    pub(crate) storage: Uuid,
    /// The data directory by which the receiver is known, if it is.
    pub(crate) to: Option<Uuid>,
    pub(crate) body: T,
}

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) peers: Peers,
    pub(crate) storage: Uuid,
    pub(crate) store: Arc<ImageStore>,
}

impl Links {
    /// The data directory by which `node` is known.
    pub(crate) fn known(&self, node: NodeId) -> Option<Uuid> {
        self.store.image().nodes.get(&node).map(|n| n.storage)
    }

    /// Whether `node` is known by another data directory than `storage`.
    pub(crate) fn is_impostor(&self, node: NodeId, storage: Uuid) -> bool {
        self.known(node).is_some_and(|known| known != storage) && !weir_base::mutant!(M25)
    }

    pub(crate) async fn call(
        &self,
        to: NodeId,
        body: Request,
        deadline: Duration,
    ) -> Result<Response, PeerError> {
        let bad = |detail: String| PeerError::Frame(format!("raft: {detail}"));
        let envelope = Envelope {
            storage: self.storage,
            to: self.known(to),
            body,
        };
        let bytes = postcard::to_stdvec(&envelope).map_err(|e| bad(e.to_string()))?;
        let answer = self
            .peers
            .request(to, Service::Raft, bytes.into(), deadline)
            .await?;
        let answer: Envelope<Response> =
            postcard::from_bytes(&answer).map_err(|e| bad(e.to_string()))?;
        if self.is_impostor(to, answer.storage) {
            return Err(bad(format!(
                "node {to} answers from another data directory"
            )));
        }
        Ok(answer.body)
    }
}

/// Makes connections.
pub(crate) struct Network(pub(crate) Links);

/// The way to one voter.
pub(crate) struct Connection {
    links: Links,
    to: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &Node) -> Connection {
        Connection {
            links: self.0.clone(),
            to: super::node_id(target),
        }
    }
}

fn rpc_error<E: std::error::Error>(error: &PeerError) -> RPCError<u64, Node, E> {
    match error {
        PeerError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(error)),
        PeerError::Lost { .. } | PeerError::Refused { .. } | PeerError::Frame(_) => {
            RPCError::Network(NetworkError::new(error))
        }
    }
}

fn unexpected<E: std::error::Error>() -> RPCError<u64, Node, E> {
    rpc_error(&PeerError::Frame("raft: answer to another question".into()))
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Node, RaftError<u64>>> {
        match self
            .links
            .call(self.to, Request::Append(rpc), option.hard_ttl())
            .await
        {
            Ok(Response::Append(response)) => Ok(response),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(rpc_error(&error)),
        }
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<u64>,
        RPCError<u64, Node, RaftError<u64, InstallSnapshotError>>,
    > {
        // Snapshots go whole, by `full_snapshot`; openraft never calls this.
        Err(unexpected())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Node, RaftError<u64>>> {
        match self
            .links
            .call(self.to, Request::Vote(rpc), option.hard_ttl())
            .await
        {
            Ok(Response::Vote(response)) => Ok(response),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(rpc_error(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let request = Request::Snapshot {
            vote,
            meta: snapshot.meta,
            image: Bytes::from(Cursor::into_inner(*snapshot.snapshot)),
        };
        let call = self.links.call(self.to, request, option.hard_ttl());
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = call => answer,
        };
        match answer {
            Ok(Response::Snapshot(response)) => Ok(response),
            Ok(_) => Err(StreamingError::Network(NetworkError::new(
                &PeerError::Frame("raft: answer to another question".into()),
            ))),
            Err(error @ PeerError::Unreachable { .. }) => {
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
            Err(error) => Err(StreamingError::Network(NetworkError::new(&error))),
        }
    }

    fn backoff(&self) -> Backoff {
        // A voter that comes back is needed at once.
        Backoff::new(std::iter::repeat(Duration::from_millis(100)))
    }
}
