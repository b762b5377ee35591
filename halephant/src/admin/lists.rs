//! The lists under `/admin/`, and the instruments.

use super::server::View;
use crate::overview::rows::{
    ClientRow, ClusterRow, KernelPathRow, NodeRow, PoolRow, PreparedRow, QueueRow, ServerRow,
};
use crate::overview::{self, instruments};
use crate::telemetry::prometheus;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// Clusters, and whether each can be written to
#[utoipa::path(get, path = "/admin/clusters", tag = "admin", responses((status = 200, body = Vec<ClusterRow>)))]
pub(super) async fn clusters(State(view): State<View>) -> Json<Vec<ClusterRow>> {
    Json(overview::clusters(&*view.0))
}

/// PostgreSQL servers with their roles and connections
#[utoipa::path(get, path = "/admin/nodes", tag = "admin", responses((status = 200, body = Vec<NodeRow>)))]
pub(super) async fn nodes(State(view): State<View>) -> Json<Vec<NodeRow>> {
    Json(overview::nodes(&*view.0))
}

/// Pools by user: clients and server connections by state
#[utoipa::path(get, path = "/admin/pools", tag = "admin", responses((status = 200, body = Vec<PoolRow>)))]
pub(super) async fn pools(State(view): State<View>) -> Json<Vec<PoolRow>> {
    Json(overview::pools(&*view.0))
}

/// Every open server connection
#[utoipa::path(get, path = "/admin/servers", tag = "admin", responses((status = 200, body = Vec<ServerRow>)))]
pub(super) async fn servers(State(view): State<View>) -> Json<Vec<ServerRow>> {
    Json(overview::servers(&*view.0))
}

/// Every client: what it does, what it waits for, why it is pinned
#[utoipa::path(get, path = "/admin/clients", tag = "admin", responses((status = 200, body = Vec<ClientRow>)))]
pub(super) async fn clients(State(view): State<View>) -> Json<Vec<ClientRow>> {
    Json(overview::clients(&*view.0))
}

/// Queues that are not empty, with their depth and oldest wait
#[utoipa::path(get, path = "/admin/queues", tag = "admin", responses((status = 200, body = Vec<QueueRow>)))]
pub(super) async fn queues(State(view): State<View>) -> Json<Vec<QueueRow>> {
    Json(overview::queues(&*view.0))
}

/// The prepared statements of all clients in transaction mode, without their literals
#[utoipa::path(get, path = "/admin/prepared", tag = "admin", responses((status = 200, body = PreparedRow)))]
pub(super) async fn prepared(State(view): State<View>) -> Json<PreparedRow> {
    Json(overview::prepared(&*view.0))
}

/// The kernel path: whether it is on, and what it moved for which node
#[utoipa::path(get, path = "/admin/splice", tag = "admin", responses((status = 200, body = KernelPathRow)))]
pub(super) async fn splice(State(view): State<View>) -> Json<KernelPathRow> {
    Json(overview::kernel_path(&*view.0))
}

/// The effective configuration, every default filled in
#[utoipa::path(
    get,
    path = "/admin/config",
    tag = "admin",
    responses((status = 200, description = "With the keys of the configuration file", body = Object))
)]
pub(super) async fn config(State(view): State<View>) -> Json<serde_json::Value> {
    Json(view.0.config())
}

/// Every instrument in Prometheus's text format
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "metrics",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(view): State<View>) -> impl IntoResponse {
    ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::encode(&instruments::families(&*view.0)))
}
