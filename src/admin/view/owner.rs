//! Whose deliveries are meant.

use pointsman_schemas::Name;

/// Of which tenant, rule and target: all that are set must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OwnerFilter {
    /// Of this tenant
    #[arg(long)]
    pub tenant: Option<Name>,
    /// Of this rule
    #[arg(long)]
    pub rule: Option<Name>,
    /// For this target
    #[arg(long)]
    pub target: Option<Name>,
}

impl OwnerFilter {
    /// Whether these are meant.
    #[must_use]
    pub fn admits(&self, tenant: &Name, rule: &Name, target: &Name) -> bool {
        let is = |wanted: &Option<Name>, name: &Name| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        is(&self.tenant, tenant) && is(&self.rule, rule) && is(&self.target, target)
    }

    /// What is set, as the API's queries name it.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names = [
            ("tenant", &self.tenant),
            ("rule", &self.rule),
            ("target", &self.target),
        ];
        names
            .into_iter()
            .filter_map(|(key, name)| Some((key, name.as_ref()?.as_str())))
    }
}
