//! Functions behind HTTP: one request for each delivery.
//!
//! ```yaml
//! thumbnailer:
//!   http:
//!     url: "http://127.0.0.1:9000/thumbnails/<$.data.bucket>"
//!     method: POST              # the default; GET, PUT, PATCH, DELETE
//!     mode: binary              # the default; structured, data
//!     headers: { X-Source: <$.source> }
//!     auth: { bearer: { env: TOKEN } }
//! ```
//!
//! **Sent** is the event by the CloudEvents HTTP binding, or its data alone (`mode: data`); GET
//! sends no body. With it go `Pointsman-Task` (the delivery's id, the same over all attempts) and
//! the same as `Idempotency-Key`, `Pointsman-Attempt`, `Pointsman-Rule` and `Pointsman-Deadline`.
//! Templates may stand in the URL behind its scheme and in headers' values, the URL first and the
//! headers in their order. A URL whose path an event would make climb (`..`) is rejected.
//!
//! **A batch** goes out in one call: see `batch`.
//!
//! **Answered** by status: see `net/classify.rs`, which follows "Push semantics", and
//! beyond statuses `net/unanswered.rs`. One that breaks in a 2xx body is delivered. At most 64 KiB of the body are read, until
//! shortly before the attempt's timeout. Redirects are never followed.
//!
//! **CloudEvents in a 2xx answer**, binary, structured or as a batch, go back onto the bus; 204 and
//! an empty body carry none. What is announced as one and cannot be read is told beside them
//! ([`Replies`](pointsman_schemas::Replies)); the delivery is delivered all the same.
//!
//! **Guarded** where an event decides the host: see `net/guard.rs`. A delivery to an address that
//! must not be called, spelled out or found for a name, is rejected. Connections belong to one
//! target and are dialled under its guard, so that none goes around it.

mod address;
mod auth;
mod batch;
mod oauth2;
mod renewed;
mod request;

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, Method};
use indexmap::IndexMap;
use pointsman_schemas::{Placement, Problem, Segment, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use self::auth::Credentials;
use crate::files::Files;
use crate::net::Names;
use crate::net::client::client;
use crate::net::dial::{Way, connector};
use crate::net::explain::explain;
use crate::net::guard::Guard;
use crate::net::tls::ClientTls;
use crate::parameter::{Parameter, Templates, called, located, resolve};
use crate::{AttemptError, Called, OpenError, TargetContext, TargetService, TargetSettings};
pub use auth::{Auth, CredentialsIn};
use renewed::Renewed;
use request::{Caller, header_value};

/// Calls a function by HTTP for each event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTarget {
    /// Where to call. Templates may stand behind the scheme; what they find is percent-encoded.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["http://127.0.0.1:9000/", "https://functions.example/<$.data.tenant>"]))]
    url: Text,
    /// The method; POST unless it is given.
    #[serde(default)]
    method: CallMethod,
    /// How the event is written: as headers and body, as one JSON document, or its data alone.
    #[serde(default)]
    mode: CallMode,
    /// Further headers, whose values may hold templates.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" }))]
    headers: IndexMap<String, Text>,
    /// How the target is shown who calls.
    auth: Option<Auth>,
    /// Certificates to trust in place of the system's, in PEM.
    ca: Option<Text>,
    /// The certificate chain to show to the server, in PEM, one's own first.
    certificate: Option<Text>,
    /// Its key, in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Option<Text>,
    /// Whether to take any certificate of the server: for tries on a machine of one's own.
    #[serde(default)]
    insecure: bool,
    /// Whether a host that an event decides may have a private, loopback, link-local or other inner
    /// address. A host that is written out may.
    #[serde(default)]
    allow_private_addresses: bool,
    /// Whether the URL lets in whoever knows it, and is shown to nobody.
    #[serde(skip)]
    is_secret: bool,
    /// What is added to the URL's query, unless it stands there.
    #[serde(skip)]
    query: Option<(&'static str, &'static str)>,
}

/// The method of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum CallMethod {
    #[default]
    Post,
    Put,
    Patch,
    Delete,
    /// Sends no body.
    Get,
}

/// How an event is written into a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CallMode {
    /// Attributes as `ce-` headers, the data as the body.
    #[default]
    Binary,
    /// The event in the JSON format as the body.
    Structured,
    /// The data as the body, and no attributes.
    Data,
}

