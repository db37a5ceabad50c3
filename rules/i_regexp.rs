//! I-Regexp, the regular expressions of JSONPath: RFC 9485.

/// Compiles an I-Regexp (RFC 9485), whose dot fits neither a line feed nor a carriage return.
pub(crate) fn compile(
    pattern: &str,
    whole: bool,
    bytes_max: usize,
) -> Result<regex::Regex, regex::Error> {
    let mut translated = String::with_capacity(pattern.len() + 8);
    let (mut in_class, mut characters) = (false, pattern.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                translated.push(character);
                translated.extend(characters.next());
                continue;
            }
            '.' if !in_class => {
                translated.push_str(r"[^\n\r]");
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        translated.push(character);
    }
    let anchored = if whole {
        format!("^(?:{translated})$")
    } else {
        translated
    };
    regex::RegexBuilder::new(&anchored)
        .size_limit(bytes_max)
        .build()
}
