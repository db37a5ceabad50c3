//! Patterns, JSONPath conditions and templates over CloudEvents.
//!
//! Everything here is pure: no IO, no runtime, no state but what the caller passes in, and no clock
//! but where a template asks for `now` ([`Document::now`]). A rule is compiled once, which finds
//! every mistake in it ([`pointsman_schemas::Problem`]), and evaluated often, which never fails and
//! allocates nothing where nothing matches.
//!
//! | to | see |
//! |---|---|
//! | match events against many rules | [`RuleSet`] |
//! | hold one `match` or one `where` against any JSON | [`Pattern`], [`Condition`], [`Document`] |
//! | hold `filters` against an event | [`Filters`], [`Cesql`] |
//! | hold all that a rule asks for against one document | [`Filter`] |
//! | fill in texts and values | [`TextTemplate`], [`JsonTemplate`] |
//! | change an event, or make one | [`Transform`], [`EventMapping`] |
//! | say why a rule did or did not match | [`explain()`], [`RuleSet::explain`] |

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a test may tell a long story")
)]

pub mod cesql;
mod comparator;
pub mod condition;
mod date;
pub mod document;
pub mod explain;
mod fields;
pub mod filters;
mod hits;
mod i_regexp;
mod index;
pub mod jq;
mod json;
mod literal;
mod number;
pub mod origin;
pub mod path;
pub mod pattern;
pub mod rule;
pub mod ruleset;
pub mod schema;
mod scratch;
pub mod shape;
pub mod template;
pub mod transform;
mod workings;

pub use cesql::Cesql;
pub use condition::Condition;
pub use document::{Document, Node};
pub use explain::{Alternative, Check, Explanation, explain, nearest_misses};
pub use filters::{Filters, RawFilter};
pub use origin::{Origin, OriginSet};
pub use path::{Found, Path};
pub use pattern::Pattern;
pub use rule::{Filter, Rule};
pub use ruleset::RuleSet;
pub use schema::EventSchema;
pub use scratch::Scratch;
pub use shape::Shape;
pub use template::{JsonTemplate, RenderError, TextTemplate};
pub use transform::{
    EventMapping, RawAttributes, RawMapping, RawTransform, Transform, TransformError,
};
