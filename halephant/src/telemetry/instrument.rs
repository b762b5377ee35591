//! Instruments with their values at one moment, in the words of OpenTelemetry: what Prometheus and OTLP are given.

use super::metrics::Distribution;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows only.
    Counter,
    /// A sum that also shrinks.
    UpDownCounter,
    /// Values that make no sense as a sum.
    Gauge,
    Histogram,
}

/// A name with its unit and meaning; the same ones for every exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    pub name: &'static str,
    /// As UCUM writes it: `s`, `By`, or a noun in braces.
    pub unit: &'static str,
    pub kind: Kind,
    pub description: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Count(u64),
    Number(f64),
    Distribution(Box<Distribution>),
}

pub type Attributes = Vec<(&'static str, String)>;

#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub attributes: Attributes,
    pub value: Value,
}

/// One instrument's points.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub instrument: Instrument,
    pub points: Vec<Point>,
}

impl Family {
    pub fn new(instrument: Instrument) -> Self {
        Self { instrument, points: Vec::new() }
    }

    pub fn count(&mut self, attributes: Attributes, value: u64) {
        self.points.push(Point { attributes, value: Value::Count(value) });
    }

    pub fn number(&mut self, attributes: Attributes, value: f64) {
        self.points.push(Point { attributes, value: Value::Number(value) });
    }

    pub fn distribution(&mut self, attributes: Attributes, value: Distribution) {
        self.points.push(Point { attributes, value: Value::Distribution(Box::new(value)) });
    }
}
