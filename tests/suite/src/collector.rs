//! An OTLP collector that keeps what it is sent: gRPC, on a free port of the loopback address.

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Received>>);

/// What has come so far.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub spans: Vec<Span>,
    /// The last of each name.
    pub metrics: BTreeMap<String, Metric>,
    /// Of the last request.
    pub resource: BTreeMap<String, String>,
}

impl Kept {
    fn change(&self, change: impl FnOnce(&mut Received)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.change(|received| {
            for of_resource in request.into_inner().resource_metrics {
                received.resource = attributes(&of_resource.resource.unwrap_or_default().attributes);
                let metrics = of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
                received.metrics.extend(metrics.map(|metric| (metric.name.clone(), metric)));
            }
        });
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.change(|received| {
            for of_resource in request.into_inner().resource_spans {
                received.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        });
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    kept: Kept,
    // Serves until it is dropped.
    _runtime: Runtime,
}

impl Collector {
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("no free port")?;
        let address = listener.local_addr()?;
        let kept = Kept::default();
        let server = tonic::transport::Server::builder()
            .add_service(MetricsServiceServer::new(kept.clone()))
            .add_service(TraceServiceServer::new(kept.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(server);
        Ok(Self { address, kept, _runtime: runtime })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> Received {
        self.kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Received {
    pub fn spans_named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The attributes of every point of a metric.
    pub fn points(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let Some(data) = self.metrics.get(name).and_then(|metric| metric.data.as_ref()) else {
            return vec![];
        };
        match data {
            metric::Data::Gauge(gauge) => {
                gauge.data_points.iter().map(|point| attributes(&point.attributes)).collect()
            }
            metric::Data::Sum(sum) => {
                sum.data_points.iter().map(|point| attributes(&point.attributes)).collect()
            }
            metric::Data::Histogram(histogram) => {
                histogram.data_points.iter().map(|point| attributes(&point.attributes)).collect()
            }
            _ => vec![],
        }
    }
}

pub fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}
