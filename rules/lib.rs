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
//! | fill in texts and values | [`TextTemplate`], [`JsonTemplate`] |
//! | change an event, or make one | [`Transform`], [`EventMapping`] |
//! | say why a rule did or did not match | [`explain()`], [`RuleSet::explain`] |

pub mod cesql;
pub mod condition;
mod date;
pub mod document;
pub mod explain;
mod fields;
pub mod filters;
mod index;
pub mod jq;
mod json;
mod literal;
mod number;
pub mod path;
pub mod pattern;
pub mod ruleset;
pub mod shape;
pub mod template;
pub mod transform;

pub use cesql::Cesql;
pub use condition::Condition;
pub use document::{Document, Node};
pub use explain::{Alternative, Check, Criteria, Explanation, explain, nearest_misses};
pub use filters::{Filters, RawFilter};
pub use path::{Found, Path};
pub use pattern::Pattern;
pub use ruleset::{Origin, OriginSet, Rule, RuleSet, Scratch};
pub use shape::Shape;
pub use template::{JsonTemplate, RenderError, TextTemplate};
pub use transform::{
    EventMapping, RawAttributes, RawMapping, RawTransform, Transform, TransformError,
};
