//! Statements that the log has beside rows: where transactions begin and end, and what changes
//! tables.

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// A transaction is open from here on.
    Begin,
    /// It is over.
    End,
    /// Nothing that matters here: `SAVEPOINT`.
    Within,
    /// All rows of a table are gone: the database where it is named, and the table.
    Truncate(Option<String>, String),
    /// Rows have changed in a way that is not told row by row.
    Rows,
    /// Something else, such as the columns of a table.
    Other,
}

impl Statement {
    /// Reads a statement as far as it matters.
    pub(super) fn read(text: &str) -> Self {
        let mut words = Words(text);
        let first = words.next().unwrap_or_default().to_ascii_uppercase();
        match first.as_str() {
            "BEGIN" => Self::Begin,
            "XA" => match words.next() {
                Some(word) if is(&word, "START") || is(&word, "BEGIN") => Self::Begin,
                Some(word) if is(&word, "END") => Self::Within,
                _ => Self::End,
            },
            "COMMIT" => Self::End,
            "ROLLBACK" => match words.next() {
                Some(word) if is(&word, "TO") => Self::Within,
                _ => Self::End,
            },
            "SAVEPOINT" | "RELEASE" => Self::Within,
            "TRUNCATE" => words.truncated().unwrap_or(Self::Other),
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" => Self::Rows,
            _ => Self::Other,
        }
    }
}

fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

/// The words of a statement, names without their quotes, comments left out.
struct Words<'t>(&'t str);

impl Words<'_> {
    fn truncated(&mut self) -> Option<Statement> {
        let mut name = self.next()?;
        if is(&name, "TABLE") {
            name = self.next()?;
        }
        if is(&name, "IF") {
            self.next()?;
            name = self.next()?;
        }
        self.skip();
        let Some(rest) = self.0.strip_prefix('.') else {
            return Some(Statement::Truncate(None, name));
        };
        self.0 = rest;
        Some(Statement::Truncate(Some(name), self.next()?))
    }

    /// Leaves out spaces and comments, of which `/*!` ones are read.
    fn skip(&mut self) {
        loop {
            let text = self.0.trim_start();
            self.0 = match text.strip_prefix("/*") {
                Some(inside) if inside.starts_with(['!', 'M']) => inside
                    .trim_start_matches(['!', 'M'])
                    .trim_start_matches(|c: char| c.is_ascii_digit()),
                Some(inside) => inside.split_once("*/").map_or("", |(_, rest)| rest),
                None if text.starts_with("-- ") || text.starts_with('#') => {
                    text.split_once('\n').map_or("", |(_, rest)| rest)
                }
                None => text.strip_prefix("*/").unwrap_or(text),
            };
            if self.0.len() == text.len() {
                return;
            }
        }
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.skip();
        let quote = self.0.chars().next().filter(|c| ['`', '"'].contains(c));
        if let Some(quote) = quote {
            let mut word = String::new();
            let mut rest = self.0.char_indices().skip(1).peekable();
            while let Some((at, c)) = rest.next() {
                if c != quote {
                    word.push(c);
                } else if rest.next_if(|(_, next)| *next == quote).is_some() {
                    word.push(quote);
                } else {
                    self.0 = self.0.get(at + quote.len_utf8()..).unwrap_or_default();
                    return Some(word);
                }
            }
            return None;
        }
        let ends = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'));
        let (word, rest) = self.0.split_at(self.0.find(ends).unwrap_or(self.0.len()));
        self.0 = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_statements_do() {
        let truncated = |database: Option<&str>, table: &str| {
            Statement::Truncate(database.map(ToOwned::to_owned), table.to_owned())
        };
        for (text, expect) in [
            ("BEGIN", Statement::Begin),
            ("XA START X'61',X'',1", Statement::Begin),
            ("XA END X'61',X'',1", Statement::Within),
            ("XA COMMIT X'61',X'',1", Statement::End),
            ("COMMIT", Statement::End),
            ("ROLLBACK", Statement::End),
            ("ROLLBACK TO `a`", Statement::Within),
            ("SAVEPOINT `a`", Statement::Within),
            ("TRUNCATE orders", truncated(None, "orders")),
            (
                "/* by me */ truncate  table `shop`.`odd ``name`",
                truncated(Some("shop"), "odd `name"),
            ),
            (
                "TRUNCATE TABLE shop . orders /* generated by server */",
                truncated(Some("shop"), "orders"),
            ),
            (
                "-- why\n/*!50000 TRUNCATE */ TABLE orders WAIT 5",
                truncated(None, "orders"),
            ),
            ("TRUNCATE", Statement::Other),
            ("insert into orders values (1)", Statement::Rows),
            ("ALTER TABLE orders ADD more int", Statement::Other),
            ("", Statement::Other),
        ] {
            assert_eq!(Statement::read(text), expect, "{text}");
        }
    }
}
