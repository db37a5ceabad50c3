use super::*;
use crate::config::mistake::Mistake;

const WIDE: Screen = Screen {
    colours: false,
    width: Some(120),
};

fn at(text: &str, spans: impl IntoIterator<Item = (usize, usize)>) -> Vec<Diagnostic> {
    let file = Arc::new(File::new("rules.yaml".into(), text, &[]));
    let of = |(start, end)| Diagnostic {
        file: Arc::clone(&file),
        mistake: Mistake::new(Span { start, end }, "this is wrong"),
    };
    spans.into_iter().map(of).collect()
}

#[test]
fn a_place_far_into_a_line_is_shown_with_what_is_around_it() {
    let text = format!(
        "{{{}\"here\": 1,{}}}\nnext: line\n",
        "\"ä\": 0, ".repeat(20_000),
        " \"b\": 2,".repeat(20_000)
    );
    let start = text.find("\"here\"").unwrap();
    let mut diagnostics = at(&text, [(start, start + 6)]);
    diagnostics[0].mistake.also = Some((Span { start: 1, end: 5 }, "first here".into()));
    let shown = render(&diagnostics, WIDE);
    assert!(shown.len() < 1_000, "{} bytes", shown.len());
    insta::assert_snapshot!(shown);
}

#[test]
fn every_place_of_any_line_is_shown() {
    for text in [
        "x".repeat(70_000),
        "ß".repeat(70_000),
        format!("a: {}\nb: c", "\t\u{202e}".repeat(40_000)),
        "\n".repeat(70_000),
    ] {
        let places = [
            0,
            1,
            399,
            400,
            401,
            65_529,
            65_536,
            text.len() - 1,
            text.len(),
        ]
        .map(|at| text.floor_char_boundary(at));
        for start in places {
            for end in places.into_iter().filter(|end| *end >= start) {
                let shown = render(&at(&text, [(start, end)]), WIDE);
                assert!(
                    shown.contains("this is wrong") && shown.len() < 4_000,
                    "{start}..{end}: {} bytes",
                    shown.len()
                );
            }
        }
    }
}

#[test]
fn many_are_counted_and_mistakes_come_before_oddities() {
    let mut diagnostics = at("key: value", std::iter::repeat_n((0, 3), 5_000));
    diagnostics
        .iter_mut()
        .take(4_999)
        .for_each(|diagnostic| diagnostic.mistake.warning = true);
    let shown = render(&diagnostics, WIDE);
    assert!(shown.len() < 30_000, "{} bytes", shown.len());
    assert_eq!(shown.matches(" this is wrong").count(), 100, "{shown}");
    assert!(
        shown.ends_with("and 4900 more, which are not shown\n\n1 error, 4999 warnings\n"),
        "{shown}"
    );
    assert!(
        shown.contains("  x this is wrong"),
        "the mistake is among them: {shown}"
    );
}

#[test]
fn what_a_file_holds_does_nothing_to_a_terminal() {
    let text = "a: \"\u{1b}[2J\u{9b}31m\u{202e}\"\r\nb: c\r\n";
    let mut diagnostics = at(text, [(3, text.find('\r').unwrap())]);
    diagnostics[0].mistake.message = "this \u{1b}]0;title\u{7} is wrong".into();
    diagnostics[0].mistake.help = Some("not \u{2066}\u{1b}[31m".into());
    let shown = render(&diagnostics, WIDE);
    assert!(
        shown.chars().all(|c| c == '\n' || !crate::output::acts(c)),
        "{shown:?}"
    );
    let named = Diagnostic::of_file("a\n\u{1b}[2J.yaml".into(), "cannot be read", "look");
    let shown = render(&[named], WIDE);
    assert!(
        !shown.contains('\u{1b}') && shown.contains("a\u{FFFD}\u{FFFD}[2J.yaml: cannot be read"),
        "{shown:?}"
    );
}

#[test]
fn a_long_message_is_cut() {
    let mut diagnostics = at("key: value", [(0, 3)]);
    diagnostics[0].mistake.message = "m".repeat(1_000_000);
    diagnostics[0].mistake.help = Some("h".repeat(1_000_000));
    assert!(
        render(
            &diagnostics,
            Screen {
                colours: false,
                width: None
            }
        )
        .len()
            < 3_000
    );
}
