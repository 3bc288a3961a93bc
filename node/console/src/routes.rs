//! Every path of the admin API.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::{ConsoleOptions, ConsoleState};

pub(crate) fn router(state: Arc<ConsoleState>, options: &ConsoleOptions) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .layer(DefaultBodyLimit::max(options.body_bytes_max))
        .with_state(state)
}

async fn health(State(state): State<Arc<ConsoleState>>) -> Response {
    let health = state.health.health();
    let status = if health.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health)).into_response()
}
