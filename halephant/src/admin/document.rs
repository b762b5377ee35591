//! The API's description of itself.

use super::server::View;
use super::{health, lists};
use axum::Json;
use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "halephant", description = "What the pooler does at this moment. Nothing can be changed here."),
    tags(
        (name = "health", description = "For load balancers and supervisors"),
        (name = "admin", description = "Copies of what the pooler knows"),
        (name = "metrics", description = "For Prometheus"),
    )
)]
struct Document;

/// Every documented route, and the document that lists them.
pub(super) fn router() -> Router<View> {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(lists::clusters))
        .routes(routes!(lists::nodes))
        .routes(routes!(lists::pools))
        .routes(routes!(lists::servers))
        .routes(routes!(lists::clients))
        .routes(routes!(lists::queues))
        .routes(routes!(lists::prepared))
        .routes(routes!(lists::splice))
        .routes(routes!(lists::config))
        .routes(routes!(lists::metrics))
        .split_for_parts();
    router.route("/openapi.json", get(async move || Json(document.clone())))
}
