//! Where something is exported to: what the rule file says, and behind it the standard variables of
//! OpenTelemetry.
//!
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

use std::time::Duration;

use indexmap::IndexMap;
use pointsman_schemas::{Interval, Secret, Text};
use schemars::JsonSchema;
use serde::Deserialize;

/// How long a call may take, unless somebody says how long: OpenTelemetry's own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that it may.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// `traces.otlp` and `metrics.otlp`: who collects them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Otlp")]
pub struct Otlp {
    /// Its address, such as `http://127.0.0.1:4318`; with `protocol: http` the path `/v1/traces` or
    /// `/v1/metrics` is added to one without a path.
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
#[schemars(rename = "OtlpProtocol")]
pub enum Protocol {
    /// OTLP over HTTP, in Protobuf.
    #[default]
    Http,
    /// OTLP over gRPC.
    Grpc,
}

/// What is exported: its section in the rule file, and what the standard calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    section: &'static str,
    path: &'static str,
    service: &'static str,
    variable: &'static str,
}

impl Signal {
    /// Spans of traces.
    pub const TRACES: Self = Self {
        section: "traces",
        path: "v1/traces",
        service: "opentelemetry.proto.collector.trace.v1.TraceService/Export",
        variable: "TRACES",
    };

    /// Metrics.
    pub const METRICS: Self = Self {
        section: "metrics",
        path: "v1/metrics",
        service: "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        variable: "METRICS",
    };
}

/// Everything that the calls of an export are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The address as it is called.
    pub endpoint: String,
    pub protocol: Protocol,
    pub headers: Vec<(String, Secret)>,
    pub timeout: Duration,
    pub ca: Option<String>,
    /// What is told of this process, with its name.
    pub resource: Vec<(String, String)>,
}

/// Where variables come from.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

impl Export {
    /// Where the signal is to be exported to, if anywhere. What the rule file says goes before the
    /// variables.
    ///
    /// # Errors
    /// Why nothing can be, in words.
    pub fn of(
        signal: Signal,
        otlp: Option<&Otlp>,
        variables: Variables<'_>,
    ) -> Result<Option<Self>, String> {
        let get = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        let Signal {
            section, variable, ..
        } = signal;
        let is_disabled = get("OTEL_SDK_DISABLED");
        let exporters = get(&format!("OTEL_{variable}_EXPORTER"));
        if is_disabled.is_some_and(|is| is.trim().eq_ignore_ascii_case("true"))
            || exporters.is_some_and(|list| list.split(',').all(|one| one.trim() != "otlp"))
        {
            return Ok(None);
        }
        let of_export = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_{variable}_{name}");
            get(&own).or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let protocol = match otlp.and_then(|otlp| otlp.protocol) {
            Some(protocol) => protocol,
            None => protocol(of_export("PROTOCOL").as_deref())?,
        };
        let Some(endpoint) = endpoint(signal, otlp, protocol, &get)? else {
            return Ok(None);
        };
        let timeout = match otlp.and_then(|otlp| otlp.timeout) {
            Some(timeout) => timeout.0,
            None => timeout(of_export("TIMEOUT").as_deref())?,
        };
        Ok(Some(Self {
            endpoint,
            protocol,
            headers: headers(section, otlp, of_export("HEADERS").as_deref())?,
            timeout,
            ca: match otlp.and_then(|otlp| otlp.ca.as_ref()) {
                Some(ca) => Some(resolved(ca, &format!("{section}.otlp.ca"))?),
                None => None,
            },
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
    signal: Signal,
    otlp: Option<&Otlp>,
    protocol: Protocol,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let path = match protocol {
        Protocol::Http => signal.path,
        Protocol::Grpc => signal.service,
    };
    let below = |base: &str| format!("{}/{path}", base.trim().trim_end_matches('/'));
    let written = match otlp {
        Some(otlp) => {
            let setting = format!("{}.otlp.endpoint", signal.section);
            Some(resolved(&otlp.endpoint, &setting)?)
        }
        None => get(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.variable)),
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

fn headers(
    section: &str,
    otlp: Option<&Otlp>,
    variable: Option<&str>,
) -> Result<Vec<(String, Secret)>, String> {
    let headers: Result<Vec<_>, _> =
        match otlp.map(|otlp| &otlp.headers).filter(|own| !own.is_empty()) {
            Some(own) => {
                let resolve = |(name, text): (&String, &Text)| {
                    let value = resolved(text, &format!("{section}.otlp.headers.{name}"))?;
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

/// What is said of the process that an export comes from.
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
