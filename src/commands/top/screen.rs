//! Draws it.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, Wrap};

use super::state::{Tab, Top};
use super::view::{SourceRow, SubscriptionRow, TargetRow, View};
use crate::output::{self, line};

const SUBSCRIPTIONS: [&str; 9] = [
    "RULE → TARGET",
    "STATE",
    "DELIVERED/S",
    "DEAD/S",
    "PENDING",
    "RETRYING",
    "IN FLIGHT",
    "OLDEST",
    "DEAD",
];
const SOURCES: [&str; 7] = [
    "SOURCE",
    "KIND",
    "STATE",
    "EVENTS/S",
    "REJECTS",
    "LAG",
    "LAST ERROR",
];
const TARGETS: [&str; 9] = [
    "TARGET",
    "KIND",
    "CIRCUIT",
    "ATTEMPTS/S",
    "FAILED/S",
    "P50",
    "P99",
    "IN FLIGHT",
    "LAST ERROR",
];

const KEYS: &str = "tab table  s sort  r reverse  ↑↓ choose  enter whole  p hold  q quit";

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, top: &mut Top) {
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(1),
    ]);
    let [head, body, foot] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(vec![of_bus(top), tabs(top)]), head);
    match top.tab {
        Tab::Subscriptions => {
            let rows = top.view.subscriptions.iter();
            let rows = rows.map(|one| Row::new(subscription(one)).style(of_subscription(one)));
            let table = table(
                rows.collect(),
                SUBSCRIPTIONS,
                [30, 10, 11, 8, 9, 9, 9, 9, 8],
            );
            frame.render_stateful_widget(table, body, &mut top.rows);
        }
        Tab::Sources => {
            let rows = top.view.sources.iter();
            let rows =
                rows.map(|one| Row::new(source(one)).style(of_state(one.state != "running")));
            let table = table(rows.collect(), SOURCES, [24, 16, 10, 10, 9, 10, 30]);
            frame.render_stateful_widget(table, body, &mut top.rows);
        }
        Tab::Targets => {
            let rows = top.view.targets.iter();
            let rows =
                rows.map(|one| Row::new(target(one)).style(of_state(one.circuit != "closed")));
            let table = table(rows.collect(), TARGETS, [24, 14, 8, 11, 9, 9, 9, 11, 24]);
            frame.render_stateful_widget(table, body, &mut top.rows);
        }
    }
    frame.render_widget(Line::from(KEYS).dim(), foot);
    if top.shows_detail {
        draw_detail(frame, top);
    }
}

/// The same for what is no terminal: every table, one below the other.
pub(super) fn as_text(view: &View) -> String {
    let subscriptions = output::table(SUBSCRIPTIONS, view.subscriptions.iter().map(subscription));
    let sources = output::table(SOURCES, view.sources.iter().map(source));
    let targets = output::table(TARGETS, view.targets.iter().map(target));
    format!("{subscriptions}\n{sources}\n{targets}")
}

fn table<const N: usize>(
    rows: Vec<Row<'static>>,
    headings: [&'static str; N],
    widths: [u16; N],
) -> Table<'static> {
    // The first column takes what is left.
    let widths = widths.into_iter().enumerate();
    let widths = widths.map(|(column, width)| match column {
        0 => Constraint::Min(width),
        _ => Constraint::Length(width),
    });
    Table::new(rows, widths)
        .header(Row::new(headings).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

/// The line of the bus: how much happens in all, and what is wrong.
fn of_bus(top: &Top) -> Line<'static> {
    let View {
        subscriptions,
        sources,
        ..
    } = &top.view;
    let events: f64 = sources.iter().map(|one| one.events).sum();
    let delivered: f64 = subscriptions.iter().map(|one| one.delivered).sum();
    let pending: u64 = subscriptions.iter().map(|one| one.pending).sum();
    let dead: u64 = subscriptions.iter().map(|one| one.dead).sum();
    let uptime = Duration::from_secs_f64(top.view.uptime_seconds.max(0.0));
    let told = format!(
        "pointsman {} at {}, up {}  {} events/s  {} delivered/s  {pending} pending  {dead} dead",
        line(&top.view.version),
        top.address,
        ago(uptime.as_secs_f64()),
        number(events),
        number(delivered),
    );
    let mut spans = vec![Span::raw(told)];
    if !top.view.ready {
        let missing = line(&top.view.missing.join(", ")).into_owned();
        spans.push(Span::styled(format!("  not ready: {missing}"), Color::Red));
    }
    if let Some(trouble) = &top.trouble {
        spans.push(Span::styled(format!("  {}", line(trouble)), Color::Red));
    }
    Line::from(spans)
}

fn tabs(top: &Top) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, tab) in (1..).zip(Tab::ALL) {
        let span = Span::raw(format!(" {number} {} ", tab.title()));
        spans.push(if tab == top.tab {
            span.reversed()
        } else {
            span
        });
    }
    let order = top.order.title();
    let turned = if top.is_reversed { ", reversed" } else { "" };
    spans.push(Span::raw(format!("  by {order}{turned}")).dim());
    if top.is_held {
        spans.push(Span::styled("  held", Color::Yellow));
    }
    Line::from(spans)
}

