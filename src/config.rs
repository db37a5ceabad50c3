//! The rule files.

pub mod diagnostic;
pub mod mistake;
pub mod reader;
pub mod suggest;
pub mod yaml;
