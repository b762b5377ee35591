//! The pages for people: they need nothing but what this API serves.

use super::server::View;
use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderName, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::response::Html;
use axum::routing::get;

const STATUS: &str = include_str!("pages/status.html");
const DOCS: &str = include_str!("pages/docs.html");

/// A page loads nothing from elsewhere, and nobody frames it.
const HEADERS: [(HeaderName, &str); 3] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];

pub(super) fn router() -> Router<View> {
    Router::new()
        .route("/", get(async || (HEADERS, Html(STATUS))))
        .route("/docs", get(async || (HEADERS, Html(DOCS))))
}
