//! A drawing in three columns: sources, rules, targets.

use std::fmt::Write;

use super::topology::{Edge, Node, Place, Topology};
use crate::columns::{MIDDLE, rows};

/// In pixels, as everything here.
const WIDTH: usize = 240;
const HEIGHT: usize = 44;
const GAP: usize = 14;
const BETWEEN: usize = 120;
const MARGIN: usize = 20;
const HEADING: usize = 30;

/// Longer names are cut; the whole one is the box's title.
const LABEL_CHARS_MAX: usize = 30;

const STYLE: &str = "
  text { font: 14px system-ui, sans-serif; fill: #1b1f24 } .kind, .head { font-size: 11px; fill: #656d76 }
  rect { fill: #fff; stroke: #8c959f } .rule rect { fill: #ddf4ff; stroke: #54aeff } .any rect { stroke-dasharray: 4 3 }
  path { fill: none; stroke: #8c959f; stroke-width: 1.5 } .success { stroke: #2da44e; stroke-dasharray: 5 4 } .failure { stroke: #cf222e; stroke-dasharray: 5 4 }
  .ground { fill: #f6f8fa; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .kind, .head { fill: #9198a1 } rect { fill: #161b22; stroke: #656c76 } .rule rect { fill: #121d2f; stroke: #388bfd }
    path { stroke: #656c76 } .success { stroke: #3fb950 } .failure { stroke: #f85149 } .ground { fill: #0d1117 }
  }
";

/// Where a node stands.
#[derive(Clone, Copy, Default)]
struct Position {
    x: usize,
    y: usize,
}

/// The image, which follows whether its reader wants it dark.
pub(super) fn svg(topology: &Topology) -> String {
    let (positions, rows) = places(topology);
    let width = 3 * WIDTH + 2 * BETWEEN + 2 * MARGIN;
    let height = HEADING + rows.max(1) * (HEIGHT + GAP) + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Sources, rules and targets\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n"
    );
    for (column, heading) in ["SOURCES", "RULES", "TARGETS"].into_iter().enumerate() {
        let x = column_x(column);
        // Writing into a text cannot fail, here and below.
        let _ = writeln!(
            out,
            "<text class=\"head\" x=\"{x}\" y=\"{MARGIN}\">{heading}</text>"
        );
    }
    let position = |index: usize| positions.get(index).copied().unwrap_or_default();
    for Edge { from, to, role } in &topology.edges {
        let (from, to) = (position(*from), position(*to));
        let (x1, y1) = (from.x + WIDTH, from.y + HEIGHT / 2);
        let (x2, y2) = (to.x, to.y + HEIGHT / 2);
        let middle = x1 + BETWEEN / 2;
        let class = match role.label() {
            Some("on success") => " class=\"success\"",
            Some(_) => " class=\"failure\"",
            None => "",
        };
        let title = role
            .label()
            .map_or_else(String::new, |label| format!("<title>{label}</title>"));
        let _ = writeln!(
            out,
            "<path{class} d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\">{title}</path>"
        );
    }
    for (index, node) in topology.nodes.iter().enumerate() {
        draw(&mut out, node, position(index));
    }
    out.push_str("</svg>\n");
    out
}

fn column_x(column: usize) -> usize {
    MARGIN + column * (WIDTH + BETWEEN)
}

fn draw(out: &mut String, node: &Node, Position { x, y }: Position) {
    let class = match (node.place, node.kind) {
        (Place::Rule, _) => "rule",
        (Place::Source, "") => "any",
        _ => "end",
    };
    let title = match &node.description {
        Some(description) => format!("{}: {description}", node.label),
        None => node.label.clone(),
    };
    let label = crate::output::shortened(&node.label, LABEL_CHARS_MAX);
    let (text_x, text_y, kind_y) = (x + 12, y + 20, y + 36);
    let _ = writeln!(
        out,
        "<g class=\"{class}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         rx=\"6\"/><text x=\"{text_x}\" y=\"{text_y}\">{}</text><text class=\"kind\" x=\"{text_x}\" \
         y=\"{kind_y}\">{}</text></g>",
        escaped(&title),
        escaped(&label),
        escaped(node.kind)
    );
}

/// Where each node stands, and how many rows there are.
fn places(topology: &Topology) -> (Vec<Position>, usize) {
    let columns: Vec<usize> = topology.nodes.iter().map(column).collect();
    let edges = topology.edges.iter().map(|edge| (edge.from, edge.to));
    let (rows, height) = rows(&columns, &edges.collect::<Vec<_>>());
    let position = |(column, row): (usize, usize)| Position {
        x: column_x(column),
        y: HEADING + row * (HEIGHT + GAP),
    };
    let positions = columns.into_iter().zip(rows).map(position);
    (positions.collect(), height)
}

fn column(node: &Node) -> usize {
    match node.place {
        Place::Source => 0,
        Place::Rule => MIDDLE,
        Place::Target => 2,
    }
}

/// As text in XML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no place for other control characters.
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
