//! The settings of a target.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Placement, Problem, Segment, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

use super::putter::Putter;
use crate::aws::api::{Api, Failure, JsonVersion, Reach, Service, Subject, deliver};
use crate::aws::arn::Arn;
use crate::aws::{Access, KeyPair};
use crate::net::answer::Deadlines;
use crate::parameter::{Parameter, Templates, called, resolve};
use crate::{
    Attempt, AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings,
};

/// How long a probe waits for an answer.
const PROBE_WITHIN: Duration = Duration::from_secs(20);

/// Puts each event onto a bus of Amazon EventBridge, or of what speaks like it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventbridgeTarget {
    /// The bus: its name, or its ARN; the account's default one unless it is given.
    #[serde(default = "default_bus")]
    bus: Text,
    /// The address of what speaks like EventBridge; without it, AWS.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["http://127.0.0.1:5000"]))]
    endpoint: Option<Text>,
    /// Its region; else that of the bus's ARN, or the SDK's own, and with an endpoint `us-east-1`.
    region: Option<Text>,
    /// The keys to show; without them, those that the SDK finds: environment, profile, web
    /// identity, instance.
    credentials: Option<KeyPair>,
    /// The entry's source, which may hold templates; the event's own unless it is given.
    source: Option<Text>,
    /// The entry's detail type, which may hold templates; the event's type unless it is given.
    detail_type: Option<Text>,
    /// ARNs of what the event is about, which may hold templates. Those that come out empty are
    /// left out.
    #[serde(default)]
    resources: Vec<Text>,
    /// What the detail is: the event's data, or the whole event in the JSON format.
    #[serde(default)]
    mode: Mode,
}

/// What the detail is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "EventbridgeMode")]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The event's data, which has to be a JSON object.
    #[default]
    Data,
    /// The event in the JSON format.
    Structured,
}

fn default_bus() -> Text {
    "default".into()
}

/// The name of the bus that a text names, and its region where it is an ARN.
fn bus_of(text: &str) -> Result<(&str, Option<String>), Problem> {
    if !text.starts_with("arn:") {
        return match text {
            "" => Err(Problem::new("a bus's name must not be empty").at("bus")),
            name => Ok((name, None)),
        };
    }
    let arn = Arn::read(text).filter(|arn| arn.service == "events");
    let named = arn.and_then(|arn| Some((arn.resource.strip_prefix("event-bus/")?, arn.region())));
    named.ok_or_else(|| {
        Problem::new("this is not the ARN of a bus")
            .at("bus")
            .help("write one such as arn:aws:events:eu-west-1:123456789012:event-bus/central")
    })
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct TemplateParameters {
    source: Option<usize>,
    detail_type: Option<usize>,
    resources: Vec<Option<usize>>,
    templates: Templates,
}

fn resource_path(index: usize) -> Vec<Segment> {
    vec!["resources".into(), index.into()]
}

impl EventbridgeTarget {
    fn access(&self) -> Access<'_> {
        Access {
            endpoint: self.endpoint.as_ref(),
            region: self.region.as_ref(),
            credentials: self.credentials.as_ref(),
        }
    }

    fn filled(&self) -> TemplateParameters {
        let mut templates = Templates::default();
        let mut note = |text: &Text, path| templates.note(text, Placement::Address, path);
        let source = self.source.as_ref();
        let source = source.and_then(|text| note(text, vec!["source".into()]));
        let detail_type = self.detail_type.as_ref();
        let detail_type = detail_type.and_then(|text| note(text, vec!["detail_type".into()]));
        let resources = self.resources.iter().enumerate();
        let resources = resources
            .map(|(index, text)| note(text, resource_path(index)))
            .collect();
        TemplateParameters {
            source,
            detail_type,
            resources,
            templates,
        }
    }

    async fn putter(&self, reach: Reach) -> Result<Putter, OpenError> {
        let bus = resolve(&self.bus, &["bus".into()])?;
        let (name, region) = bus_of(&bus).map_err(OpenError)?;
        let filled = self.filled();
        let open = |text: &Option<Text>, index, at: &str| {
            let text = text.as_ref();
            text.map(|text| Parameter::open(text, index, &[at.into()]))
                .transpose()
        };
        let resources = self.resources.iter().zip(filled.resources).enumerate();
        let resources =
            resources.map(|(at, (text, index))| Parameter::open(text, index, &resource_path(at)));
        let service = Service {
            name: "events",
            access: self.access(),
            region,
            endpoint: None,
        };
        Ok(Putter {
            api: Api::open(service, reach).await?,
            source: open(&self.source, filled.source, "source")?,
            detail_type: open(&self.detail_type, filled.detail_type, "detail_type")?,
            resources: resources.collect::<Result<_, _>>()?,
            what: format!("cannot put onto the bus {name}"),
            mode: self.mode,
            texts: filled.templates.count(),
            bus,
        })
    }
}

#[async_trait]
impl TargetSettings for EventbridgeTarget {
    fn files(&self) -> Files {
        self.access().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        problems.extend(self.bus.literal().and_then(|bus| bus_of(bus).err()));
        for (at, text) in [("source", &self.source), ("detail_type", &self.detail_type)] {
            if text.as_ref().and_then(Text::literal) == Some("") {
                problems.push(
                    Problem::new("must not be empty")
                        .at(at)
                        .help("leave it out"),
                );
            }
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        called([(&self.bus, None)], |[bus]| format!("put onto {bus}"))
    }

    fn refuses_batches(&self) -> Option<Problem> {
        None
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let Putter { api, bus, .. } = self.putter(Reach::anywhere()).await?;
        let what = format!("bus {bus}");
        let subject = Subject {
            service: "EventBridge",
            what: &what,
            at: "bus",
            address: if self.endpoint.is_some() {
                "endpoint"
            } else {
                "region"
            },
            rights: "allow them events:PutEvents",
        };
        let deadlines = Deadlines::new(Instant::now(), PROBE_WITHIN);
        let asked = json!({ "Name": bus });
        let told = api.act(
            "AWSEvents.DescribeEventBus",
            JsonVersion::V11,
            &asked,
            deadlines,
        );
        match told.await {
            Ok(_) => Ok(format!("the bus {bus} is there; nothing was put onto it")),
            // Whoever may put need not be allowed to ask for this.
            Err(Failure::Refused(refusal)) if refusal.is_forbidden() => Ok(format!(
                "EventBridge knows the credentials; the bus {bus} may not be asked \
                 (events:DescribeEventBus)"
            )),
            Err(failure) => Err(failure.problem(subject)),
        }
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let putter = Arc::new(self.putter(Reach::of(&context)).await?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt: Attempt| {
                let putter = Arc::clone(&putter);
                async move { Ok::<_, AttemptError>(deliver(&*putter, &attempt).await) }
            },
        )))
    }
}
