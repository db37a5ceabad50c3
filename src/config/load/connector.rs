//! Sources and targets.

use std::collections::HashMap;

use pointsman_connectors::{CONNECTORS, Connector, connector};
use pointsman_rules::TextTemplate;
use pointsman_rules::transform::{EventMapping, RawMapping};
use pointsman_schemas::Name;

use super::addresses;
use super::deduplicate::deduplicate;
use super::meant;
use super::retention;
use super::rule::{compiled, refuse_unwritten};
use super::{Document, Loader};
use crate::config::delivery::Layer;
use crate::config::mistake::Mistake;
use crate::config::raw::RawDelivery;
use crate::config::reader::{Piece, in_full, read, read_erased};
use crate::config::suggest;
use crate::config::yaml::{Entry, Node, Value};
use crate::config::{Source, Target};

/// What the targets say of their deliveries, for rules to lay theirs over it.
pub(super) type TargetLayers<'d> = HashMap<(&'d Name, &'d str), Layer>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn has(self, connector: &Connector) -> bool {
        match self {
            Self::Source => connector.source.exists(),
            Self::Target => connector.target.exists(),
        }
    }

    /// Whether this build has it; where it is none at all, none does.
    fn is_built(self, connector: &Connector) -> bool {
        match self {
            Self::Source => connector.source.built().is_some(),
            Self::Target => connector.target.built().is_some(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

impl<'d> Loader<'d, '_> {
    pub(super) fn source(&self, document: &'d Document<'_>, entry: &'d Entry) -> Option<Source> {
        let piece = document.entity(entry);
        let (connector, at) = kind(piece, Side::Source, &["event", "deduplicate", "retention"])?;
        let settings = read_erased(at, connector.source.built()?.parse);
        if let Some(event) = piece.get("event") {
            if settings
                .as_ref()
                .is_some_and(|settings| settings.always_cloudevents())
            {
                event.mistakes.report(
                    Mistake::new(
                        event.span(),
                        "this source gives CloudEvents alone: `event` is never used",
                    )
                    .warn(),
                );
            }
            refuse_unwritten(event);
        }
        let raw = piece.get("event").and_then(read::<RawMapping>);
        let mapping = compiled(
            piece,
            "event",
            raw,
            |raw| EventMapping::compile(&raw),
            |mapping| mapping.warnings().to_vec(),
        );
        let settings = settings?;
        at.report_check(settings.check());
        let name = Name::new(&entry.key).ok()?;
        for (key, to) in [("deduplicate", "to compare with"), ("retention", "to keep")] {
            if let (Some(at), Some(pipe)) = (piece.get(key), self.fed.pipe_of(document, &name)) {
                at.report_key(
                    format!("`{name}` feeds the pipe `{pipe}`, which stores nothing {to}"),
                    "remove it, or make a rule of the pipe",
                );
            }
        }
        Some(Source {
            name,
            tenant: document.tenant.clone(),
            kind: connector.kind,
            settings,
            mapping,
            deduplicate: deduplicate(piece),
            retention: retention(piece),
            pipe: false,
            is_ordered: false,
            fingerprint: entry.value.fingerprint(),
        })
    }

    pub(super) fn target(
        &self,
        document: &'d Document<'_>,
        entry: &'d Entry,
        layers: &mut TargetLayers<'d>,
    ) -> Option<Target> {
        let piece = document.entity(entry);
        let delivery = piece.get("delivery").and_then(read::<RawDelivery>);
        let layer = Layer::new(delivery, piece);
        let limits = layer.limits();
        layers
            .entry((&document.tenant, &entry.key))
            .or_insert(layer);
        let (connector, at) = kind(piece, Side::Target, &["delivery"])?;
        let settings = read_erased(at, connector.target.built()?.parse)?;
        at.report_check(settings.check());
        if let Some(layer) = layers.get_mut(&(&document.tenant, entry.key.as_str())) {
            layer.refuses_batches = settings.refuses_batches();
            layer.refuse_batch(piece, &entry.key);
        }
        let mut texts = Vec::new();
        for template in settings.templates() {
            match TextTemplate::compile(&template.text, template.placement) {
                Ok(text) => {
                    addresses::in_no_event(at, &template, &text);
                    texts.push(text);
                }
                Err(problem) => {
                    at.report_problems([template
                        .path
                        .into_iter()
                        .rev()
                        .fold(problem, pointsman_schemas::Problem::at)]);
                }
            }
        }
        Some(Target {
            name: Name::new(&entry.key).ok()?,
            tenant: document.tenant.clone(),
            kind: connector.kind,
            settings,
            texts,
            limits,
            fingerprint: entry.value.fingerprint(),
        })
    }
}

/// The connector that an entity names, and its settings.
fn kind<'t>(
    piece: Piece<'t>,
    side: Side,
    options: &[&str],
) -> Option<(&'static Connector, Piece<'t>)> {
    let kinds: Vec<&str> = CONNECTORS
        .iter()
        .filter(|connector| side.has(connector))
        .map(|connector| connector.kind)
        .collect();
    if !matches!(piece.node.value, Value::Map(_)) {
        let help = named_where_it_is_no_mapping(piece.node, side, &kinds);
        piece.report(format!("a {} is a mapping", side.name()), help);
        return None;
    }
    let mut found: Option<(&'static Connector, Piece<'t>)> = None;
    let mut unknown = false;
    for entry in piece
        .node
        .entries()
        .iter()
        .filter(|entry| !options.contains(&entry.key.as_str()))
    {
        match connector(&entry.key) {
            Some(connector) if side.has(connector) => match &found {
                Some((first, _)) => {
                    let message = format!(
                        "this {} has two connectors, `{}` and `{}`",
                        side.name(),
                        first.kind,
                        connector.kind
                    );
                    piece
                        .mistakes
                        .report(Mistake::new(entry.key_span, message).help("make two of it"));
                }
                None => found = Some((connector, piece.child(Some(entry), &entry.value))),
            },
            _ => {
                unknown = true;
                piece
                    .mistakes
                    .report(unknown_kind(entry, side, &kinds, options));
            }
        }
    }
    if let Some((connector, at)) = &found
        && let Some((message, help)) = left_out(connector, side)
    {
        at.report_key(message, help);
        return None;
    }
    if let Some((connector, at)) = &found
        && let Some(help) = in_full(connector.kind, "a mapping", None, at.node, at.source())
    {
        at.report(
            format!("`{}` is a mapping of its settings", connector.kind),
            help,
        );
        return None;
    }
    if found.is_none() && !unknown {
        let message = format!("this {} names no connector", side.name());
        let at = piece.entry.map_or(piece.span(), |entry| entry.key_span);
        piece
            .mistakes
            .report(Mistake::new(at, message).help(suggest::help("", &kinds).1));
    }
    found
}

/// What to write in the place of something that is no mapping.
fn named_where_it_is_no_mapping(node: &Node, side: Side, kinds: &[&str]) -> String {
    let named = match &node.value {
        Value::List(items) => items.first().and_then(Node::text),
        _ => node.text(),
    };
    let usual = match side {
        Side::Source => "webhook",
        Side::Target => "http",
    };
    let kind = named.filter(|kind| kinds.contains(kind)).unwrap_or(usual);
    format!("name its connector: {{ {kind}: … }}")
}

/// What is wrong with a connector that is not part of this build, and what to do.
fn left_out(connector: &Connector, side: Side) -> Option<(String, String)> {
    let kind = connector.kind;
    (!side.is_built(connector)).then(|| {
        (
            format!("this binary was built without the connector `{kind}`"),
            format!("take one with all connectors, or add `{kind}` to the features of cargo build"),
        )
    })
}

fn unknown_kind(entry: &Entry, side: Side, kinds: &[&str], options: &[&str]) -> Mistake {
    let key = entry.key.as_str();
    let told = |message: String, help: String| Mistake::new(entry.key_span, message).help(help);
    let elsewhere = meant::elsewhere(key, side == Side::Source);
    if connector(key).is_some() {
        let other = if side == Side::Source {
            Side::Target
        } else {
            Side::Source
        };
        let instead = elsewhere.map_or_else(|| suggest::help("", kinds).1, str::to_owned);
        return told(
            format!("`{key}` cannot be a {}", side.name()),
            format!("it is a {} alone; {instead}", other.name()),
        );
    }
    let alias = CONNECTORS
        .iter()
        .find(|connector| side.has(connector) && connector.also_known_as.contains(&key));
    if let Some(connector) = alias {
        return told(
            format!("there is no connector `{key}`"),
            format!("did you mean `{}`?", connector.kind),
        );
    }
    if side == Side::Target
        && let Some(written) = meant::of_delivery(key, &entry.value)
    {
        return told(
            format!("unknown key `{key}`"),
            format!(
                "settings of delivery stand under `delivery`: write `delivery: {{ {written} }}`"
            ),
        );
    }
    if let Some(instead) = elsewhere {
        return told(format!("there is no connector `{key}`"), instead.to_owned());
    }
    let known: Vec<&str> = kinds.iter().chain(options).copied().collect();
    match suggest::meant(key, known.iter().copied()) {
        Some(option) if options.contains(&option) => told(
            format!("unknown key `{key}`"),
            format!("did you mean `{option}`?"),
        ),
        Some(kind) => told(
            format!("there is no connector `{key}`"),
            format!("did you mean `{kind}`?"),
        ),
        None => told(
            format!("there is no connector `{key}`"),
            suggest::help(key, kinds).1,
        ),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_connectors::Support;

    use super::*;

    #[test]
    fn a_connector_that_was_left_out_is_named_with_its_feature() {
        let nats = Connector {
            kind: "nats",
            also_known_as: &[],
            source: Support::LeftOut,
            target: Support::LeftOut,
        };
        for side in [Side::Source, Side::Target] {
            assert!(side.has(&nats), "it is no unknown name");
            let (message, help) = left_out(&nats, side).unwrap();
            assert_eq!(
                message,
                "this binary was built without the connector `nats`"
            );
            assert!(help.contains("add `nats` to the features"), "{help}");
        }
        let timer = connector("timer").unwrap();
        assert!(left_out(timer, Side::Source).is_none());
    }

    #[test]
    #[cfg(all(
        feature = "eventbridge",
        feature = "kafka",
        feature = "lambda",
        feature = "nats",
        feature = "object-storage",
        feature = "rabbitmq",
        feature = "sns",
        feature = "sqs"
    ))]
    fn a_build_with_all_features_has_all_connectors() {
        for connector in CONNECTORS {
            for side in [Side::Source, Side::Target] {
                assert_eq!(
                    side.has(connector),
                    side.is_built(connector),
                    "{}",
                    connector.kind
                );
            }
        }
    }
}
