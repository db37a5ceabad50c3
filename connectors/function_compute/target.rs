//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::caller::{Caller, Refusal};
use crate::alibaba::{AccessKey, Endpoint, Signer, check_endpoint, http, unreachable};
use crate::net::Names;
use crate::net::explain::explain;
use crate::parameter::{called, resolve};
use crate::{AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// The longest name of a function or a qualifier.
const NAME_CHARS_MAX: usize = 128;

/// Calls a function of Alibaba Cloud's Function Compute 3.0 for each event, by its API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionComputeTarget {
    /// The function's name.
    #[schemars(extend("minLength" = 1))]
    function: Text,
    /// A version or an alias of it; LATEST unless it is given.
    qualifier: Option<Text>,
    /// Its region, such as `cn-hangzhou`, in the place of an endpoint.
    region: Option<Text>,
    /// The address of the API, such as `https://1234567890.cn-hangzhou.fc.aliyuncs.com`.
    #[schemars(extend("pattern" = "^https?://"))]
    endpoint: Option<Text>,
    /// The keys to show; without them, those of the environment: `ALIBABA_CLOUD_ACCESS_KEY_ID`,
    /// `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and `ALIBABA_CLOUD_SECURITY_TOKEN`.
    credentials: Option<AccessKey>,
    /// Whether to wait until the function has run.
    #[serde(default)]
    invocation: Invocation,
    /// How the event is written: as one JSON document, or its data alone.
    #[serde(default)]
    mode: Mode,
}

/// How a function is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Invocation {
    /// Function Compute answers once the function has run, with what it returns.
    #[default]
    Sync,
    /// Function Compute answers once it has the call, and tries it as the function is configured.
    Async,
}

impl Invocation {
    /// As Function Compute calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sync => "Sync",
            Self::Async => "Async",
        }
    }
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "FunctionComputeMode")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The event in the JSON format.
    #[default]
    Structured,
    /// The data alone.
    Data,
}

/// A setting, its text, and what is wrong with that.
type Form<'s> = (&'static str, &'s Text, fn(&str) -> Option<Problem>);

fn name_mistake(name: &str) -> Option<Problem> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_allowed);
    (!is_name).then(|| {
        Problem::new("is not 1 to 128 characters of a-z, A-Z, 0-9, -, _ and .")
            .help("write the function's name alone, not its ARN, and its version into qualifier")
    })
}

fn region_mistake(region: &str) -> Option<Problem> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_region = !region.is_empty() && region.chars().all(is_allowed);
    (!is_region).then(|| Problem::new("is no region").help("write one such as cn-hangzhou"))
}

impl FunctionComputeTarget {
    /// The texts that have to be of a form, with their settings.
    fn forms(&self) -> Vec<Form<'_>> {
        let mut forms: Vec<Form<'_>> = vec![("function", &self.function, name_mistake)];
        forms.extend(
            self.qualifier
                .iter()
                .map(|text| ("qualifier", text, name_mistake as _)),
        );
        forms.extend(
            self.region
                .iter()
                .map(|text| ("region", text, region_mistake as _)),
        );
        forms
    }

    fn endpoint(&self) -> Result<Endpoint, OpenError> {
        match (&self.endpoint, &self.region) {
            (Some(endpoint), _) => Endpoint::open(endpoint),
            (None, Some(region)) => {
                let region = resolve(region, &["region".into()])?;
                Endpoint::read(&format!("https://fcv3.{region}.aliyuncs.com"))
                    .map_err(|problem| OpenError(problem.at("region")))
            }
            (None, None) => Err(OpenError(nowhere())),
        }
    }

    fn caller(&self, allow_private_addresses: bool, names: Names) -> Result<Caller, OpenError> {
        for (at, text, mistake) in self.forms() {
            if let Some(problem) = mistake(&resolve(text, &[at.into()])?) {
                return Err(OpenError(problem.at(at)));
            }
        }
        let endpoint = self.endpoint()?;
        let qualifier = self.qualifier.as_ref();
        Ok(Caller {
            http: http(&endpoint, allow_private_addresses, names)?,
            endpoint,
            signer: Signer::open(self.credentials.as_ref())?,
            function: resolve(&self.function, &["function".into()])?,
            qualifier: qualifier
                .map(|qualifier| resolve(qualifier, &["qualifier".into()]))
                .transpose()?,
            invocation: self.invocation,
            mode: self.mode,
        })
    }
}

fn nowhere() -> Problem {
    Problem::new("where the function is is missing")
        .at("region")
        .help("write region, or endpoint")
}

#[async_trait]
impl TargetSettings for FunctionComputeTarget {
    fn files(&self) -> Files {
        let keys = self.credentials.as_ref();
        keys.map_or_else(|| Files::of([]), AccessKey::files)
    }

    fn check(&self) -> Vec<Problem> {
        let mistakes = self
            .forms()
            .into_iter()
            .filter_map(|(at, text, mistake)| Some(mistake(text.literal()?)?.at(at)));
        let place = match (&self.endpoint, &self.region) {
            (Some(_), Some(_)) => Some(
                Problem::new("an endpoint says the region as well; leave one of them out")
                    .at("region"),
            ),
            (None, None) => Some(nowhere()),
            (Some(_), None) | (None, Some(_)) => None,
        };
        let endpoint = self.endpoint.as_ref().and_then(check_endpoint);
        let keys = self.credentials.iter().flat_map(AccessKey::check);
        mistakes.chain(place).chain(endpoint).chain(keys).collect()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Vec::new()
    }

    fn called(&self) -> Called {
        called([(&self.function, None)], |[function]| {
            format!("invoke {function}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let caller = self.caller(true, Names::default())?;
        let looked = caller.look().await;
        let (status, body) =
            looked.map_err(|error| OpenError(unreachable("Function Compute", &explain(&error))))?;
        let function = &caller.function;
        if status.is_success() {
            return Ok(format!(
                "the function {function} is there; it was not called"
            ));
        }
        let refusal = Refusal::read(&body);
        let problem = match status.as_u16() {
            _ if refusal.code.is_empty() => Problem::new(format!(
                "what answers there is not Function Compute: {status}"
            ))
            .at(if self.endpoint.is_some() {
                "endpoint"
            } else {
                "region"
            })
            .help("check the address"),
            404 => Problem::new(format!("there is no function {function}{refusal}"))
                .at("function")
                .help("make it, or check its name, its qualifier, the region and the account"),
            401 | 403 => Problem::new(format!(
                "the credentials may not look at the function {function}{refusal}"
            ))
            .at("credentials")
            .help("check the keys, and allow them fc:InvokeFunction, and fc:GetFunction to look"),
            _ => Problem::new(format!(
                "cannot look at the function {function}: {status}{refusal}"
            ))
            .at("function"),
        };
        Err(OpenError(problem))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let allow = context.allow_private_addresses;
        let caller = Arc::new(self.caller(allow, context.names)?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let caller = Arc::clone(&caller);
                async move { Ok::<_, AttemptError>(caller.attempt(&attempt).await) }
            },
        )))
    }
}
