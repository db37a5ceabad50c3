//! Values of settings that nobody is to see, kept out of what others say.

/// Shorter values are not looked for: they would be found in any text, and keep nothing secret.
const BYTES_MIN: usize = 4;

/// Values that the settings take from the environment or a file.
#[derive(Clone, Default)]
pub(crate) struct Hidden(Vec<String>);

impl Hidden {
    /// Hides a value, and each line of it.
    pub(crate) fn add(&mut self, value: &str) {
        let lines = value.lines().map(str::trim);
        let long = lines.filter(|line| line.len() >= BYTES_MIN);
        self.0.extend(long.map(str::to_owned));
        // One that holds another is looked for first.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// The text without the values.
    pub(crate) fn hide(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, value| match text.contains(value) {
                true => text.replace(value, "…"),
                false => text,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_out_of_a_text_the_longest_first() {
        let mut hidden = Hidden::default();
        for value in ["hunter2", "abc", "hunter22\n two \n"] {
            hidden.add(value);
        }
        for (text, expect) in [
            ("nothing", "nothing"),
            ("-u root:hunter2 abc", "-u root:… abc"),
            ("hunter22, hunter2", "…, …"),
            ("two", "two"),
        ] {
            assert_eq!(hidden.hide(text.to_owned()), expect);
        }
    }
}
