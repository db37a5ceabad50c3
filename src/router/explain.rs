//! Why the rules of a tenant take an event, or do not.

use pointsman_rules::{Explanation, Scratch};
use pointsman_schemas::{Event, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamedRule, OTHER_SOURCES, Router, TenantRules};

/// Why the rules of a tenant take an event, or do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// The rules that take it, in the order of the files.
    pub taken: Vec<Name>,
    /// The rule that was asked for, or those that do not take it, the nearest first.
    pub rules: Vec<RuleExplanation>,
    /// How many that do not take it are left out.
    pub omitted: usize,
}

/// Why one rule takes an event, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleExplanation {
    pub rule: Name,
    #[serde(flatten)]
    pub explanation: Explanation,
}

impl Explained {
    fn keep_nearest(&mut self, limit: usize) {
        self.rules.sort_by_key(|one| one.explanation.distance());
        self.omitted += self.rules.len().saturating_sub(limit);
        self.rules.truncate(limit);
    }
}

impl Router {
    /// Why the rules of a tenant take an event or do not: of one rule, or of all those that do not,
    /// the nearest first, at most `limit`. None where there is no such rule.
    #[must_use]
    pub fn explain(
        &self,
        tenant: &Name,
        origin: &Name,
        event: &Event,
        rule: Option<&Name>,
        limit: usize,
    ) -> Option<Explained> {
        let explained = self
            .tenants
            .get(tenant)
            .map(|rules| rules.explain(origin, event, rule, limit))
            .unwrap_or_default();
        (rule.is_none() || !explained.rules.is_empty()).then_some(explained)
    }

    /// The rules of a tenant that take an event from this source, or from any one where none is
    /// named, in the order of the files.
    #[must_use]
    pub fn taken(&self, tenant: &Name, origin: Option<&Name>, event: &Event) -> Vec<&Name> {
        self.tenants
            .get(tenant)
            .map(|rules| rules.taken(origin, event))
            .unwrap_or_default()
    }

    /// Why a rule takes an event or does not, whatever its `from`. None where there is no such
    /// rule.
    #[must_use]
    pub fn explain_content(
        &self,
        tenant: &Name,
        rule: &Name,
        event: &Event,
    ) -> Option<Explanation> {
        let rules = self.tenants.get(tenant)?;
        let (index, found) = (0..).zip(&rules.rules).find(|(_, one)| one.name == *rule)?;
        let origin = found
            .from
            .as_ref()
            .and_then(|names| names.first())
            .map_or(OTHER_SOURCES, |name| rules.origin(name));
        rules.set.explain(index, origin, event)
    }
}

impl TenantRules {
    fn taken(&self, origin: Option<&Name>, event: &Event) -> Vec<&Name> {
        let origins = match origin {
            Some(origin) => vec![self.origin(origin)],
            None => self
                .origins
                .values()
                .copied()
                .chain([OTHER_SOURCES])
                .collect(),
        };
        let (mut scratch, mut taken) = (Scratch::default(), Vec::new());
        for origin in origins {
            self.set
                .matches_into(origin, event, &mut scratch, &mut taken);
        }
        taken.sort_unstable();
        taken.dedup();
        self.at(&taken).map(|rule| &rule.name).collect()
    }

    fn explain(
        &self,
        origin: &Name,
        event: &Event,
        only: Option<&Name>,
        limit: usize,
    ) -> Explained {
        let (number, mut matched) = (self.origin(origin), Vec::new());
        self.set
            .matches_into(number, event, &mut Scratch::default(), &mut matched);
        let mut explained = Explained {
            taken: self.at(&matched).map(|rule| rule.name.clone()).collect(),
            ..Explained::default()
        };
        let asked_for = |rule: &NamedRule| only.is_none_or(|only| *only == rule.name);
        for (index, rule) in (0..).zip(&self.rules).filter(|(_, rule)| asked_for(rule)) {
            let Some(mut explanation) = self.set.explain(index, number, event) else {
                continue;
            };
            rule.name_sources(&mut explanation, origin);
            if only.is_some() || !explanation.matches {
                explained.rules.push(RuleExplanation {
                    rule: rule.name.clone(),
                    explanation,
                });
            }
            // The explanations of ten thousand rules are never held at once.
            if explained.rules.len() > 2 * limit {
                explained.keep_nearest(limit);
            }
        }
        explained.keep_nearest(limit);
        explained
    }
}

impl NamedRule {
    /// Writes the names of sources into the check of `from`: the set of rules knows them by number
    /// only.
    fn name_sources(&self, explanation: &mut Explanation, origin: &Name) {
        let checks = explanation.checks.iter_mut();
        for check in checks.filter(|check| check.field == "from") {
            check.expected = self.from.as_ref().map_or_else(
                || "any source but replies".to_owned(),
                |names| {
                    let names: Vec<_> = names.iter().map(Name::as_str).collect();
                    names.join(" or ")
                },
            );
            check.found = Some(origin.to_string());
        }
    }
}
