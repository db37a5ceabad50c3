//! The rules under test, and what they make of an event.

use pointsman_schemas::Name;

use super::{TestResult, made};
use crate::config::{Config, Expectation, Rule, Test};
use crate::router::{Router, RuleInForce};

/// The rules of a configuration, compiled together as a running bus has them, and all else of it.
#[derive(Debug)]
pub struct RulesInTest {
    config: Config,
    router: Router,
}

impl RulesInTest {
    /// Compiles the rules.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        let in_force = config.rules.iter_mut().map(|rule| RuleInForce {
            tenant: rule.tenant.clone(),
            name: rule.name.clone(),
            pipe: rule.pipe,
            from: rule.from.clone(),
            filter: std::mem::take(&mut rule.filter),
            deduplicate: None,
            retention: None,
            subscriptions: Vec::new(),
        });
        let router = Router::new(in_force.collect());
        Self { config, router }
    }

    /// Runs all tests.
    #[must_use]
    pub fn run(&self) -> Vec<TestResult> {
        self.config
            .tests
            .iter()
            .map(|test| self.try_one(test))
            .collect()
    }

    /// Runs one test against the rules of its tenant.
    fn try_one(&self, test: &Test) -> TestResult {
        let rules: Vec<&Rule> = self
            .config
            .rules
            .iter()
            .filter(|rule| rule.tenant == test.tenant)
            .collect();
        let taken = self
            .router
            .taken(&test.tenant, test.from.as_ref(), &test.event);
        let is_tried = |rule: &Rule| test.from.is_some() || is_looked_at(rule, test);
        let firing: Vec<&Rule> = rules
            .iter()
            .copied()
            .filter(|rule| taken.contains(&&rule.name) && is_tried(rule))
            .collect();
        let (mut failures, mut differences) = (Vec::new(), Vec::new());
        if test.expect.is_empty() && !firing.is_empty() {
            failures.extend(firing.iter().map(|rule| {
                format!(
                    "no rule should fire, and {} {}",
                    rule.name,
                    self.why(rule, test)
                )
            }));
        }
        for (name, expectation) in &test.expect {
            let fires = firing.iter().find(|rule| rule.name == *name);
            match (expectation, fires) {
                (Expectation::Silent, None) => {}
                (Expectation::Silent, Some(rule)) => failures.push(format!(
                    "{name} should not fire, and {}",
                    self.why(rule, test)
                )),
                (Expectation::Fires(_), None) => {
                    failures.extend(
                        rules
                            .iter()
                            .find(|rule| rule.name == *name)
                            .map(|rule| self.why_not(rule, test)),
                    );
                }
                (Expectation::Fires(expected), Some(rule)) => {
                    match made::differences_of(rule, test, expected, &self.config) {
                        Ok(None) => {}
                        Ok(Some(found)) => differences.push(found),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        let (file, line) = test.place.clone();
        let fires = firing.iter().map(|rule| rule.name.clone()).collect();
        TestResult {
            name: test.name.clone(),
            file,
            line,
            fires,
            failures,
            differences,
        }
    }

    fn why_not(&self, rule: &Rule, test: &Test) -> String {
        let takes_from = match (&test.from, &rule.from) {
            (Some(from), Some(taken)) => taken.contains(from),
            (Some(from), None) => {
                *from != Name::replies() && !self.config.feeds_pipe(&test.tenant, from)
            }
            (None, _) => true,
        };
        if !takes_from {
            return format!(
                "{} does not fire: it takes nothing from {}",
                rule.name,
                test.from.as_ref().map_or("", Name::as_str)
            );
        }
        format!("{} {}", rule.name, self.why(rule, test))
    }

    /// Why a rule fires or does not, whatever its `from`.
    fn why(&self, rule: &Rule, test: &Test) -> String {
        if !rule.has_conditions() {
            return "takes everything from its sources".to_owned();
        }
        let explanation = self
            .router
            .explain_content(&test.tenant, &rule.name, &test.event);
        explanation
            .map(|explanation| explanation.to_string().trim_end().to_owned())
            .unwrap_or_default()
    }
}

/// Whether a test that names no source looks at the rule, whose `from` is passed over then. One
/// that has no other condition would take every test's event, so it counts only where the test
/// expects it.
fn is_looked_at(rule: &Rule, test: &Test) -> bool {
    rule.from.is_none()
        || rule.has_conditions()
        || test.expect.iter().any(|(name, _)| *name == rule.name)
}
