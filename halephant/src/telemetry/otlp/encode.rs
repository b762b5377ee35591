//! Instruments as OTLP's messages.

use crate::telemetry::instrument::{Attributes, Family, Kind, Point, Value};
use crate::telemetry::metrics::Distribution;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_sdk::Resource;
use std::time::SystemTime;

/// Everything in one request; sums and histograms count from `began`.
pub(super) fn request(
    families: &[Family],
    resource: &Resource,
    began: SystemTime,
    now: SystemTime,
) -> ExportMetricsServiceRequest {
    let times = Times { began: nanoseconds(began), now: nanoseconds(now) };
    let attribute = |(key, value): (&opentelemetry::Key, &opentelemetry::Value)| KeyValue {
        key: key.to_string(),
        value: Some(AnyValue {
            value: Some(match value {
                opentelemetry::Value::I64(number) => any_value::Value::IntValue(*number),
                other => any_value::Value::StringValue(other.to_string()),
            }),
        }),
        ..Default::default()
    };
    let scope = InstrumentationScope {
        name: "halephant".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let metrics = families.iter().filter(|family| !family.points.is_empty());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(ProtoResource {
                attributes: resource.iter().map(attribute).collect(),
                ..Default::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics: metrics.map(|family| metric(family, times)).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

#[derive(Clone, Copy)]
struct Times {
    began: u64,
    now: u64,
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn metric(family: &Family, times: Times) -> Metric {
    let instrument = &family.instrument;
    let numbers = || family.points.iter().filter_map(|point| number(point, times)).collect();
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    let sum = |is_monotonic| Sum { data_points: numbers(), aggregation_temporality, is_monotonic };
    let data = match instrument.kind {
        Kind::Counter => metric::Data::Sum(sum(true)),
        Kind::UpDownCounter => metric::Data::Sum(sum(false)),
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: family.points.iter().filter_map(|point| histogram(point, times)).collect(),
            aggregation_temporality,
        }),
    };
    Metric {
        name: instrument.name.into(),
        description: instrument.description.into(),
        unit: instrument.unit.into(),
        data: Some(data),
        ..Default::default()
    }
}

fn attributes(attributes: &Attributes) -> Vec<KeyValue> {
    let attribute = |(key, value): &(&str, String)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue {
            value: Some(match (*key, value.parse()) {
                // The one attribute that the conventions want as a number.
                ("server.port", Ok(port)) => any_value::Value::IntValue(port),
                _ => any_value::Value::StringValue(value.clone()),
            }),
        }),
        ..Default::default()
    };
    attributes.iter().map(attribute).collect()
}

fn number(point: &Point, times: Times) -> Option<NumberDataPoint> {
    let value = match point.value {
        Value::Count(count) => number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
        Value::Number(number) => number_data_point::Value::AsDouble(number),
        Value::Distribution(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(&point.attributes),
        start_time_unix_nano: times.began,
        time_unix_nano: times.now,
        value: Some(value),
        ..Default::default()
    })
}

fn histogram(point: &Point, times: Times) -> Option<HistogramDataPoint> {
    let Value::Distribution(distribution) = &point.value else { return None };
    let (explicit_bounds, bucket_counts) = buckets(distribution);
    Some(HistogramDataPoint {
        attributes: attributes(&point.attributes),
        start_time_unix_nano: times.began,
        time_unix_nano: times.now,
        count: distribution.count(),
        sum: Some(distribution.sum().as_secs_f64()),
        bucket_counts,
        explicit_bounds,
        ..Default::default()
    })
}

/// Bounds, and the counts between them with one more for what is beyond the last.
fn buckets(distribution: &Distribution) -> (Vec<f64>, Vec<u64>) {
    let cumulative = distribution.cumulative();
    let mut below = 0;
    let mut counts: Vec<u64> =
        cumulative.iter().map(|&(_, count)| count - std::mem::replace(&mut below, count)).collect();
    counts.push(distribution.count() - below);
    (cumulative.into_iter().map(|(bound, _)| bound).collect(), counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn buckets_add_up() {
        let histogram = crate::telemetry::metrics::Histogram::default();
        for us in [0, 31, 32, 1000, 1_000_000, 200_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let (bounds, counts) = buckets(&histogram.distribution());
        assert_eq!(counts.len(), bounds.len() + 1);
        assert_eq!((counts[0], counts[1], counts.last()), (2, 1, Some(&1)));
        assert_eq!(counts.iter().sum::<u64>(), 6);
    }
}
