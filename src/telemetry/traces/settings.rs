//! Where spans are exported to, and of which events: what the rule file says, and behind it the
//! standard variables of OpenTelemetry.
//!
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

use std::time::Duration;

use indexmap::IndexMap;
use pointsman_schemas::{Interval, Secret, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::sampler::Sampler;

/// The part of events without a trace that begin one, unless somebody says another.
const SAMPLE: f64 = 0.01;

/// How long a call may take, unless somebody says how long: OpenTelemetry's own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that it may.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

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

/// `traces.otlp`: who collects spans.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TracesOtlp")]
pub struct Otlp {
    /// Its address, such as `http://127.0.0.1:4318`; with `protocol: http` the path `/v1/traces` is
    /// added to one without a path.
    pub endpoint: Text,
    /// How it is spoken to; `http` by default.
    pub protocol: Option<Protocol>,
    /// Headers that go with each call, such as a key.
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    /// How long a call may take; `10s` by default, and `60s` at most.
    pub timeout: Option<Interval>,
    /// Certificates to trust in place of the system's, in PEM.
    pub ca: Option<Text>,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "TracesProtocol")]
pub enum Protocol {
    /// OTLP over HTTP, in Protobuf.
    #[default]
    Http,
    /// OTLP over gRPC.
    Grpc,
}

/// Everything that an export is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The address as it is called.
    pub endpoint: String,
    pub protocol: Protocol,
    pub headers: Vec<(String, Secret)>,
    pub timeout: Duration,
    pub ca: Option<String>,
    pub sampler: Sampler,
    /// What is told of this process, with its name.
    pub resource: Vec<(String, String)>,
}

/// Where variables come from.
type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

impl Export {
    /// What is to be exported, if anything. What the rule file says goes before the variables.
    ///
    /// # Errors
    /// Why nothing can be, in words.
    #[cfg_attr(
        not(any(feature = "otlp", test)),
        expect(dead_code, reason = "nothing is exported by a build without it")
    )]
    pub fn of(settings: &TraceSettings, variables: Variables<'_>) -> Result<Option<Self>, String> {
        let get = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        let is = |name: &str, value: &str| {
            get(name).is_some_and(|is| is.trim().eq_ignore_ascii_case(value))
        };
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let of_export = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            get(&own).or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let otlp = settings.otlp.as_ref();
        let protocol = match otlp.and_then(|otlp| otlp.protocol) {
            Some(protocol) => protocol,
            None => protocol(of_export("PROTOCOL").as_deref())?,
        };
        let Some(endpoint) = endpoint(otlp, protocol, &get)? else {
            return Ok(None);
        };
        let timeout = match otlp.and_then(|otlp| otlp.timeout) {
            Some(timeout) => timeout.0,
            None => timeout(of_export("TIMEOUT").as_deref())?,
        };
        Ok(Some(Self {
            endpoint,
            protocol,
            headers: headers(otlp, of_export("HEADERS").as_deref())?,
            timeout,
            ca: match otlp.and_then(|otlp| otlp.ca.as_ref()) {
                Some(ca) => Some(resolved(ca, "traces.otlp.ca")?),
                None => None,
            },
            sampler: sampler(settings.sample, &get)?,
            resource: resource(&get)?,
        }))
    }
}

fn resolved(text: &Text, setting: &str) -> Result<String, String> {
    let resolved = text.resolve();
    let resolved = resolved.map(|secret| secret.expose().to_owned());
    resolved.map_err(|error| format!("{setting}: {error}"))
}