impl From<CallMethod> for Method {
    fn from(method: CallMethod) -> Self {
        match method {
            CallMethod::Post => Self::POST,
            CallMethod::Put => Self::PUT,
            CallMethod::Patch => Self::PATCH,
            CallMethod::Delete => Self::DELETE,
            CallMethod::Get => Self::GET,
        }
    }
}

/// Why a header cannot be set, if so.
fn reserved(name: &HeaderName, mode: CallMode) -> Option<&'static str> {
    let name = name.as_str();
    const FRAMING: [&str; 9] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if FRAMING.contains(&name) || name.starts_with("proxy-") {
        Some("belongs to the connection and cannot be set")
    } else if name == "idempotency-key"
        || name.starts_with("pointsman-")
        || name.starts_with("webhook-")
    {
        Some("is set by pointsman itself")
    } else if name.starts_with("ce-") {
        Some("is the event's; set the attribute in the rule's transform")
    } else if name == "content-type" && mode != CallMode::Data {
        Some("is the event's; it can be set with mode: data alone")
    } else {
        None
    }
}

impl HttpTarget {
    /// What posts the data of events to a URL that is a secret, with something in its query.
    pub(crate) fn posting(url: Text, query: Option<(&'static str, &'static str)>) -> Self {
        Self {
            url,
            method: CallMethod::Post,
            mode: CallMode::Data,
            headers: IndexMap::new(),
            auth: None,
            ca: None,
            certificate: None,
            key: None,
            insecure: false,
            allow_private_addresses: false,
            is_secret: true,
            query,
        }
    }

    fn address(&self) -> Result<String, OpenError> {
        let address = resolve(&self.url, &["url".into()])?;
        Ok(match self.query {
            Some((name, value)) if !address.contains(&format!("{name}=")) => {
                let sign = if address.contains('?') { '&' } else { '?' };
                format!("{address}{sign}{name}={value}")
            }
            _ => address,
        })
    }

    fn check_header(&self, name: &str, value: &Text) -> Option<Problem> {
        let Ok(parsed) = HeaderName::try_from(name) else {
            return Some(Problem::new(format!("{name:?} is no header's name")).key());
        };
        if let Some(why) = reserved(&parsed, self.mode) {
            return Some(Problem::new(format!("the header {name} {why}")).key());
        }
        header_value(value.literal()?).err().map(Problem::new)
    }

    /// Allowing what is allowed anyway hints at a mistake about which hosts are meant.
    fn check_guard(&self) -> Option<Problem> {
        let url = self.url.literal()?;
        let is_idle = self.allow_private_addresses && address::has_fixed_host(url);
        is_idle.then(|| {
            Problem::new(
                "no event decides the host, so that every address is allowed already; leave this \
                 out",
            )
            .at("allow_private_addresses")
        })
    }

    fn templates(&self) -> (Option<usize>, Vec<Option<usize>>, Templates) {
        let mut templates = Templates::default();
        let url = templates.note(&self.url, Placement::Url, vec!["url".into()]);
        let headers = self.headers.iter();
        let headers = headers
            .map(|(name, value)| templates.note(value, Placement::Header, header_path(name)))
            .collect();
        (url, headers, templates)
    }

