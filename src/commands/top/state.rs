//! What is on the screen, and what keys do to it.

use std::cmp::Ordering;

use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

use super::view::{SourceRow, SubscriptionRow, TargetRow, View};

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Quit,
}

/// Which table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Subscriptions,
    Sources,
    Targets,
}

impl Tab {
    pub(super) const ALL: [Self; 3] = [Self::Subscriptions, Self::Sources, Self::Targets];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::Sources => "sources",
            Self::Targets => "targets",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Subscriptions => Self::Sources,
            Self::Sources => Self::Targets,
            Self::Targets => Self::Subscriptions,
        }
    }
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// What happens in a second.
    Rate,
    /// What waits: a backlog, a lag, what is in flight.
    Backlog,
    /// How old, or how slow.
    Time,
    /// What goes wrong.
    Errors,
    Name,
}

impl Order {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Backlog => "backlog",
            Self::Time => "time",
            Self::Errors => "errors",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Backlog,
            Self::Backlog => Self::Time,
            Self::Time => Self::Errors,
            Self::Errors => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

/// The screen.
pub(super) struct Top {
    pub(super) view: View,
    /// Where the bus is.
    pub(super) address: String,
    pub(super) tab: Tab,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    pub(super) rows: TableState,
    /// Whether the row that is chosen is shown whole.
    pub(super) shows_detail: bool,
    /// Whether what is shown stays.
    pub(super) is_held: bool,
    /// Why the bus could not be asked last.
    pub(super) trouble: Option<String>,
}

impl Top {
    pub(super) fn new(view: View, address: String) -> Self {
        let mut top = Self {
            view: View::default(),
            address,
            tab: Tab::Subscriptions,
            order: Order::Rate,
            is_reversed: false,
            rows: TableState::default().with_selected(0),
            shows_detail: false,
            is_held: false,
            trouble: None,
        };
        top.show(view);
        top
    }

    /// Shows what is there now, unless it is held.
    pub(super) fn show(&mut self, view: View) {
        self.trouble = None;
        if !self.is_held {
            self.view = view;
            self.sort();
        }
    }

    pub(super) fn press(&mut self, event: &Event) -> Step {
        let Event::Key(key) = event else {
            return Step::Stay;
        };
        if key.kind == KeyEventKind::Release {
            return Step::Stay;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Step::Quit;
            }
            KeyCode::Esc if self.shows_detail => self.shows_detail = false,
            KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
            KeyCode::Tab => self.go_to(self.tab.next()),
            KeyCode::Char('1') => self.go_to(Tab::Subscriptions),
            KeyCode::Char('2') => self.go_to(Tab::Sources),
            KeyCode::Char('3') => self.go_to(Tab::Targets),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('p') | KeyCode::Char(' ') => self.is_held = !self.is_held,
            KeyCode::Enter => self.shows_detail = !self.shows_detail,
            KeyCode::Down | KeyCode::Char('j') => self.rows.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.rows.select_previous(),
            KeyCode::PageDown => self.rows.scroll_down_by(10),
            KeyCode::PageUp => self.rows.scroll_up_by(10),
            KeyCode::Home => self.rows.select_first(),
            KeyCode::End => self.rows.select_last(),
            _ => {}
        }
        self.sort();
        Step::Stay
    }

    fn go_to(&mut self, tab: Tab) {
        self.tab = tab;
        self.rows.select_first();
        self.shows_detail = false;
    }

    /// The largest first, and names from the first on.
    fn sort(&mut self) {
        let (order, is_reversed) = (self.order, self.is_reversed);
        let turned = |ordering: Ordering| match is_reversed {
            true => ordering.reverse(),
            false => ordering,
        };
        let View {
            subscriptions,
            sources,
            targets,
            ..
        } = &mut self.view;
        subscriptions.sort_by(|a, b| turned(subscription(order, a, b)));
        sources.sort_by(|a, b| turned(source(order, a, b)));
        targets.sort_by(|a, b| turned(target(order, a, b)));
    }
}

fn subscription(order: Order, a: &SubscriptionRow, b: &SubscriptionRow) -> Ordering {
    let name = |one: &SubscriptionRow| (one.tenant.clone(), one.rule.clone(), one.target.clone());
    let by_name = || name(a).cmp(&name(b));
    match order {
        Order::Rate => b.delivered.total_cmp(&a.delivered),
        Order::Backlog => b.pending.cmp(&a.pending),
        Order::Time => time(b.oldest_seconds, a.oldest_seconds),
        Order::Errors => (b.dead, b.retrying).cmp(&(a.dead, a.retrying)),
        Order::Name => Ordering::Equal,
    }
    .then_with(by_name)
}

fn source(order: Order, a: &SourceRow, b: &SourceRow) -> Ordering {
    let is_well = |one: &SourceRow| one.last_error.is_none();
    match order {
        Order::Rate => b.events.total_cmp(&a.events),
        Order::Backlog | Order::Time => b.lag.cmp(&a.lag),
        Order::Errors => (b.rejects, is_well(a)).cmp(&(a.rejects, is_well(b))),
        Order::Name => Ordering::Equal,
    }
    .then_with(|| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)))
}

fn target(order: Order, a: &TargetRow, b: &TargetRow) -> Ordering {
    match order {
        Order::Rate => b.attempts.total_cmp(&a.attempts),
        Order::Backlog => b.in_flight.cmp(&a.in_flight),
        Order::Time => time(b.p99_seconds, a.p99_seconds),
        Order::Errors => b.failed.total_cmp(&a.failed),
        Order::Name => Ordering::Equal,
    }
    .then_with(|| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)))
}

fn time(a: Option<f64>, b: Option<f64>) -> Ordering {
    a.unwrap_or(-1.0).total_cmp(&b.unwrap_or(-1.0))
}