/// The address as it is called.
fn endpoint(
    otlp: Option<&Otlp>,
    protocol: Protocol,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let path = match protocol {
        Protocol::Http => "v1/traces",
        Protocol::Grpc => "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    };
    let below = |base: &str| format!("{}/{path}", base.trim().trim_end_matches('/'));
    let written = match otlp {
        Some(otlp) => Some(resolved(&otlp.endpoint, "traces.otlp.endpoint")?),
        None => get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    };
    let address = match (written, protocol) {
        // The variable of its own is taken as it stands, and so is a path in the rule file.
        (Some(written), Protocol::Http) if otlp.is_none() || has_path(&written) => written,
        (Some(written), _) => below(&written),
        (None, _) => match get("OTEL_EXPORTER_OTLP_ENDPOINT") {
            Some(base) => below(&base),
            None => return Ok(None),
        },
    };
    Ok(Some(address))
}

/// Whether an address has more than a host.
fn has_path(address: &str) -> bool {
    let behind = address.split_once("://").map_or(address, |(_, rest)| rest);
    behind
        .split_once('/')
        .is_some_and(|(_, path)| !path.is_empty())
}

fn protocol(written: Option<&str>) -> Result<Protocol, String> {
    match written.map(str::trim) {
        None | Some("http/protobuf") => Ok(Protocol::Http),
        Some("grpc") => Ok(Protocol::Grpc),
        Some(other) => Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}; grpc and http/protobuf are spoken"
        )),
    }
}

fn timeout(milliseconds: Option<&str>) -> Result<Duration, String> {
    let Some(text) = milliseconds else {
        return Ok(TIMEOUT);
    };
    match text.trim().parse().map(Duration::from_millis) {
        Ok(timeout) if !timeout.is_zero() => Ok(timeout.min(TIMEOUT_MAX)),
        _ => Err(format!(
            "OTEL_EXPORTER_OTLP_TIMEOUT is {text:?}; write milliseconds, such as 10000"
        )),
    }
}

fn headers(otlp: Option<&Otlp>, variable: Option<&str>) -> Result<Vec<(String, Secret)>, String> {
    let headers: Result<Vec<_>, _> =
        match otlp.map(|otlp| &otlp.headers).filter(|own| !own.is_empty()) {
            Some(own) => {
                let resolve = |(name, text): (&String, &Text)| {
                    let value = resolved(text, &format!("traces.otlp.headers.{name}"))?;
                    Ok((name.clone(), value))
                };
                own.iter().map(resolve).collect()
            }
            None => pairs("OTEL_EXPORTER_OTLP_HEADERS", variable),
        };
    let secret = |(name, value)| (name, Secret::new(value));
    Ok(headers?.into_iter().map(secret).collect())
}

/// A list such as `a=1,b=2`, whose values may be percent-encoded. They may be secret.
fn pairs(name: &str, list: Option<&str>) -> Result<Vec<(String, String)>, String> {
    let entries = list.unwrap_or_default().split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim());
        Some((
            key.trim().to_owned(),
            value.decode_utf8().ok()?.into_owned(),
        ))
    };
    let all: Option<Vec<_>> = entries.map(pair).collect();
    all.ok_or_else(|| format!("{name} is no list such as key=value,other=value"))
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

/// What spans say of the process that they come from.
fn resource(get: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, String> {
    const NAME: &str = "service.name";
    let mut all = pairs(
        "OTEL_RESOURCE_ATTRIBUTES",
        get("OTEL_RESOURCE_ATTRIBUTES").as_deref(),
    )?;
    if let Some(name) = get("OTEL_SERVICE_NAME") {
        all.retain(|(key, _)| key != NAME);
        all.push((NAME.to_owned(), name));
    }
    let own = [
        (NAME, "pointsman"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    for (key, value) in own {
        if !all.iter().any(|(known, _)| known == key) {
            all.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(settings: &str, variables: &[(&str, &str)]) -> Result<Option<Export>, String> {
        let settings: TraceSettings = serde_json::from_str(settings).unwrap();
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Export::of(&settings, &get)
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
        assert!(export("{}", &[here]).unwrap().is_some());
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
        assert_eq!(by_variables.sampler, sampler(0.25, false));
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
        let own = export(own, &variables).unwrap().unwrap();
        assert_eq!(own.protocol, Protocol::Http);
        assert_eq!(own.headers, [secret("Key", "mine")]);
        assert_eq!(own.timeout, Duration::from_secs(3));
        assert_eq!(own.sampler, sampler(0.5, true));
        let usual = export("{}", &variables[..1]).unwrap().unwrap();
        assert_eq!(usual.sampler, sampler(0.01, true));
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
