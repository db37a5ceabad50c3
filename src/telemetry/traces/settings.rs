//! Which events are recorded, and where their spans are exported to.

use schemars::JsonSchema;
use serde::Deserialize;

use super::sampler::Sampler;
use crate::telemetry::otlp::settings::{Export, Otlp, Signal, Variables};

/// The part of events without a trace that begin one, unless somebody says another.
const SAMPLE: f64 = 0.01;

/// `traces`: what is recorded of events that belong to traces, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
pub struct TraceSettings {
    /// Where spans go; nowhere unless it is given, here or by `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp: Option<Otlp>,
    /// Which part of the events that belong to no trace begin one, from 0 to 1; `0.01` by default.
    pub sample: Option<f64>,
}

/// Everything that an export of spans is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceExport {
    pub export: Export,
    pub sampler: Sampler,
}

impl TraceExport {
    /// What is to be exported, if anything.
    ///
    /// # Errors
    /// Why nothing can be, in words.
    #[cfg_attr(
        not(any(feature = "otlp", test)),
        expect(dead_code, reason = "nothing is exported by a build without it")
    )]
    pub fn of(settings: &TraceSettings, variables: Variables<'_>) -> Result<Option<Self>, String> {
        let Some(export) = Export::of(Signal::TRACES, settings.otlp.as_ref(), variables)? else {
            return Ok(None);
        };
        let get = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        let sampler = sampler(settings.sample, &get)?;
        Ok(Some(Self { export, sampler }))
    }
}

fn sampler(sample: Option<f64>, get: &dyn Fn(&str) -> Option<String>) -> Result<Sampler, String> {
    if let Some(ratio) = sample {
        return Ok(Sampler {
            ratio,
            follows_parent: true,
        });
    }
    let argument = || match get("OTEL_TRACES_SAMPLER_ARG") {
        None => Ok(1.0),
        Some(text) => match text.trim().parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err(format!(
                "OTEL_TRACES_SAMPLER_ARG is {text:?}; write a number from 0 to 1"
            )),
        },
    };
    let Some(name) = get("OTEL_TRACES_SAMPLER") else {
        return Ok(Sampler {
            ratio: SAMPLE,
            follows_parent: true,
        });
    };
    let (follows_parent, root) = match name.trim().strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name.trim()),
    };
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => argument()?,
        _ => {
            return Err(format!(
                "OTEL_TRACES_SAMPLER is {name:?}; always_on, always_off and traceidratio are \
                 known, with parentbased_ before them or without"
            ));
        }
    };
    Ok(Sampler {
        ratio,
        follows_parent,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pointsman_schemas::Secret;

    use super::*;
    use crate::telemetry::otlp::settings::Protocol;

    fn traces(settings: &str, variables: &[(&str, &str)]) -> Result<Option<TraceExport>, String> {
        let settings: TraceSettings = serde_json::from_str(settings).unwrap();
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        TraceExport::of(&settings, &get)
    }

    fn export(settings: &str, variables: &[(&str, &str)]) -> Result<Option<Export>, String> {
        let traces = traces(settings, variables)?;
        Ok(traces.map(|traces| traces.export))
    }

    #[test]
    fn nothing_is_exported_unless_somebody_asks_for_it() {
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318/");
        for (settings, variables) in [
            ("{}", &[][..]),
            (r#"{ "sample": 1 }"#, &[("OTEL_SERVICE_NAME", "a")]),
            ("{}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]),
            ("{}", &[here, ("OTEL_SDK_DISABLED", "TRUE")]),
            ("{}", &[here, ("OTEL_TRACES_EXPORTER", "none")]),
            ("{}", &[here, ("OTEL_TRACES_EXPORTER", "console")]),
            (
                r#"{ "otlp": { "endpoint": "http://h" } }"#,
                &[("OTEL_SDK_DISABLED", "true")],
            ),
        ] {
            assert_eq!(
                export(settings, variables),
                Ok(None),
                "{settings} {variables:?}"
            );
        }
        for others in ["otlp", "console, otlp"] {
            let variables = [here, ("OTEL_TRACES_EXPORTER", others)];
            assert!(export("{}", &variables).unwrap().is_some());
        }
        let variables = [here, ("OTEL_METRICS_EXPORTER", "none")];
        assert!(export("{}", &variables).unwrap().is_some());
    }

    #[test]
    fn the_address_has_the_path_of_its_protocol() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let service = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let otlp = |endpoint: &str| format!(r#"{{ "otlp": {{ "endpoint": "{endpoint}" }} }}"#);
        for (settings, variables, expect) in [
            (
                otlp("http://h:1"),
                &[][..],
                "http://h:1/v1/traces".to_owned(),
            ),
            (otlp("http://h:1/"), &[], "http://h:1/v1/traces".to_owned()),
            (otlp("http://h:1/a/b"), &[], "http://h:1/a/b".to_owned()),
            (otlp("http://h:1"), &[grpc], format!("http://h:1/{service}")),
            (
                "{}".to_owned(),
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1/a")],
                "http://h:1/a/v1/traces".to_owned(),
            ),
            (
                "{}".to_owned(),
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"),
                    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:2/x"),
                ],
                "http://own:2/x".to_owned(),
            ),
        ] {
            let export = export(&settings, variables).unwrap().unwrap();
            assert_eq!(export.endpoint, expect, "{settings} {variables:?}");
        }
    }

    #[test]
    fn the_rule_file_goes_before_the_variables() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=y"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=other,region=eu%2Fwest",
            ),
            ("OTEL_SERVICE_NAME", "shop"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ];
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let by_variables = export("{}", &variables).unwrap().unwrap();
        assert_eq!(by_variables.protocol, Protocol::Grpc);
        let secret = |key: &str, value: &str| (key.to_owned(), Secret::new(value.to_owned()));
        assert_eq!(
            by_variables.headers,
            [secret("api-key", "a b"), secret("x", "y")]
        );
        assert_eq!(by_variables.timeout, Duration::from_millis(2_500));
        let sampler = |ratio, follows_parent| Sampler {
            ratio,
            follows_parent,
        };
        let of = |settings: &str, count| traces(settings, &variables[..count]).unwrap().unwrap();
        assert_eq!(of("{}", 8).sampler, sampler(0.25, false));
        assert_eq!(
            by_variables.resource,
            [
                pair("region", "eu/west"),
                pair("service.name", "shop"),
                pair("service.version", env!("CARGO_PKG_VERSION")),
            ]
        );
        let own = r#"{ "sample": 0.5, "otlp": { "endpoint": "http://h", "protocol": "http",
            "headers": { "Key": "mine" }, "timeout": "3s" } }"#;
        assert_eq!(of(own, 8).sampler, sampler(0.5, true));
        let own = export(own, &variables).unwrap().unwrap();
        assert_eq!(own.protocol, Protocol::Http);
        assert_eq!(own.headers, [secret("Key", "mine")]);
        assert_eq!(own.timeout, Duration::from_secs(3));
        assert_eq!(of("{}", 1).sampler, sampler(0.01, true));
    }

    #[test]
    fn what_a_variable_may_not_be_is_told() {
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h");
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
            ("OTEL_TRACES_SAMPLER", "xray"),
        ] {
            let error = export("{}", &[here, (name, value)]).unwrap_err();
            assert!(
                error.starts_with(name) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let all = [
            here,
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        assert!(export("{}", &all).unwrap_err().contains("from 0 to 1"));
    }
}
