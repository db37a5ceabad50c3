//! Where metrics are exported to, and how often.

use std::time::Duration;

use pointsman_schemas::Interval;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::telemetry::otlp::settings::{Export, Otlp, Signal, Variables};

/// The pause between two exports, unless somebody says another: OpenTelemetry's own default.
const INTERVAL: Duration = Duration::from_secs(60);

/// The shortest pause: reading everything takes a while where there is much.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
pub const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// `metrics`: where what `/metrics` shows is exported to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub struct MetricSettings {
    /// Where metrics go; nowhere unless it is given, here or by `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp: Option<Otlp>,
    /// How often; `60s` by default, from `1s` to `1h`.
    pub interval: Option<Interval>,
}

/// Everything that an export of metrics is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricExport {
    pub export: Export,
    pub interval: Duration,
}

impl MetricExport {
    /// What is to be exported, if anything.
    ///
    /// # Errors
    /// Why nothing can be, in words.
    #[cfg_attr(
        not(any(feature = "otlp", test)),
        expect(dead_code, reason = "nothing is exported by a build without it")
    )]
    pub fn of(settings: &MetricSettings, variables: Variables<'_>) -> Result<Option<Self>, String> {
        let Some(export) = Export::of(Signal::METRICS, settings.otlp.as_ref(), variables)? else {
            return Ok(None);
        };
        let interval = match settings.interval {
            Some(interval) => interval.0,
            None => interval(variables("OTEL_METRIC_EXPORT_INTERVAL").as_deref())?,
        };
        Ok(Some(Self { export, interval }))
    }
}

fn interval(milliseconds: Option<&str>) -> Result<Duration, String> {
    let Some(text) = milliseconds.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(INTERVAL);
    };
    match text.parse().map(Duration::from_millis) {
        Ok(interval) if !interval.is_zero() => Ok(interval.clamp(INTERVAL_MIN, INTERVAL_MAX)),
        _ => Err(format!(
            "OTEL_METRIC_EXPORT_INTERVAL is {text:?}; write milliseconds, such as 60000"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(settings: &str, variables: &[(&str, &str)]) -> Result<Option<MetricExport>, String> {
        let settings: MetricSettings = serde_json::from_str(settings).unwrap();
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        MetricExport::of(&settings, &get)
    }

    #[test]
    fn metrics_are_exported_where_traces_are_unless_somebody_says_otherwise() {
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318");
        let own =
            r#"{ "otlp": { "endpoint": "http://own:1", "protocol": "grpc" }, "interval": "5s" }"#;
        let service = "opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        let grpc = format!("http://own:1/{service}");
        for (settings, variables, expect) in [
            ("{}", &[][..], None),
            (
                "{}",
                &[here][..],
                Some(("http://h:4318/v1/metrics", 60_000)),
            ),
            (
                "{}",
                &[
                    here,
                    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://own:2/x"),
                    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:2/x"),
                    ("OTEL_METRIC_EXPORT_INTERVAL", "2500"),
                ],
                Some(("http://own:2/x", 2_500)),
            ),
            (
                "{}",
                &[here, ("OTEL_METRIC_EXPORT_INTERVAL", "1")],
                Some(("http://h:4318/v1/metrics", 1_000)),
            ),
            (
                own,
                &[here, ("OTEL_METRIC_EXPORT_INTERVAL", "2500")],
                Some((&*grpc, 5_000)),
            ),
            ("{}", &[here, ("OTEL_METRICS_EXPORTER", "none")], None),
            ("{}", &[here, ("OTEL_METRICS_EXPORTER", "prometheus")], None),
            (
                "{}",
                &[here, ("OTEL_TRACES_EXPORTER", "none")],
                Some(("http://h:4318/v1/metrics", 60_000)),
            ),
            (own, &[("OTEL_SDK_DISABLED", "true")], None),
        ] {
            let found = export(settings, variables).unwrap();
            let found = found.map(|found| (found.export.endpoint, found.interval.as_millis()));
            let expect = expect.map(|(endpoint, interval)| (endpoint.to_owned(), interval));
            assert_eq!(found, expect, "{settings} {variables:?}");
        }
        let error = export("{}", &[here, ("OTEL_METRIC_EXPORT_INTERVAL", "60s")]);
        assert!(
            error
                .unwrap_err()
                .starts_with("OTEL_METRIC_EXPORT_INTERVAL")
        );
    }
}
