//! What all exports by OTLP share: <https://opentelemetry.io/docs/specs/otlp/>.

#[cfg(feature = "otlp")]
mod calls;
#[cfg(feature = "otlp")]
mod collector;
pub mod settings;
#[cfg(feature = "otlp")]
mod source;

#[cfg(feature = "otlp")]
pub use self::calls::{Calls, FLUSHED_WITHIN, Words};
#[cfg(feature = "otlp")]
pub use self::source::{Source, attribute, nanoseconds};
