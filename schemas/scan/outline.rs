//! Where the values of a JSON text stand, noted while the text is checked, so that nobody has to
//! look for them again.
//!
//! ```text
//!   {"a": [1, {"b": 2}], "c": 3}        0 {…}  next 6      items of one container lie behind it,
//!                                       1 a […] next 5     each with the number of the one that comes next beside it
//!                                       2 1     next 3
//!                                       3 {…}   next 5
//!                                       4 b 2   next 5
//!                                       5 c 3   next 6
//! ```

use super::{Scanner, Syntax};

/// One value of a text: its place, and that of its key where it is a member of an object. Places
/// are bytes from the text's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Where the key begins, behind its quote.
    key_start: u32,
    /// Where the key ends, with [`ESCAPED`] where there are escapes in it.
    key_end: u32,
    start: u32,
    end: u32,
    next: u32,
}

/// A text of so many bytes and more gets no outline, so that this bit is free.
const ESCAPED: u32 = 1 << 31;

impl Item {
    /// The value's text.
    #[inline]
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The key between its quotes.
    #[inline]
    #[must_use]
    pub fn key(&self) -> std::ops::Range<usize> {
        self.key_start as usize..(self.key_end & !ESCAPED) as usize
    }

    /// Whether there are escapes in the key.
    #[inline]
    #[must_use]
    pub fn is_escaped(&self) -> bool {
        self.key_end & ESCAPED != 0
    }

    /// The number of the item behind this one and all that is in it. What is in it begins right
    /// behind this one.
    #[inline]
    #[must_use]
    pub fn next(&self) -> usize {
        self.next as usize
    }
}

/// The items of a text, in the order in which they stand in it; the first one is the whole value.
///
/// # Errors
/// Where the text is not one JSON value of at most 128 levels, or too long to be outlined.
pub(crate) fn outline(text: &str) -> Result<Vec<Item>, Syntax> {
    let mut scanner = Scanner::new(text);
    scanner.peek();
    let mut notes = Notes::of(scanner.at(), text.len(), usize::MAX);
    scanner.walk(&mut notes)?;
    scanner.end()?;
    notes.finish().ok_or(Syntax {
        at: text.len(),
        what: "the text is too long",
    })
}

/// What is told of the values of a text while it is read.
pub(crate) trait Listener {
    /// A key has been read: where it stands, and whether it has escapes.
    fn key(&mut self, start: usize, end: usize, escaped: bool);
    /// A value has been read that is neither an object nor an array with something in it.
    fn value(&mut self, start: usize, end: usize);
    /// An object or array with something in it has begun, so that what comes lies in it.
    fn enter(&mut self, start: usize);
    /// The innermost one that was entered has ended.
    fn leave(&mut self, end: usize);
}

/// Listens to nothing.
impl Listener for () {
    #[inline(always)]
    fn key(&mut self, _: usize, _: usize, _: bool) {}
    #[inline(always)]
    fn value(&mut self, _: usize, _: usize) {}
    #[inline(always)]
    fn enter(&mut self, _: usize) {}
    #[inline(always)]
    fn leave(&mut self, _: usize) {}
}

/// Makes an outline.
#[derive(Debug)]
pub(crate) struct Notes {
    items: Vec<Item>,
    /// The innermost item that was entered. As long as it is open, its `next` is the one around it.
    open: u32,
    /// Where the key of the value that comes begins, and in the upper half where it ends. Two
    /// halves would be written one by one and then read together, for which a processor has to
    /// wait.
    key: u64,
    /// Where the value begins that is outlined.
    base: u32,
    items_max: usize,
}

impl Notes {
    /// Of the value that begins at `base` and ends at `end` at the latest; all is forgotten where
    /// there are more items.
    pub(crate) fn of(base: usize, end: usize, items_max: usize) -> Self {
        let items_max = if end < ESCAPED as usize { items_max } else { 0 };
        // Most keys and values take some twenty bytes together, and the text may go on with other
        // events. What takes more than a kilobyte, allocators find more slowly.
        let items = Vec::with_capacity(((end - base) / 20 + 4).min(50).min(items_max));
        Self {
            items,
            open: 0,
            key: 0,
            base: base as u32,
            items_max,
        }
    }

