//! Whether the process is alive, and whether it can serve.

use super::server::View;
use crate::overview;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always `ok`: who answers is alive.
    status: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Every cluster has a primary that takes writes.
    ready: bool,
    clusters: Vec<ClusterReadiness>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ClusterReadiness {
    cluster: String,
    ready: bool,
    /// Why it is not.
    reason: Option<String>,
}

/// Whether the process is alive
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Alive)))]
pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether every cluster has a primary that takes writes
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "Every cluster can be written to", body = Readiness),
        (status = 503, description = "Some cluster cannot; the body says which", body = Readiness),
    )
)]
pub(super) async fn readyz(State(view): State<View>) -> (StatusCode, Json<Readiness>) {
    let clusters: Vec<_> = overview::clusters(&*view.0)
        .into_iter()
        .map(|row| ClusterReadiness {
            reason: (!row.ready)
                .then(|| format!("no primary ({} replicas, {} unreachable)", row.replicas, row.unreachable)),
            cluster: row.cluster,
            ready: row.ready,
        })
        .collect();
    let ready = clusters.iter().all(|cluster| cluster.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, clusters }))
}
