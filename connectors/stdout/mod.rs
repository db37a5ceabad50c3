//! Standard output, for a look at what goes by.
//!
//! The target prints each delivery as one line: the CloudEvent in the JSON format, binary data as
//! `data_base64`. Line breaks between the tokens of JSON data become spaces, everything else stays
//! as it came. It has no settings. How lines are written: `printer.rs`.

use std::io;

use async_trait::async_trait;
use pointsman_schemas::{Problem, TemplateText};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::printer::{events, printer};
use crate::{Called, OpenError, TargetContext, TargetService, TargetSettings};

/// Prints each event as a line of JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutTarget {}

#[async_trait]
impl TargetSettings for StdoutTarget {
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Vec::new()
    }

    fn called(&self) -> Called {
        Called::always("stdout")
    }

    async fn probe(&self) -> Result<String, OpenError> {
        Ok("needs no connection".to_owned())
    }

    async fn open(&self, _: TargetContext) -> Result<TargetService, OpenError> {
        Ok(printer(io::stdout(), "standard output", events))
    }
}
