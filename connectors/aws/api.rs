//! Calls of a service of AWS without its SDK: signed by the SDK's own code, and made by the client
//! that calls functions, so that it is known whether a request has left us, and no address is
//! dialled that the guard denies.
//!
//! | file | |
//! |---|---|
//! | `keys.rs` | the credentials that requests are signed with |
//! | `failure.rs` | why a call came to nothing |
//! | `refusal.rs` | what an answer says that is no success, and its class |
//! | `subject.rs` | what is wrong with what is called, in words |
//! | `entries.rs` | the entries of an attempt in as few calls as the service allows |

mod entries;
mod failure;
mod keys;
mod refusal;
mod subject;

use std::sync::Arc;
use std::time::SystemTime;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::response::Parts;
use http::{HeaderValue, Request, Uri};
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{Class, Outcome, Problem};
use serde_json::Value;
use url::form_urlencoded;

use self::keys::Keys;
use super::access::Access;
use crate::net::Names;
use crate::net::answer::{Answer, Deadlines};
use crate::net::client::{Client, Host, client};
use crate::net::dial::Way;
use crate::net::guard::Guard;
use crate::net::tls::ClientTls;
use crate::net::unanswered::failed;
use crate::xml::{self, Element};
use crate::{OpenError, TargetContext};

pub(crate) use entries::{Entries, by_id, deliver};
pub(crate) use failure::Failure;
pub(crate) use refusal::Refusal;
pub(crate) use subject::Subject;

/// Who calls.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pointsman/", env!("CARGO_PKG_VERSION")));

/// How many elements an answer in XML may have.
pub(super) const ELEMENTS_MAX: usize = 1_000;

/// The SDK makes no request here, but is asked for the region and the credentials.
const ATTEMPTS: u32 = 1;

/// The version of JSON's protocol that a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonVersion {
    /// SQS does.
    V10,
    /// EventBridge does.
    V11,
}

impl JsonVersion {
    fn media_type(self) -> &'static str {
        match self {
            Self::V10 => "application/x-amz-json-1.0",
            Self::V11 => "application/x-amz-json-1.1",
        }
    }
}

/// Which service is called, and where: what stands in its settings counts before the rest.
pub(crate) struct Service<'s> {
    /// As requests are signed for it, which is the first part of its host too.
    pub(crate) name: &'static str,
    pub(crate) access: Access<'s>,
    /// The region and the address, where what is called tells them by itself.
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

/// Where calls may lead, and who looks names up.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    guard: Guard,
    names: Names,
}

impl Reach {
    /// As a target is opened. What is called stands in its settings.
    pub(crate) fn of(context: &TargetContext) -> Self {
        Self {
            guard: Guard {
                allow_private_addresses: context.allow_private_addresses,
            },
            names: context.names.clone(),
        }
    }

    /// As the command line tries a connection: its user has named the address.
    pub(crate) fn anywhere() -> Self {
        Self {
            guard: Guard {
                allow_private_addresses: true,
            },
            names: Names::default(),
        }
    }
}

/// A service of AWS, or what speaks like it. It connects when it is first called.
pub(crate) struct Api {
    name: &'static str,
    region: String,
    /// Without a slash at its end.
    endpoint: String,
    keys: Keys,
    client: Client,
    host: Arc<Host>,
}

impl Api {
    /// Makes ready what calls are made of.
    ///
    /// # Errors
    /// A text cannot be resolved, the address is none, or no region is known.
    pub(crate) async fn open(service: Service<'_>, reach: Reach) -> Result<Self, OpenError> {
        let Service {
            name,
            access,
            region,
            endpoint,
        } = service;
        let (shared, written) = access.open(ATTEMPTS, region).await?;
        let region = shared.region().map(ToString::to_string).ok_or_else(|| {
            OpenError(
                Problem::new("no region is known")
                    .at("region")
                    .help("write region, or set AWS_REGION"),
            )
        })?;
        let endpoint = written
            .or(endpoint)
            .unwrap_or_else(|| format!("https://{name}.{region}.{}", domain(&region)));
        let at_endpoint = |mistake: String| OpenError(Problem::new(mistake).at("endpoint"));
        let uri = Uri::try_from(endpoint.as_str())
            .map_err(|error| at_endpoint(format!("is no address: {error}")))?;
        let way = Way {
            guard: reach.guard,
            names: reach.names,
            tls: ClientTls::default().config_for(uri.scheme_str() == Some("https"))?,
        };
        let client = client(way);
        Ok(Self {
            name,
            region,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            keys: Keys::of(&shared, access.credentials.is_some()),
            host: client.host(&uri),
            client,
        })
    }

