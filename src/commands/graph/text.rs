//! Drawings that another program lays out.

use std::fmt::Write;

use super::topology::{Edge, Node, Place, Topology};

/// A flowchart of Mermaid. Names hold nothing that it would take for syntax, and descriptions are
/// left out.
pub(super) fn mermaid(topology: &Topology) -> String {
    let mut out = "flowchart LR\n".to_owned();
    for (index, node) in topology.nodes.iter().enumerate() {
        let (open, close) = match node.place {
            Place::Source => ("([", "])"),
            Place::Rule => ("[", "]"),
            Place::Target => ("[[", "]]"),
        };
        // Writing into a text cannot fail, here and below.
        let _ = writeln!(out, "  n{index}{open}\"{}\"{close}", lines(node, "<br>"));
    }
    for Edge { from, to, role } in &topology.edges {
        let arrow = match role.label() {
            None => "-->".to_owned(),
            Some(label) => format!("-. {label} .->"),
        };
        let _ = writeln!(out, "  n{from} {arrow} n{to}");
    }
    out
}

/// A graph of Graphviz.
pub(super) fn dot(topology: &Topology) -> String {
    let mut out =
        "digraph pointsman {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n"
            .to_owned();
    for place in Place::ALL {
        out.push_str("  { rank=same;");
        for (index, node) in topology.nodes.iter().enumerate() {
            if node.place == place {
                let style = if place == Place::Rule {
                    "solid"
                } else {
                    "rounded"
                };
                let _ = write!(
                    out,
                    " n{index} [label=\"{}\", style={style}];",
                    lines(node, "\\n")
                );
            }
        }
        out.push_str(" }\n");
    }
    for Edge { from, to, role } in &topology.edges {
        let how = role.label().map_or_else(String::new, |label| {
            format!(" [label=\"{label}\", style=dashed]")
        });
        let _ = writeln!(out, "  n{from} -> n{to}{how};");
    }
    out.push_str("}\n");
    out
}

/// What a node's box says.
fn lines(node: &Node, between: &str) -> String {
    match node.kind {
        "" | "rule" => node.label.clone(),
        kind => format!("{}{between}{kind}", node.label),
    }
}
