//! Instruments in Prometheus's text format, named as OpenTelemetry's compatibility rules say.

use super::instrument::{Family, Instrument, Kind, Point, Value};
use std::fmt::Write;

/// The content type of [`encode`]'s output.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn encode(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        let name = name(&family.instrument);
        let kind = match family.instrument.kind {
            Kind::Counter => "counter",
            Kind::UpDownCounter | Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        line(&mut text, format_args!("# HELP {name} {}", escape(family.instrument.description, false)));
        line(&mut text, format_args!("# TYPE {name} {kind}"));
        for point in &family.points {
            encode_point(&name, point, &mut text);
        }
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{arguments}");
}

fn encode_point(name: &str, point: &Point, text: &mut String) {
    let labels = |extra: Option<(&str, &str)>| {
        let own = point.attributes.iter().map(|(key, value)| (*key, value.as_str()));
        let pairs: Vec<_> = own
            .chain(extra)
            .map(|(key, value)| format!("{}=\"{}\"", key.replace('.', "_"), escape(value, true)))
            .collect();
        if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
    };
    match &point.value {
        Value::Count(count) => line(text, format_args!("{name}{} {count}", labels(None))),
        Value::Number(number) => line(text, format_args!("{name}{} {number}", labels(None))),
        Value::Distribution(distribution) => {
            for (bound, below) in distribution.cumulative() {
                let labels = labels(Some(("le", &bound.to_string())));
                line(text, format_args!("{name}_bucket{labels} {below}"));
            }
            let count = distribution.count();
            line(text, format_args!("{name}_bucket{} {count}", labels(Some(("le", "+Inf")))));
            line(text, format_args!("{name}_sum{} {}", labels(None), distribution.sum().as_secs_f64()));
            line(text, format_args!("{name}_count{} {count}", labels(None)));
        }
    }
}

/// Dots become underscores, the unit and `_total` are appended; a unit in braces is a remark.
pub fn name(instrument: &Instrument) -> String {
    let mut name = instrument.name.replace('.', "_");
    let unit = match instrument.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    if !name.ends_with(unit) {
        name.push_str(unit);
    }
    if instrument.kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Histogram;
    use prometheus_parse::{Scrape, Value as Parsed};
    use std::time::Duration;

    const BYTES: Instrument = Instrument {
        name: "halephant.relay.bytes",
        unit: "By",
        kind: Kind::Counter,
        description: "Bytes\nof \"both\" kinds, \\ too",
    };
    const WAIT: Instrument =
        Instrument { name: "db.client.wait_time", unit: "s", kind: Kind::Histogram, description: "Waits" };

    #[test]
    fn a_parser_reads_it_back() {
        let mut bytes = Family::new(BYTES);
        bytes.count(vec![("halephant.user", "a\"b\\c\nd".into()), ("direction", "sent".into())], 7);
        let mut wait = Family::new(WAIT);
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_secs(500));
        wait.distribution(vec![], histogram.distribution());
        let text = encode(&[bytes, wait, Family::new(BYTES)]);
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let sample = |name: &str| scrape.samples.iter().find(|sample| sample.metric == name).unwrap();
        let bytes = sample("halephant_relay_bytes_total");
        assert_eq!(bytes.labels.get("direction"), Some("sent"));
        assert_eq!(bytes.value, Parsed::Counter(7.0));
        let Parsed::Histogram(buckets) = &sample("db_client_wait_time_seconds").value else {
            panic!("{text}")
        };
        assert_eq!(buckets.iter().find(|bucket| bucket.less_than == 0.003072).unwrap().count, 1.0);
        assert_eq!(buckets.last().unwrap().count, 2.0);
        assert!(buckets.last().unwrap().less_than.is_infinite());
        assert!(text.contains("db_client_wait_time_seconds_sum 500.003\n"), "{text}");
        assert!(text.contains("halephant_user=\"a\\\"b\\\\c\\nd\""), "{text}");
    }
}
