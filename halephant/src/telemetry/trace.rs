//! Spans: begun by name, given attributes, ended by being dropped. Where nothing is exported they are empty, and every
//! call on them is one comparison.

pub mod attribute;
mod parent;

pub use parent::{PARENT_BYTES_MAX, parent_of};

use super::settings::QueryText;
use opentelemetry::trace::{Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};
use std::sync::Arc;

/// Makes spans; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    tracer: SdkTracer,
    query_text: QueryText,
}

impl Tracer {
    pub(super) fn new(tracer: SdkTracer, query_text: QueryText) -> Self {
        Self(Some(Arc::new(Inner { tracer, query_text })))
    }

    /// Whether anybody gets to see a span.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How much of a query spans may say.
    pub fn query_text(&self) -> QueryText {
        self.0.as_ref().map_or(QueryText::Off, |inner| inner.query_text)
    }

    /// A span without a parent; `link` is what it has to do with.
    pub fn root(&self, name: &'static str, link: Option<&SpanContext>) -> Span {
        self.start(name, None, link)
    }

    pub fn child(&self, name: &'static str, parent: Option<&SpanContext>) -> Span {
        self.start(name, parent, None)
    }

    /// As [`Self::child`] of somebody else's span, linked to one of ours.
    pub fn continued(&self, name: &'static str, parent: &SpanContext, link: Option<&SpanContext>) -> Span {
        self.start(name, Some(parent), link)
    }

    fn start(&self, name: &'static str, parent: Option<&SpanContext>, link: Option<&SpanContext>) -> Span {
        let Some(inner) = &self.0 else { return Span(None) };
        let kind = match name {
            "proxy.statement" | "pool.connect" => SpanKind::Client,
            "proxy.session" | "proxy.transaction" => SpanKind::Server,
            _ => SpanKind::Internal,
        };
        let mut builder = inner.tracer.span_builder(name).with_kind(kind);
        if let Some(link) = link {
            builder = builder.with_links(vec![Link::with_context(link.clone())]);
        }
        let parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.clone()),
            None => Context::new(),
        };
        Span(Some(Box::new(inner.tracer.build_with_context(builder, &parent))))
    }
}

/// One span, or nothing. Ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<SdkSpan>>);

impl Span {
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// The span's work failed; `kind` is of few different values.
    pub fn fail(&mut self, kind: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, kind));
            span.set_status(Status::error(""));
        }
    }

    /// What a child of the span is begun with.
    pub fn reference(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|span| span.span_context().clone())
    }
}
