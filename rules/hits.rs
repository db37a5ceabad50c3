//! Which rules stand behind a key, and which of them an event has hit.

/// The number of a list of rules.
pub(crate) type List = u32;

/// Lists of rules, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    rules: Vec<u32>,
    /// Where each list ends, which is where the next one begins.
    ends: Vec<u32>,
}

impl Lists {
    pub(crate) fn add(&mut self, rules: impl IntoIterator<Item = u32>) -> List {
        self.rules.extend(rules);
        self.ends.push(self.rules.len() as u32);
        self.ends.len() as List - 1
    }

    /// A list for each key, in the order of the keys; the pairs are of a key and a rule.
    pub(crate) fn group<K: Ord>(&mut self, mut pairs: Vec<(K, u32)>) -> Vec<(K, List)> {
        pairs.sort_unstable();
        let mut grouped: Vec<(K, List)> = Vec::new();
        for (key, rule) in pairs {
            match (grouped.last(), self.ends.last_mut()) {
                (Some((last, _)), Some(end)) if *last == key => {
                    self.rules.push(rule);
                    *end += 1;
                }
                _ => {
                    let list = self.add([rule]);
                    grouped.push((key, list));
                }
            }
        }
        grouped
    }

    fn get(&self, list: List) -> &[u32] {
        let end = |list: List| self.ends.get(list as usize).map_or(0, |end| *end as usize);
        let start = list.checked_sub(1).map_or(0, end);
        self.rules.get(start..end(list)).unwrap_or_default()
    }
}

/// What one event has hit. A list is read once, however many values of the event hit it, and a rule
/// is noted once.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    /// The event at which each list, and each rule, was hit last.
    lists: Vec<u32>,
    rules: Vec<u32>,
    /// The number of the event at hand.
    event: u32,
    candidates: Vec<u32>,
}

impl Hits {
    /// Forgets the event before. Room is made for the rules and lists at hand, which may be others
    /// than at the last event.
    pub(crate) fn start(&mut self, lists: &Lists, rules: usize) {
        if self.lists.len() < lists.ends.len() {
            self.lists.resize(lists.ends.len(), 0);
        }
        if self.rules.len() < rules {
            self.rules.resize(rules, 0);
        }
        if self.event == u32::MAX {
            self.lists.fill(0);
            self.rules.fill(0);
            self.event = 0;
        }
        self.event += 1;
        self.candidates.clear();
    }

    /// Whether the list has been hit already.
    pub(crate) fn has(&self, list: List) -> bool {
        self.lists.get(list as usize) == Some(&self.event)
    }

    /// Notes the rules of a list.
    pub(crate) fn hit(&mut self, lists: &Lists, list: List) {
        match self.lists.get_mut(list as usize) {
            Some(last) if *last != self.event => *last = self.event,
            _ => return,
        }
        for rule in lists.get(list) {
            if let Some(last) = self.rules.get_mut(*rule as usize)
                && *last != self.event
            {
                *last = self.event;
                self.candidates.push(*rule);
            }
        }
    }

    /// How many rules have been noted.
    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    /// The rule that was noted at this place.
    pub(crate) fn get(&self, place: usize) -> Option<u32> {
        self.candidates.get(place).copied()
    }
}
