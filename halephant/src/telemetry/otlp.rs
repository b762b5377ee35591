//! Export to an OTLP collector over gRPC, on a thread of its own: whatever the collector does, clients do not notice.
//!
//! Metrics are read every [`METRICS_INTERVAL`] and sent; spans wait in a bounded queue and are dropped when it is full.

mod encode;

use super::instrument::Family;
use super::settings::OtelSettings;
use super::trace::Tracer;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// How often metrics are sent.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// How often spans are sent, unless a batch is full earlier.
const SPANS_INTERVAL: Duration = Duration::from_secs(1);
/// Longest that one request may take; what it carried is dropped then.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Spans that wait to be sent; more are dropped.
const SPANS_MAX: usize = 8192;
const BATCH_SPANS_MAX: usize = 512;
/// Longest that the end of the process waits for the last batch.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two log lines about a collector that does not answer.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("otel.endpoint: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    #[error("otel.endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the exporter could not be started: {0}")]
    Thread(#[source] io::Error),
}

/// What metrics are read from, once there is something to read.
pub type Instruments = Box<dyn Fn() -> Vec<Family> + Send>;

/// A running exporter.
pub struct Otlp {
    provider: SdkTracerProvider,
    tracer: Tracer,
    instruments: Option<oneshot::Sender<Instruments>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Otlp {
    /// `None`: the configuration names no collector.
    pub fn start(settings: &OtelSettings) -> Result<Option<Self>, OtlpError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", settings.service_name.clone()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("process.pid", i64::from(std::process::id())),
            ])
            .build();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OtlpError::Thread)?;
        // Channels belong to the runtime they are made in.
        let entered = runtime.enter();
        let channel = connect(endpoint)?;
        let spans = SpanExporter::builder().with_tonic().with_channel(channel.clone()).build()?;
        drop(entered);
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(SPANS_INTERVAL)
            .build();
        let processor = BatchSpanProcessor::builder(spans).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_span_processor(processor)
            .build();
        let tracer = Tracer::new(provider.tracer("halephant"), settings.query_text);
        let (instruments, instruments_given) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let metrics = Metrics { channel, resource, began: SystemTime::now(), complained: None };
        let run = move || {
            runtime.block_on(metrics.run(instruments_given, stopped));
            // A request that still hangs is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("otlp".into()).spawn(run).map_err(OtlpError::Thread)?;
        Ok(Some(Self {
            provider,
            tracer,
            instruments: Some(instruments),
            stop: Some(stop),
            thread: Some(thread),
        }))
    }

    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Metrics are sent from now on; the first call counts.
    pub fn observe(&mut self, instruments: Instruments) {
        if let Some(sender) = self.instruments.take() {
            // The thread ends only when it is told to.
            let _ = sender.send(instruments);
        }
    }

    /// Sends what is left and ends, within a bound.
    pub fn stop(mut self) {
        let (done, ended) = mpsc::channel();
        // Spans are sent by the runtime of the thread, so that it must end after them.
        let _ = self.provider.shutdown_with_timeout(LAST_EXPORT_TIMEOUT);
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        std::thread::spawn(move || {
            let _ = thread.join();
            let _ = done.send(());
        });
        let _ = ended.recv_timeout(LAST_EXPORT_TIMEOUT + EXPORT_TIMEOUT);
    }
}

/// A channel that connects when something is sent. For https, the collector's certificate has to come from an authority
/// that this system trusts.
fn connect(endpoint: &str) -> Result<Channel, tonic::transport::Error> {
    let mut builder = Endpoint::from_shared(endpoint.to_owned())?;
    if builder.uri().scheme() == Some(&http::uri::Scheme::HTTPS) {
        builder = builder.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(builder.connect_timeout(EXPORT_TIMEOUT).timeout(EXPORT_TIMEOUT).connect_lazy())
}

/// The metrics' half: reads and sends by the clock.
struct Metrics {
    channel: Channel,
    resource: Resource,
    began: SystemTime,
    complained: Option<SystemTime>,
}

impl Metrics {
    async fn run(mut self, instruments: oneshot::Receiver<Instruments>, mut stopped: oneshot::Receiver<()>) {
        let instruments = tokio::select! {
            Ok(instruments) = instruments => instruments,
            _ = &mut stopped => return,
        };
        let mut clock = tokio::time::interval(METRICS_INTERVAL);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = clock.tick() => false,
                _ = &mut stopped => true,
            };
            let request = encode::request(&instruments(), &self.resource, self.began, SystemTime::now());
            if last {
                let _ = tokio::time::timeout(LAST_EXPORT_TIMEOUT, self.send(request)).await;
                return;
            }
            tokio::select! {
                () = self.send(request) => {}
                _ = &mut stopped => return,
            }
        }
    }

    async fn send(&mut self, request: ExportMetricsServiceRequest) {
        let mut client = MetricsServiceClient::new(self.channel.clone());
        let result = tokio::time::timeout(EXPORT_TIMEOUT, client.export(request)).await;
        let error = match result {
            Ok(Ok(_)) => return,
            Ok(Err(status)) => status.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        let now = SystemTime::now();
        let quiet = |since: SystemTime| now.duration_since(since).unwrap_or_default() < COMPLAINT_INTERVAL;
        if !self.complained.is_some_and(quiet) {
            self.complained = Some(now);
            tracing::warn!(error, "the collector at otel.endpoint does not take metrics");
        }
    }
}
