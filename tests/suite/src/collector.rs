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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

#[derive(Clone, Debug, Default)]
struct Kept {
    received: Arc<Mutex<Received>>,
    /// Takes what it is sent and never answers.
    hangs: bool,
}

/// What has come so far.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub spans: Vec<Span>,
    /// The last of each name.
    pub metrics: BTreeMap<String, Metric>,
    /// Requests that get no answer.
    pub hanging: usize,
    /// Of the last request.
    pub resource: BTreeMap<String, String>,
}

impl Kept {
    async fn change(&self, change: impl FnOnce(&mut Received)) {
        if self.hangs {
            self.lock().hanging += 1;
            return std::future::pending().await;
        }
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
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
        })
        .await;
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
        })
        .await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    is_tls: bool,
    kept: Kept,
    // Serves until it is dropped.
    _runtime: Runtime,
}

impl Collector {
    pub fn start() -> Result<Self> {
        Self::serve(Kept::default(), None)
    }

    /// One that takes whatever it is sent, and never answers.
    pub fn hanging() -> Result<Self> {
        Self::serve(Kept { hangs: true, ..Kept::default() }, None)
    }

    /// One that speaks TLS with a certificate for `localhost`, in PEM as its key.
    pub fn with_tls(certificate: &str, key: &str) -> Result<Self> {
        Self::serve(Kept::default(), Some(Identity::from_pem(certificate, key)))
    }

    fn serve(kept: Kept, identity: Option<Identity>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("no free port")?;
        let address = listener.local_addr()?;
        let is_tls = identity.is_some();
        let mut server = tonic::transport::Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let server = server
            .add_service(MetricsServiceServer::new(kept.clone()))
            .add_service(TraceServiceServer::new(kept.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(server);
        Ok(Self { address, is_tls, kept, _runtime: runtime })
    }

    pub fn endpoint(&self) -> String {
        match self.is_tls {
            true => format!("https://localhost:{}", self.address.port()),
            false => format!("http://{}", self.address),
        }
    }

    pub fn received(&self) -> Received {
        self.kept.lock().clone()
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