    /// The items; none where there were too many.
    pub(crate) fn finish(self) -> Option<Vec<Item>> {
        (!self.items.is_empty() && self.items.len() <= self.items_max).then_some(self.items)
    }

    #[inline(always)]
    fn place(&self, at: usize) -> u32 {
        (at as u32).wrapping_sub(self.base)
    }

    #[inline(always)]
    fn push(&mut self, start: usize, end: u32, next: u32) {
        if self.items.len() <= self.items_max {
            let key = std::mem::take(&mut self.key);
            self.items.push(Item {
                key_start: key as u32,
                key_end: (key >> 32) as u32,
                start: self.place(start),
                end,
                next,
            });
        }
    }
}

impl Listener for Notes {
    #[inline(always)]
    fn key(&mut self, start: usize, end: usize, escaped: bool) {
        let end = self.place(end) | if escaped { ESCAPED } else { 0 };
        self.key = u64::from(self.place(start)) | u64::from(end) << 32;
    }

    #[inline(always)]
    fn value(&mut self, start: usize, end: usize) {
        self.push(start, self.place(end), self.items.len() as u32 + 1);
    }

    #[inline(always)]
    fn enter(&mut self, start: usize) {
        let number = self.items.len() as u32;
        self.push(start, 0, self.open);
        self.open = number;
    }

    #[inline(always)]
    fn leave(&mut self, end: usize) {
        let (end, next) = (self.place(end), self.items.len() as u32);
        // Of those that are too many nothing counts any more.
        if let Some(item) = self.items.get_mut(self.open as usize) {
            self.open = item.next;
            (item.end, item.next) = (end, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<String> {
        let value = text.trim();
        let show = |item: &Item| {
            format!(
                "{}={} {}",
                &value[item.key()],
                &value[item.range()],
                item.next()
            )
        };
        outline(text).unwrap().iter().map(show).collect()
    }

    #[test]
    fn every_value_is_noted_with_its_key() {
        for (text, expect) in [
            ("1", &["=1 1"][..]),
            (" [] ", &["=[] 1"]),
            (
                "[1, {}, [2]]",
                &["=[1, {}, [2]] 5", "=1 2", "={} 3", "=[2] 5", "=2 5"],
            ),
            (
                r#"{"a": {"b\n": "c"} , "d":null}"#,
                &[
                    r#"={"a": {"b\n": "c"} , "d":null} 4"#,
                    r#"a={"b\n": "c"} 3"#,
                    r#"b\n="c" 3"#,
                    "d=null 4",
                ],
            ),
            (
                r#"[{"a":1},2]"#,
                &[r#"=[{"a":1},2] 4"#, r#"={"a":1} 3"#, "a=1 3", "=2 4"],
            ),
        ] {
            assert_eq!(shown(text), expect, "{text}");
        }
        assert!(
            outline(r#"{"a\n":1,"b":1}"#)
                .unwrap()
                .iter()
                .map(Item::is_escaped)
                .eq([false, true, false])
        );
        for broken in ["", "[1", r#"{"a":{"b":1}"#, "1 2"] {
            assert!(outline(broken).is_err(), "{broken}");
        }
        let mut notes = Notes::of(0, 7, 3);
        Scanner::new("[1,2,3]").walk(&mut notes).unwrap();
        assert_eq!(notes.finish(), None);
    }

    /// Puts a value together again from the items.
    fn rebuild(text: &str, items: &[Item], number: usize) -> serde_json::Value {
        let item = &items[number];
        let inner = || {
            std::iter::successors(Some(number + 1), |number| Some(items.get(*number)?.next()))
                .take_while(|at| *at < item.next())
        };
        match text.as_bytes()[item.start as usize] {
            b'[' => inner()
                .map(|at| rebuild(text, items, at))
                .collect::<Vec<_>>()
                .into(),
            b'{' => {
                let key = |at: usize| {
                    serde_json::from_str::<String>(&format!("\"{}\"", &text[items[at].key()]))
                        .unwrap()
                };
                inner()
                    .map(|at| (key(at), rebuild(text, items, at)))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }
            _ => serde_json::from_str(&text[item.range()]).unwrap(),
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into)
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec((".{0,4}", inner), 0..5).prop_map(|members| members
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_noted_is_what_was_written(value in any_json()) {
            for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(&rebuild(&text, &outline(&text).unwrap(), 0), &value);
            }
        }
    }
}
