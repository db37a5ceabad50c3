//! What an event costs at each stage of its way, in instructions: a profile of callgrind is read,
//! and what was done is attributed to the stages.

pub mod callgrind;
pub mod figures;
pub mod stages;
pub mod symbols;