    /// Makes a call, whose path begins with a slash, and reads its answer, whatever that says.
    ///
    /// # Errors
    /// There is none, and what follows from that.
    pub(crate) async fn call(
        &self,
        path: &str,
        mut request: Request<Bytes>,
        deadlines: Deadlines,
    ) -> Result<(Parts, Answer), Box<Outcome>> {
        let uri = Uri::try_from(format!("{}{path}", self.endpoint));
        *request.uri_mut() = uri.map_err(|error| {
            let told = format!("no address can be made of {path}: {error}");
            Box::new(Outcome::new(Class::Rejected, told))
        })?;
        request.headers_mut().insert(USER_AGENT, AGENT);
        let credentials = self.keys.credentials(deadlines.connected).await?;
        let request = self
            .signed(request, credentials)
            .map_err(|told| Box::new(Outcome::new(Class::Failed, told)))?;
        let called = self.client.call_host(
            Arc::clone(&self.host),
            Box::new(request),
            Some(deadlines.connected),
        );
        let answered = called.await.map_err(failed)?;
        let (head, answer) =
            Answer::read(answered, RESPONSE_BYTES_MAX, Some(deadlines.answered)).await;
        Ok((head, answer))
    }

    /// As [`Api::call`], where nothing but a success is of use.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn succeed(
        &self,
        path: &str,
        request: Request<Bytes>,
        deadlines: Deadlines,
    ) -> Result<(Parts, Answer), Failure> {
        let called = self.call(path, request, deadlines).await;
        let (head, answer) = called.map_err(Failure::Unanswered)?;
        if head.status.is_success() {
            return Ok((head, answer));
        }
        let refusal = Refusal::of(&head, &answer.bytes);
        if refusal.class() == Class::Refused {
            // They may have been replaced before their time.
            self.keys.forget().await;
        }
        Err(Failure::Refused(refusal))
    }

    /// Calls an action of a service that speaks JSON, by its name with its namespace.
    ///
    /// # Errors
    /// It is refused, or no answer comes that can be read.
    pub(crate) async fn act(
        &self,
        action: &str,
        version: JsonVersion,
        body: &Value,
        deadlines: Deadlines,
    ) -> Result<Value, Failure> {
        let request = Request::post("/")
            .header(CONTENT_TYPE, version.media_type())
            .header("x-amz-target", action)
            .body(Bytes::from(body.to_string()));
        let request = request.map_err(Failure::unmade)?;
        let (_, answer) = self.succeed("/", request, deadlines).await?;
        serde_json::from_slice(&answer.bytes)
            .map_err(|error| Failure::unreadable(answer.cut.unwrap_or_else(|| error.to_string())))
    }

    /// Calls an action of a service that takes forms and answers in XML.
    ///
    /// # Errors
    /// It is refused, or no answer comes that can be read.
    pub(crate) async fn query(
        &self,
        action: &str,
        version: &str,
        fields: &[(String, String)],
        deadlines: Deadlines,
    ) -> Result<Element, Failure> {
        let request = Request::post("/")
            .header(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(form(action, version, fields))
            .map_err(Failure::unmade)?;
        let (_, answer) = self.succeed("/", request, deadlines).await?;
        let text = std::str::from_utf8(&answer.bytes).map_err(Failure::unreadable)?;
        let told = xml::read(text, ELEMENTS_MAX);
        told.ok_or_else(|| Failure::unreadable(answer.cut.as_deref().unwrap_or("it is no XML")))
    }

    fn signed(
        &self,
        request: Request<Bytes>,
        credentials: aws_credential_types::Credentials,
    ) -> Result<Request<Bytes>, String> {
        let cannot = |error: &dyn std::error::Error| {
            let why = crate::net::explain::explain(error);
            format!("the request cannot be signed: {why}")
        };
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| cannot(&error))?;
        let (head, body) = request.into_parts();
        let uri = head.uri.to_string();
        let headers = head.headers.iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            head.method.as_str(),
            uri,
            headers,
            SignableBody::Bytes(&body),
        );
        let signable = signable.map_err(|error| cannot(&error))?;
        let signed = sign(signable, &params.into()).map_err(|error| cannot(&error))?;
        let (instructions, _signature) = signed.into_parts();
        let mut request = Request::from_parts(head, body);
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

fn form(action: &str, version: &str, fields: &[(String, String)]) -> Bytes {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action)
        .append_pair("Version", version)
        .extend_pairs(fields);
    form.finish().into()
}

/// Where the services of a region are.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}

#[cfg(test)]
mod tests;
