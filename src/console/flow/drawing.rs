//! The graph as an image: three columns, ways as thick as what goes along them.

use maud::{Markup, html};

use super::graph::{Edge, Graph, Node};
use crate::columns::rows;
use crate::output::shortened;

/// In units of the image, as everything here.
const WIDTH: f64 = 236.0;
const HEIGHT: f64 = 42.0;
const GAP: f64 = 12.0;
const BETWEEN: f64 = 130.0;
const MARGIN: f64 = 4.0;
const HEADING: f64 = 22.0;

/// Longer labels are cut; the whole one is in the title.
const LABEL_CHARS_MAX: usize = 30;
const DETAIL_CHARS_MAX: usize = 40;

#[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
fn place(column: usize, row: usize) -> (f64, f64) {
    let x = MARGIN + column as f64 * (WIDTH + BETWEEN);
    (x, HEADING + row as f64 * (HEIGHT + GAP))
}

pub(super) fn drawing(graph: &Graph) -> Markup {
    let columns: Vec<usize> = graph.nodes.iter().map(|node| node.column).collect();
    let ways: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| (edge.from, edge.to))
        .collect();
    let (rows, height) = rows(&columns, &ways);
    let places: Vec<_> = columns
        .iter()
        .zip(&rows)
        .map(|(column, row)| place(*column, *row))
        .collect();
    let at = |index: usize| places.get(index).copied().unwrap_or_default();
    let width = 3.0 * WIDTH + 2.0 * (BETWEEN + MARGIN);
    let (_, bottom) = place(0, height.max(1));
    html! {
        svg viewBox={ "0 0 " (width) " " (bottom) } role="group" aria-label="Sources, rules and targets" {
            @for (column, heading) in ["SOURCES", "RULES AND PIPES", "TARGETS"].into_iter().enumerate() {
                text .heading x=(place(column, 0).0) y="12" { (heading) }
            }
            @for edge in &graph.edges { (way(edge, at(edge.from), at(edge.to))) }
            @for (index, node) in graph.nodes.iter().enumerate() { (of_node(node, at(index))) }
        }
    }
}

fn way(edge: &Edge, from: (f64, f64), to: (f64, f64)) -> Markup {
    let (x1, y1) = (from.0 + WIDTH, from.1 + HEIGHT / 2.0);
    let (x2, y2) = (to.0, to.1 + HEIGHT / 2.0);
    let middle = x1 + BETWEEN / 2.0;
    let class = format!(
        "{}{}",
        edge.health.class(),
        if edge.aside { " aside" } else { "" }
    );
    html! {
        path class=(class) stroke-width=(format!("{:.1}", thickness(edge.rate)))
            d={ "M" (x1) " " (y1) "C" (middle) " " (y1) " " (middle) " " (y2) " " (x2) " " (y2) } {
            title { (edge.title) }
        }
    }
}

/// Ten times as much is as much thicker everywhere.
fn thickness(rate: f64) -> f64 {
    (1.4 + 2.4 * (1.0 + rate.max(0.0)).log10()).min(14.0)
}

fn of_node(node: &Node, (x, y): (f64, f64)) -> Markup {
    html! {
        a href=(node.href) id=(node.id) class=(node.health.class())
            aria-label={ (node.label) ", " (node.word) ", " (node.detail) } {
            title { (node.label) ": " (node.word) }
            rect .box x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="5" {}
            rect .mark x=(x) y=(y) width="5" height=(HEIGHT) rx="2" {}
            text x=(x + 14.0) y=(y + 18.0) { (shortened(&node.label, LABEL_CHARS_MAX)) }
            text .small x=(x + 14.0) y=(y + 34.0) { (shortened(&node.detail, DETAIL_CHARS_MAX)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::thickness;

    #[test]
    fn ways_grow_with_what_goes_along_them_and_not_for_ever() {
        let all = [0.0, 1.0, 100.0, 10_000.0, 1e12].map(thickness);
        assert!(all.windows(2).all(|two| two[0] < two[1]), "{all:?}");
        assert_eq!((all[0], all[4]), (1.4, 14.0));
    }
}
