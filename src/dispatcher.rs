//! x
pub mod circuit;
pub mod fair;
pub mod limit;
pub mod rate;
pub mod schedule;
