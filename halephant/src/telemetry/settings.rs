//! `[logging]` and `[otel]`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingSettings {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryText {
    Off,
    Sanitized,
    Raw,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtelSettings {
    /// OTLP gRPC endpoint (a URL); `None` disables export.
    pub endpoint: Option<String>,
    pub service_name: String,
    pub query_text: QueryText,
}
