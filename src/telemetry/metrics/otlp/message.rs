//! Metrics as OTLP writes them, made of the text that `/metrics` shows: so both have the same, under
//! the same names.
//!
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>

mod text;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, number_data_point,
};
use pointsman_schemas::Timestamp;
use prost::Message;

use self::text::{Family, Sample, families};
use crate::telemetry::exposition::Exposition;
use crate::telemetry::otlp::{Source, attribute, nanoseconds};

/// Points in one call, about: a megabyte of them, where servers of gRPC take four.
const CALL_POINTS_MAX: usize = 1_000;

/// When what a point says began, as far as that is known, and when it was read.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    at: u64,
}

/// The bodies of the calls with these numbers of a process that started at `started`.
pub(super) fn requests(
    source: &Source,
    exposition: &Exposition,
    started: Timestamp,
    at: Timestamp,
) -> Vec<Bytes> {
    let at = nanoseconds(at);
    let process = Times {
        start: nanoseconds(started),
        at,
    };
    // What outlives the process did not begin with it, and when it did nobody knows.
    let store = Times { start: 0, at };
    let mut metrics = Vec::new();
    for (text, times) in [(&exposition.process, process), (&exposition.store, store)] {
        for family in families(text) {
            metrics.extend(of_family(&family, times));
        }
    }
    let (mut bodies, mut call, mut points) = (Vec::new(), Vec::new(), 0);
    for (count, metric) in metrics {
        if points > 0 && points + count > CALL_POINTS_MAX {
            bodies.push(request(source, std::mem::take(&mut call)));
            points = 0;
        }
        points += count;
        call.push(metric);
    }
    if !call.is_empty() {
        bodies.push(request(source, call));
    }
    bodies
}

/// How many points there are in an export of these numbers.
#[cfg(test)]
pub(super) fn points(exposition: &Exposition) -> usize {
    let times = Times { start: 0, at: 0 };
    let texts = [&exposition.process, &exposition.store];
    let families = texts.into_iter().flat_map(|text| families(text));
    let counts = families.map(|family| {
        of_family(&family, times)
            .map(|(count, _)| count)
            .sum::<usize>()
    });
    counts.sum()
}

fn request(source: &Source, metrics: Vec<Metric>) -> Bytes {
    let scope_metrics = ScopeMetrics {
        scope: Some(source.scope.clone()),
        metrics,
        ..ScopeMetrics::default()
    };
    let resource_metrics = ResourceMetrics {
        resource: Some(source.resource.clone()),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![resource_metrics],
    };
    request.encode_to_vec().into()
}

/// A family, in parts that are not too large for a call, each with the number of its points.
fn of_family<'f>(
    family: &'f Family<'_>,
    times: Times,
) -> impl Iterator<Item = (usize, Metric)> + use<'f> {
    let is_histogram = family.kind == "histogram";
    // Each series of a histogram begins with its sum.
    let is_next = move |_: &Sample<'_>, next: &Sample<'_>| is_histogram && !next.is_sum();
    let series: Vec<&[Sample<'_>]> = family.samples.chunk_by(is_next).collect();
    let series = series.into_iter();
    let mut series = series.peekable();
    std::iter::from_fn(move || {
        series.peek()?;
        let own: Vec<_> = series.by_ref().take(CALL_POINTS_MAX).collect();
        Some((own.len(), metric(family, &own, times)))
    })
}

fn metric(family: &Family<'_>, series: &[&[Sample<'_>]], times: Times) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = |times: Times| {
        let samples = series.iter().copied().flatten();
        samples.map(|sample| point(sample, times)).collect()
    };
    let data = match family.kind {
        "counter" => Data::Sum(Sum {
            data_points: numbers(times),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        "info" => Data::Sum(Sum {
            data_points: numbers(times),
            aggregation_temporality: cumulative,
            is_monotonic: false,
        }),
        "histogram" => Data::Histogram(Histogram {
            data_points: series.iter().map(|own| distribution(own, times)).collect(),
            aggregation_temporality: cumulative,
        }),
        // A gauge has no beginning.
        _ => Data::Gauge(Gauge {
            data_points: numbers(Times { start: 0, ..times }),
        }),
    };
    let first = series.first().and_then(|own| own.first());
    let name = match &data {
        Data::Histogram(_) => family.name,
        // With the ending that `/metrics` shows.
        _ => first.map_or(family.name, |first| first.name),
    };
    let unit = [("_seconds", "s"), ("_bytes", "By")];
    let unit = unit
        .iter()
        .find(|(ending, _)| family.name.ends_with(ending));
    Metric {
        name: name.to_owned(),
        description: family.help.to_owned(),
        unit: unit.map_or_else(String::new, |(_, unit)| (*unit).to_owned()),
        data: Some(data),
        ..Metric::default()
    }
}

/// The labels of a sample as attributes; the end of a bucket is none.
fn attributes(sample: &Sample<'_>) -> Vec<KeyValue> {
    let labels = sample.labels.iter().filter(|(name, _)| *name != "le");
    let attributes =
        labels.map(|(name, value)| attribute(name, Any::StringValue(value.clone().into_owned())));
    attributes.collect()
}

fn point(sample: &Sample<'_>, Times { start, at }: Times) -> NumberDataPoint {
    let number = match sample.value.parse() {
        Ok(number) => number_data_point::Value::AsInt(number),
        Err(_) => number_data_point::Value::AsDouble(sample.number()),
    };
    NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: start,
        time_unix_nano: at,
        value: Some(number),
        ..NumberDataPoint::default()
    }
}

/// One histogram of the lines of its sum, its count, and its buckets.
fn distribution(series: &[Sample<'_>], Times { start, at }: Times) -> HistogramDataPoint {
    let mut point = HistogramDataPoint {
        attributes: series.first().map(attributes).unwrap_or_default(),
        start_time_unix_nano: start,
        time_unix_nano: at,
        ..HistogramDataPoint::default()
    };
    let mut below = 0;
    for sample in series {
        let count = || sample.value.parse().unwrap_or(0);
        let Some((_, end)) = sample.labels.iter().find(|(name, _)| *name == "le") else {
            match sample.is_sum() {
                true => point.sum = Some(sample.number()),
                false => point.count = count(),
            }
            continue;
        };
        // What is below an end is counted with it in the text, and by itself here.
        point.bucket_counts.push(count().saturating_sub(below));
        below = count();
        let end = end.parse().unwrap_or(f64::INFINITY);
        point
            .explicit_bounds
            .extend(Some(end).filter(|end| end.is_finite()));
        point
            .exemplars
            .extend(sample.exemplar.as_ref().and_then(exemplar));
    }
    point
}

fn exemplar(exemplar: &text::Exemplar<'_>) -> Option<Exemplar> {
    let trace = exemplar
        .labels
        .iter()
        .find(|(name, _)| *name == "trace_id")?;
    let trace = u128::from_str_radix(&trace.1, 16).ok()?;
    let at = std::time::Duration::try_from_secs_f64(exemplar.at.parse().ok()?).ok()?;
    Some(Exemplar {
        trace_id: trace.to_be_bytes().into(),
        time_unix_nano: u64::try_from(at.as_nanos()).ok()?,
        value: Some(exemplar::Value::AsDouble(exemplar.value.parse().ok()?)),
        ..Exemplar::default()
    })
}

#[cfg(test)]
mod tests;
