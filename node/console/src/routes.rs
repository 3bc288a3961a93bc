//! Every path of the admin API, and what all of them share.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::{
    ConsoleOptions, ConsoleState, books, cluster, groups, letters, measure, queue_groups,
    queue_moves, queues, stories, topics,
};

/// The state, as handlers take it.
pub(crate) type Shared = State<Arc<ConsoleState>>;
/// An answer or why there is none.
pub(crate) type Answer<T> = Result<Json<T>, Failure>;

pub(crate) fn router(state: Arc<ConsoleState>, options: &ConsoleOptions) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/cluster", get(cluster::show))
        .route("/v1/topics", get(topics::list).post(topics::create))
        .route(
            "/v1/topics/{topic}",
            get(topics::show)
                .patch(topics::alter)
                .delete(topics::delete),
        )
        .route("/v1/topics/{topic}/offsets", get(topics::offsets))
        .route("/v1/groups", get(groups::list))
        .route(
            "/v1/groups/{group}",
            get(groups::show).delete(groups::delete),
        )
        .route("/v1/groups/{group}/offsets", post(groups::reset))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues-watch", get(queues::watch))
        .route(
            "/v1/queues/{topic}/undeliverable",
            get(queues::undeliverable),
        )
        .route(
            "/v1/queues/{topic}/undeliverable/{partition}",
            post(queues::send_on),
        )
        .route(
            "/v1/queues/{topic}/groups/{group}",
            patch(queue_groups::alter).delete(queue_moves::delete),
        )
        .route(
            "/v1/queues/{topic}/groups/{group}/seek",
            post(queue_moves::seek),
        )
        .route("/v1/queues/{topic}/delayed", get(queues::delayed))
        .route(
            "/v1/queues/{topic}/delayed/{handle}",
            delete(queues::cancel),
        )
        .route("/v1/queues/{topic}/halves", get(queues::halves))
        .route("/v1/queues/{topic}/halves/{handle}", post(queues::decide))
        .route(
            "/v1/queues/{topic}/trace/{partition}/{offset}",
            get(queues::trace),
        )
        .route("/v1/queues/{topic}/find", get(stories::find))
        .route("/v1/queues/{topic}/kept", get(stories::kept))
        .route(
            "/v1/queues/{topic}/story/{partition}/{offset}",
            get(stories::story),
        )
        .route("/v1/queues/{topic}/books/{group}", get(books::show))
        .route(
            "/v1/queues/{topic}/records/{partition}/{offset}",
            get(queues::records),
        )
        .route("/v1/queues/{topic}/purge", post(letters::purge))
        .route("/v1/dlq/{topic}", get(letters::show))
        .route(
            "/v1/dlq/{topic}/letters/{partition}/{offset}",
            get(letters::letters),
        )
        .route("/v1/dlq/{topic}/replays", post(letters::begin))
        .route(
            "/v1/dlq/{topic}/replays/{partition}/{replay}/{change}",
            post(letters::change),
        )
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(options.body_bytes_max))
        .with_state(state)
}

async fn health(State(state): Shared) -> Response {
    let health = state.health.health();
    let status = if health.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health)).into_response()
}

async fn metrics(State(state): Shared) -> Response {
    let text = measure::scrape(&state);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn no_such_path(uri: Uri) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        format!("there is no {}", uri.path()),
        "see node/console/README.md for what there is",
    )
}

async fn no_such_method(method: Method, uri: Uri) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no_such_method",
        format!("{} does not take {method}", uri.path()),
        "see node/console/README.md for what it takes",
    )
}

/// A JSON body, whatever its content type says: `curl -d` should just work.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes: Result<Bytes, BytesRejection> = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| {
            let mut failure = Failure::bad_request(rejection.body_text());
            failure.status = rejection.status();
            failure
        })?;
        serde_json::from_slice(&bytes)
            .map(Body)
            .map_err(|error| Failure::bad_request(format!("the body is not right: {error}")))
    }
}
