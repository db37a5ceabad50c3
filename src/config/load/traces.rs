//! `traces` and `metrics`: what of their settings can be checked before they are used.

use http::HeaderName;

use super::Loader;
use crate::config::reader::{Piece, read};
use crate::telemetry::metrics::settings::{INTERVAL_MAX, INTERVAL_MIN, MetricSettings};
use crate::telemetry::otlp::settings::{Otlp, TIMEOUT_MAX};
use crate::telemetry::traces::settings::TraceSettings;

impl Loader<'_, '_> {
    pub(super) fn traces(&self) -> TraceSettings {
        let Some((_, piece)) = self.single("traces") else {
            return TraceSettings::default();
        };
        let settings: TraceSettings = read(piece).unwrap_or_default();
        let is_part = |sample: f64| (0.0..=1.0).contains(&sample);
        if let (Some(at), false) = (piece.get("sample"), settings.sample.is_none_or(is_part)) {
            at.report(
                "this is no part of all events",
                "write a number from 0 to 1",
            );
        }
        if let (Some(at), Some(otlp)) = (piece.get("otlp"), &settings.otlp) {
            check(otlp, at);
        }
        settings
    }

    pub(super) fn metrics(&self) -> MetricSettings {
        let Some((_, piece)) = self.single("metrics") else {
            return MetricSettings::default();
        };
        let settings: MetricSettings = read(piece).unwrap_or_default();
        if let (Some(at), Some(interval)) = (piece.get("interval"), settings.interval)
            && !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval.0)
        {
            at.report("this is not between 1s and 1h", "write 60s");
        }
        if let (Some(at), Some(otlp)) = (piece.get("otlp"), &settings.otlp) {
            check(otlp, at);
        }
        settings
    }
}

fn check(otlp: &Otlp, piece: Piece<'_>) {
    if !cfg!(feature = "otlp") {
        piece.report_key(
            "the export by OTLP is left out of this build",
            "build with the cargo feature `otlp`",
        );
    }
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if let (Some(at), Some(false)) = (
        piece.get("endpoint"),
        otlp.endpoint.literal().map(is_address),
    ) {
        at.report(
            "this is no address of a collector",
            "write http://host:port or https://host:port",
        );
    }
    if let (Some(at), Some(timeout)) = (piece.get("timeout"), otlp.timeout)
        && (timeout.0.is_zero() || timeout.0 > TIMEOUT_MAX)
    {
        at.report("this is not between 1ms and 60s", "write 10s");
    }
    let Some(headers) = piece.get("headers") else {
        return;
    };
    for (name, value) in &otlp.headers {
        let at = headers.get(name).unwrap_or(headers);
        if HeaderName::try_from(name.as_str()).is_err() {
            at.report_key("no header can have this name", "use letters, digits and -");
        }
        if value.literal().is_some_and(has_control_character) {
            at.report(
                "a header's value must not hold line breaks or other control characters",
                "write it in one line",
            );
        }
    }
}

fn has_control_character(text: &str) -> bool {
    text.chars().any(char::is_control)
}
