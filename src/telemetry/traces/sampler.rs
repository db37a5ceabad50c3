//! Which traces are recorded.

use pointsman_schemas::trace::TraceParent;

/// How many bits of an id decide.
const BITS: i32 = 56;

/// Decides by what an event says of its trace, or by the trace's id alone: so each part of the bus
/// comes to the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The part of all traces that is recorded, from 0 to 1, where it is decided here.
    pub ratio: f64,
    /// Whether an event of a trace is recorded where whoever began the trace has it recorded.
    pub follows_parent: bool,
}

impl Sampler {
    /// Whether an event of a trace is recorded.
    pub(super) fn takes(&self, parent: &TraceParent) -> bool {
        if self.follows_parent {
            return parent.flags.is_sampled();
        }
        // Consistent probability sampling of OpenTelemetry: the same traces as others take who
        // decide so, or more of them.
        #[expect(
            clippy::cast_precision_loss,
            reason = "56 bits are compared with a part of 2^56"
        )]
        let randomness = parent.trace_id.randomness() as f64;
        randomness >= (1.0 - self.ratio) * 2_f64.powi(BITS)
    }

    /// Whether an event that belongs to no trace begins one.
    pub(super) fn begins(&self) -> bool {
        self.ratio > 0.0 && rand::random::<f64>() < self.ratio
    }
}