    fn tls(&self) -> ClientTls<'_> {
        ClientTls {
            ca: self.ca.as_ref(),
            certificate: self.certificate.as_ref(),
            key: self.key.as_ref(),
            insecure: self.insecure,
            any_name: false,
        }
    }

    /// What makes the calls, from what the settings say now.
    fn caller(&self, context: &TargetContext) -> Result<Caller, OpenError> {
        let (url, header_templates, templates) = self.templates();
        let problem_at_url = |mistake: String| OpenError(Problem::new(mistake).at("url"));
        let address = self.address()?;
        // What the operator has written out is where the operator wants to call; what an event
        // brings may be anybody's wish.
        let is_free =
            url.is_none() || self.allow_private_addresses || address::has_fixed_host(&address);
        let guard = Guard {
            allow_private_addresses: context.allow_private_addresses && is_free,
        };
        let way = Way {
            guard,
            names: context.names.clone(),
            tls: self.tls().config_for(address::is_https(&address))?,
        };
        let mut headers = Vec::with_capacity(self.headers.len());
        for ((name, value), template) in self.headers.iter().zip(header_templates) {
            let at = header_path(name);
            let problem = |mistake: String| OpenError(located(Problem::new(mistake), &at));
            let parsed = HeaderName::try_from(name.as_str())
                .map_err(|_| problem(format!("{name:?} is no header's name")))?;
            let value = match template {
                Some(index) => Parameter::Filled(index),
                None => Parameter::Constant(header_value(&resolve(value, &at)?).map_err(problem)?),
            };
            headers.push((parsed, value));
        }
        let client = client(way);
        let address = match url {
            Some(index) => Parameter::Filled(index),
            None => Parameter::Constant(address::parse(&address, guard).map_err(problem_at_url)?),
        };
        let host = match &address {
            Parameter::Constant(uri) => Some(client.host(uri)),
            Parameter::Filled(_) => None,
        };
        Ok(Caller {
            client,
            guard,
            address,
            is_address_hidden: self.is_secret || self.url.literal().is_none(),
            host,
            method: self.method.into(),
            mode: self.mode,
            headers,
            texts: templates.count(),
            credentials: match &self.auth {
                None => Credentials::Anonymous,
                Some(auth) => {
                    // No event has a part in the token endpoint.
                    let guard = Guard {
                        allow_private_addresses: context.allow_private_addresses,
                    };
                    auth.open(guard, &context.names, self.tls())
                        .map_err(|OpenError(problem)| OpenError(problem.at("auth")))?
                }
            },
        })
    }
}

fn header_path(name: &str) -> Vec<Segment> {
    vec!["headers".into(), name.into()]
}

#[async_trait]
impl TargetSettings for HttpTarget {
    fn check(&self) -> Vec<Problem> {
        let url = address::check(&self.url).map(|problem| problem.at("url"));
        let headers = self.headers.iter().filter_map(|(name, value)| {
            self.check_header(name, value)
                .map(|problem| problem.at(name.as_str()).at("headers"))
        });
        let auth = self
            .auth
            .iter()
            .flat_map(Auth::check)
            .map(|problem| problem.at("auth"));
        url.into_iter()
            .chain(headers)
            .chain(auth)
            .chain(self.tls().check())
            .chain(self.check_guard())
            .collect()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Self::templates(self).2.into_texts()
    }

    fn called(&self) -> Called {
        let (url, ..) = Self::templates(self);
        let method = Method::from(self.method);
        called([(&self.url, url)], move |[url]| {
            format!("{method} {}", address::shown(url))
        })
    }

    fn files(&self) -> Files {
        let tls = [&self.ca, &self.certificate, &self.key]
            .into_iter()
            .flatten();
        let auth = self.auth.iter().flat_map(Auth::texts);
        Files::of(
            [&self.url]
                .into_iter()
                .chain(tls)
                .chain(self.headers.values())
                .chain(auth),
        )
    }

    fn refuses_batches(&self) -> Option<Problem> {
        if self.method == CallMethod::Get {
            return Some(
                Problem::new("GET sends no body, and a batch is one")
                    .at("method")
                    .help("use POST"),
            );
        }
        let template = self.templates().2.into_texts().into_iter().next()?;
        let mistake = "several events go in one call, so that none of them can decide this";
        let problem = Problem::new(mistake).help("write the value out");
        Some(located(problem, &template.path))
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let problem = |mistake: String| OpenError(Problem::new(mistake).at("url"));
        let address = resolve(&self.url, &["url".into()])?;
        let Some(host) = address::fixed_host(&address) else {
            return Ok("its host depends on the event: nothing was tried".to_owned());
        };
        let guard = Guard {
            allow_private_addresses: true,
        };
        let uri = address::parse(&host, guard).map_err(problem)?;
        let way = Way {
            guard,
            names: Names::default(),
            tls: self.tls().config_for(address::is_https(&host))?,
        };
        match connector(way).oneshot(uri.clone()).await {
            Ok(_connection) => Ok(format!("{uri} takes connections; it was not called")),
            Err(error) => Err(OpenError(
                Problem::new(explain(&*error))
                    .at("url")
                    .help("check that the function runs and listens there"),
            )),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let renewed = Arc::new(Renewed::open(self.clone(), context)?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let renewed = Arc::clone(&renewed);
                async move { Ok::<_, AttemptError>(renewed.attempt(&attempt).await) }
            },
        )))
    }
}

#[cfg(test)]
mod tests;
