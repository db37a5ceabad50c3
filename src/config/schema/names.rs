//! The names that rule files define, so that their schema knows what may be referred to.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::Diagnostic;
use crate::config::files::find;
use crate::config::load::names::BUILT_IN_SOURCES;
use crate::config::yaml;

/// What may be referred to in some rule files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Sources, those that are always there included.
    pub sources: BTreeSet<String>,
    /// Targets.
    pub targets: BTreeSet<String>,
    /// Rules and pipes.
    pub rules: BTreeSet<String>,
}

impl Known {
    /// Collects the names of rule files, whatever else is wrong in them.
    ///
    /// # Errors
    /// A file that cannot be read, or is no YAML.
    pub fn of_files(paths: &[PathBuf]) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut known = Self {
            sources: BUILT_IN_SOURCES.map(str::to_owned).into(),
            ..Self::default()
        };
        for file in find(paths, &mut diagnostics) {
            match yaml::read(&file.text) {
                Ok(root) => known.take(&root),
                Err(mistakes) => diagnostics.extend(mistakes.into_iter().take(1).map(|mistake| {
                    let help = "a schema is made for files that can be read; `pointsman check` \
                                says where this is";
                    Diagnostic::of_file(file.name.clone(), mistake.message, help)
                })),
            }
        }
        if diagnostics.is_empty() {
            Ok(known)
        } else {
            Err(diagnostics)
        }
    }

    fn take(&mut self, root: &yaml::Node) {
        for section in root.entries() {
            let names = match section.key.as_str() {
                "sources" => &mut self.sources,
                "targets" => &mut self.targets,
                "rules" | "pipes" => &mut self.rules,
                _ => continue,
            };
            names.extend(
                section
                    .value
                    .entries()
                    .iter()
                    .map(|entry| entry.key.clone()),
            );
        }
    }

    /// Puts the names into a schema as what its references may be.
    pub fn put_into(&self, schema: &mut Value) {
        for (name, known) in [
            ("SourceName", &self.sources),
            ("TargetName", &self.targets),
            ("RuleName", &self.rules),
        ] {
            // An empty list is no enum: the pattern stays.
            if let (Some(Value::Object(definition)), false) = (
                schema.pointer_mut(&format!("/$defs/{name}")),
                known.is_empty(),
            ) {
                definition.insert("enum".to_owned(), json!(known));
            }
        }
    }
}