fn of_subscription(one: &SubscriptionRow) -> Style {
    match &*one.state {
        "active" if one.retrying == 0 => Style::new(),
        "active" | "own lane" => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red),
    }
}

fn of_state(is_wrong: bool) -> Style {
    match is_wrong {
        true => Style::new().fg(Color::Red),
        false => Style::new(),
    }
}

fn subscription(one: &SubscriptionRow) -> [String; 9] {
    let role = match &*one.role {
        "to" => String::new(),
        role => format!(" ({role})"),
    };
    [
        format!(
            "{} → {}{role}",
            of_tenant(&one.tenant, &one.rule),
            one.target
        ),
        one.state.clone(),
        number(one.delivered),
        number(one.died),
        one.pending.to_string(),
        one.retrying.to_string(),
        one.in_flight.to_string(),
        one.oldest_seconds.map_or_else(String::new, ago),
        one.dead.to_string(),
    ]
}

fn source(one: &SourceRow) -> [String; 7] {
    [
        of_tenant(&one.tenant, &one.name),
        one.kind.clone(),
        one.state.clone(),
        number(one.events),
        one.rejects.to_string(),
        one.lag.map_or_else(String::new, |lag| lag.to_string()),
        of_error(one.last_error.as_deref()),
    ]
}

fn target(one: &TargetRow) -> [String; 9] {
    let time = |seconds: Option<f64>| {
        seconds.map_or_else(String::new, |time| format!("≤ {}", short(time)))
    };
    [
        of_tenant(&one.tenant, &one.name),
        one.kind.clone(),
        one.circuit.clone(),
        number(one.attempts),
        number(one.failed),
        time(one.p50_seconds),
        time(one.p99_seconds),
        format!("{} of {}", one.in_flight, one.limit),
        of_error(one.last_error.as_deref()),
    ]
}

/// The name of something, with its tenant where that is not the usual one.
fn of_tenant(tenant: &str, name: &str) -> String {
    match tenant {
        "default" => name.to_owned(),
        tenant => format!("{tenant}/{name}"),
    }
}

fn of_error(error: Option<&str>) -> String {
    line(error.unwrap_or_default()).into_owned()
}

/// A rate.
fn number(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn short(seconds: f64) -> String {
    match seconds < 1.0 {
        true => format!("{} ms", seconds * 1_000.0),
        false => format!("{seconds} s"),
    }
}

/// How long something has lasted, roughly.
fn ago(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 60.0 => format!("{seconds:.1} s"),
        seconds if seconds < 3_600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        seconds if seconds < 86_400.0 => format!("{:.0} h", (seconds / 3_600.0).floor()),
        seconds => format!("{:.0} d", (seconds / 86_400.0).floor()),
    }
}

/// Everything about the row that is chosen, over the middle of the screen.
fn draw_detail(frame: &mut Frame<'_>, top: &Top) {
    let Some(chosen) = top.rows.selected() else {
        return;
    };
    let written = match top.tab {
        Tab::Subscriptions => top.view.subscriptions.get(chosen).map(output::json),
        Tab::Sources => top.view.sources.get(chosen).map(output::json),
        Tab::Targets => top.view.targets.get(chosen).map(output::json),
    };
    let Some(Ok(text)) = written else {
        return;
    };
    let area = inner(frame.area());
    let lines: Vec<Line<'_>> = text
        .lines()
        .map(|one| one.trim_start_matches("  ").trim_end_matches(','))
        .filter(|one| !["{", "}"].contains(one))
        .map(|one| Line::from(line(one).into_owned()))
        .collect();
    let sheet = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .block(Block::bordered().title(" esc goes back "));
    frame.render_widget(Clear, area);
    frame.render_widget(sheet, area);
}

/// The middle of an area.
fn inner(area: Rect) -> Rect {
    let [_, middle, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Max(20),
        Constraint::Fill(1),
    ])
    .areas(area);
    let [_, middle, _] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Max(90),
        Constraint::Fill(1),
    ])
    .areas(middle);
    middle
}
