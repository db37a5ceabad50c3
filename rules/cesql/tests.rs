use bytes::Bytes;
use pointsman_schemas::{Data, ExtensionValue};
use proptest::prelude::*;

use super::*;
use crate::{Document, Filter, Filters, RawFilter, explain};

fn event() -> Event {
    Event::builder("1", "/s", "order.paid")
        .attribute("n", ExtensionValue::Integer(10))
        .attribute("yes", ExtensionValue::Boolean(true))
        .attribute("digits", ExtensionValue::String("10".into()))
        .attribute("1a", ExtensionValue::String("x".into()))
        .attribute("long", ExtensionValue::String("x".repeat(40_000).into()))
        .data(Data::json(Bytes::from_static(b"{}")).unwrap())
        .build()
        .unwrap()
}

fn result(text: &str) -> String {
    let event = event();
    let expression = Cesql::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    let Evaluation { value, error } = expression.evaluate(&event);
    match error {
        None => value.to_string(),
        Some(error) => format!("{value}, {:?}: {error}", error.kind()),
    }
}

#[test]
fn values_and_errors_are_those_of_the_specification() {
    for (text, expect) in [
        // Literals and identifiers (2.2).
        ("TyPe", "'order.paid'"),
        ("1a", "'x'"),
        ("true1", "false, MissingAttribute: the event has no true1"),
        ("-2147483648", "-2147483648"),
        ("+5", "5"),
        (r"'a\'b\nc'", r"'a\'b\nc'"),
        (r#""a\"b'c\'d""#, r#"'a"b\'c\\'d'"#),
        (r"'a\\'", r"'a\\'"),
        // Signs between two values and before one.
        ("4-1", "3"),
        ("4 -1", "3"),
        ("4--1", "5"),
        ("- 10", "-10"),
        ("---10", "-10"),
        ("-digits", "-10"),
        // Precedence (3.6).
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("10 - 2 - 3", "5"),
        ("1 + 1 = 2 AND 3 > 2", "true"),
        ("true OR true AND false", "false"),
        ("false AND false OR true", "true"),
        ("true XOR true OR true", "true"),
        ("1 < 2 = true", "true"),
        ("NOT false = false", "false"),
        ("NOT EXISTS subject AND EXISTS n", "true"),
        ("1 + 2 IN (1, 2)", "2"),
        ("NOT true LIKE 'false'", "true"),
        ("'x' LIKE 'x' LIKE 'true'", "true"),
        ("-n IN (-10)", "true"),
        // Short circuit (3.6).
        ("false AND 1 / 0 = 1 OR yes", "true"),
        ("true OR missing", "true"),
        (
            "true AND missing",
            "false, MissingAttribute: the event has no missing",
        ),
        (
            "(missing = 1) OR true",
            "false, MissingAttribute: the event has no missing",
        ),
        // Missing attributes give the zero value of what refers to them (3.2).
        (
            "missing",
            "false, MissingAttribute: the event has no missing",
        ),
        (
            "(missing)",
            "false, MissingAttribute: the event has no missing",
        ),
        (
            "1 / missing",
            "0, MissingAttribute: the event has no missing",
        ),
        (
            "LENGTH(missing)",
            "0, MissingAttribute: the event has no missing",
        ),
        (
            "CONCAT('a', missing)",
            "'', MissingAttribute: the event has no missing",
        ),
        (
            "missing NOT LIKE 'x'",
            "false, MissingAttribute: the event has no missing",
        ),
        (
            "missing NOT IN ('x')",
            "false, MissingAttribute: the event has no missing",
        ),
        (
            "'a' IN ('b', missing)",
            "false, MissingAttribute: the event has no missing",
        ),
        ("data", "false, MissingAttribute: the event has no data"),
        // Arithmetic (3.4.2).
        ("2147483647 + 1", "0, Math: the number leaves 32 bits"),
        ("-2147483648 - 1", "0, Math: the number leaves 32 bits"),
        ("65536 * 65536", "0, Math: the number leaves 32 bits"),
        ("-2147483648 / -1", "0, Math: the number leaves 32 bits"),
        ("-2147483648 % -1", "0"),
        ("-(-2147483648)", "0, Math: the number leaves 32 bits"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7 % -3", "1"),
        ("5 % 0", "0, Math: a division by 0"),
        (
            "ABS(-2147483648)",
            "2147483647, Math: the number leaves 32 bits",
        ),
        // Casts (3.7).
        ("digits = n", "true"),
        ("n = digits", "true"),
        ("n = '010'", "false"),
        ("'+10' = 10", "true"),
        ("' 10' = 10", "false, Cast: ' 10' is not an integer"),
        (
            "'2147483648' + 0",
            "0, Cast: '2147483648' is not an integer",
        ),
        ("'x' != 1", "false, Cast: 'x' is not an integer"),
        ("yes = 'true'", "true"),
        ("yes = 'TRUE'", "false"),
        ("'tRUE' = yes", "true"),
        ("10 AND true", "true"),
        ("0 OR false", "false"),
        ("yes + yes", "2"),
        ("'b' > 'a'", "false, Cast: 'b' is not an integer"),
        ("NOT 'x'", "true, Cast: 'x' is not a boolean"),
        ("1 IN ('1')", "true"),
        ("1 IN ('a', 1)", "false, Cast: 'a' is not an integer"),
        ("1 IN (1, 1 / 0)", "true"),
        // LIKE (3.4.3).
        (r"'100%' LIKE '100\%'", "true"),
        (r"'100x' LIKE '100\%'", "false"),
        (r"'a\b' LIKE 'a\b'", "true"),
        ("'\u{e4}b' LIKE '_b'", "true"),
        ("'a\nb' LIKE 'a_b'", "true"),
        ("'a\nb' LIKE 'a%b'", "true"),
        ("'.' LIKE '_' AND 'ab' NOT LIKE '.%'", "true"),
        ("'aXbYc' LIKE 'a%b_c' AND 'abab' LIKE '%_b%b'", "true"),
        ("'' LIKE '%' AND '' LIKE '' AND '' NOT LIKE '_'", "true"),
        ("'aba' LIKE 'ab%ba'", "false"),
        ("'abcabd' LIKE '%ab%d'", "true"),
        // Functions (3.5).
        ("LENGTH('\u{e4}\u{1F600}')", "2"),
        ("concat_ws(', ', 1, true, 'x')", "'1, true, x'"),
        ("UPPER('stra\u{df}e')", "'STRASSE'"),
        ("TRIM('\u{a0}\u{3000} a \t\u{200b}')", "'a \t\u{200b}'"),
        ("LEFT('\u{e4}bc', 1)", "'\u{e4}'"),
        ("RIGHT('ab\u{e4}', 1)", "'\u{e4}'"),
        ("RIGHT('abc', 0)", "''"),
        ("LEFT('abc', 'x')", "'', Cast: 'x' is not an integer"),
        ("SUBSTRING('\u{e4}bc', 2, 1)", "'b'"),
        ("SUBSTRING('abc', 3, 2147483647)", "'c'"),
        ("SUBSTRING('abc', -3)", "'abc'"),
        (
            "SUBSTRING('abc', 4)",
            "'', FunctionEvaluation: SUBSTRING begins outside of the text",
        ),
        (
            "SUBSTRING('abc', -2147483648)",
            "'', FunctionEvaluation: SUBSTRING begins outside of the text",
        ),
        (
            "SUBSTRING('abc', 0, -1)",
            "'', FunctionEvaluation: SUBSTRING takes no negative length",
        ),
        (
            "IS_INT('5') AND IS_INT(5) AND NOT IS_INT('x') AND IS_BOOL('True') AND NOT IS_BOOL('1')",
            "true",
        ),
        ("LENGTH(CONCAT(long))", "40000"),
        (
            "CONCAT(long, long)",
            "'', FunctionEvaluation: the string grows past 65536 bytes",
        ),
        (
            "NOSUCH(1)",
            "false, MissingFunction: there is no such function NOSUCH",
        ),
        (
            "ABS()",
            "false, MissingFunction: there is no such function ABS",
        ),
    ] {
        assert_eq!(result(text), expect, "{text}");
    }
}

#[test]
fn mistakes_have_a_place() {
    let texts = [
        "",
        "type = ",
        "type == 'a'",
        "type = 'a",
        r#"type = "a\""#,
        "type = 'it''s'",
        "type = 'a' && id = 'b'",
        "type = 'a' || id = 'b'",
        "!yes",
        "data.total > 1",
        "$.data.total > 1",
        "type 'a'",
        "(type = 'a'",
        "type = 'a')",
        "type LIKE 5",
        "type LIKE",
        "type NOT = 'a'",
        "type IN 'a'",
        "type IN ()",
        "type IN ('a' 'b')",
        "type IN ('a',)",
        "EXISTS",
        "EXISTS and",
        "EXISTS 'type'",
        "2147483648",
        "- 2147483648",
        "+ 5",
        "+type",
        "my_ext = 1",
        "f1(2)",
        "_f(2)",
        "ABS(1",
        "AND",
        "a, b",
        "caf\u{e9} = 1",
        "'a' LIKE 'a' LIKE 'a' LIKE 'a' LIKE 'a' LIKE 'a'",
    ];
    let told = texts.map(|text| {
        let problem = Cesql::parse(text).expect_err(text);
        let within = problem.within.unwrap_or(0..text.len());
        let marks = "^".repeat(text[within.clone()].chars().count().max(1));
        let help = problem
            .help
            .map_or(String::new(), |help| format!(" ({help})"));
        format!(
            "{text}\n{}{marks} {}{help}",
            " ".repeat(text[..within.start].chars().count()),
            problem.message
        )
    });
    insta::assert_snapshot!(told.join("\n"), @r##"

    ^ the expression is empty (write one such as type = 'order.paid')
    type = 
           ^ a value is wanted here, and the expression ends (write an attribute, a literal, a call or parentheses)
    type == 'a'
          ^ a value is wanted here (equality is a single =)
    type = 'a
           ^ this quote is never closed (end it with '; inside of it that is written \')
    type = "a\"
           ^ this quote is never closed (end it with "; inside of it that is written \")
    type = 'it''s'
               ^^^ an operator is wanted here (inside a string its own quote is written with a backslash: \')
    type = 'a' && id = 'b'
               ^^ "&&" has no meaning in CESQL (write AND)
    type = 'a' || id = 'b'
               ^^ "||" has no meaning in CESQL (write OR, or CONCAT(a, b) for texts)
    !yes
    ^ "!" has no meaning in CESQL (write NOT, or != between two values)
    data.total > 1
        ^ "." has no meaning in CESQL (CESQL sees the context attributes alone; hold the data against `match` or `where` beside `filters`)
    $.data.total > 1
    ^ "$" has no meaning in CESQL (this is CESQL; a JSONPath condition stands under `where`)
    type 'a'
         ^^^ an operator is wanted here (write AND, OR or another operator between two values)
    (type = 'a'
    ^ this parenthesis is never closed
    type = 'a')
              ^ this parenthesis was never opened
    type LIKE 5
              ^ a string literal is wanted after LIKE (write the pattern between quotes, as in type LIKE 'order.%')
    type LIKE
             ^ a string literal is wanted after LIKE, and the expression ends (write the pattern between quotes, as in type LIKE 'order.%')
    type NOT = 'a'
         ^^^ an operator is wanted here (write AND, OR or another operator between two values)
    type IN 'a'
            ^^^ a list in parentheses is wanted after IN (write type IN ('a', 'b'))
    type IN ()
            ^^ this list is empty (write at least one value)
    type IN ('a' 'b')
                 ^^^ an operator is wanted here (inside a string its own quote is written with a backslash: \')
    type IN ('a',)
                 ^ a value is wanted here (write an attribute, a literal, a call or parentheses)
    EXISTS
          ^ the name of an attribute is wanted after EXISTS, and the expression ends (write EXISTS subject)
    EXISTS and
           ^^^ the name of an attribute is wanted after EXISTS (write EXISTS subject)
    EXISTS 'type'
           ^^^^^^ the name of an attribute is wanted after EXISTS (write EXISTS subject)
    2147483648
    ^^^^^^^^^^ an integer has 32 bits here: from -2147483648 to 2147483647 (quote it to make a string of it)
    - 2147483648
      ^^^^^^^^^^ an integer has 32 bits here: from -2147483648 to 2147483647 (quote it to make a string of it)
    + 5
    ^ + stands before digits alone, or between two values (leave it out)
    +type
    ^ + stands before digits alone, or between two values (leave it out)
    my_ext = 1
    ^^^^^^ "my_ext" is not the name of an attribute: those are made of a-z and 0-9
    f1(2)
    ^^ "f1" is not the name of a function
    _f(2)
    ^^ "_f" is not the name of a function
    ABS(1
       ^ this parenthesis is never closed
    AND
    ^^^ a value is wanted here (an operator stands between two values)
    a, b
     ^ an operator is wanted here (a comma stands between the arguments of a call or the values of a list)
    café = 1
       ^ "é" has no meaning in CESQL (there are attributes, literals, functions, parentheses and operators (CESQL 1.0, section 2))
    'a' LIKE 'a' LIKE 'a' LIKE 'a' LIKE 'a' LIKE 'a'
                                            ^^^^ more than 4 LIKE and IN follow one another
    "##);
}

#[test]
fn what_reads_otherwise_than_it_is_meant_is_warned_about() {
    for (text, expect) in [
        ("a = 1 AND b = 2 OR c = 3", &["OR"][..]),
        ("a = 1 OR b = 2 OR c = 3", &[]),
        ("(a = 1 AND b = 2) OR c = 3", &[]),
        ("NOT a = 1", &["="]),
        ("NOT a LIKE 'x'", &["LIKE"]),
        ("NOT a NOT IN ('x')", &["NOT"]),
        ("(NOT a) = 1", &[]),
        ("NOT (a = 1)", &[]),
        ("NOT EXISTS a", &[]),
        ("NOT a AND b", &[]),
        ("subjct = 'a'", &["subjct"]),
    ] {
        let expression = Cesql::parse(text).unwrap();
        let told: Vec<_> = expression
            .warnings()
            .iter()
            .map(|problem| &text[problem.within.clone().unwrap()])
            .collect();
        assert_eq!(told, expect, "{text}");
    }
}

#[test]
fn length_and_nesting_are_bounded() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}true{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [
        ("(", ")"),
        ("NOT ", ""),
        ("STRING(", ")"),
        ("1 IN (", ")"),
        ("- ", ""),
    ] {
        assert!(Cesql::parse(&nested(open, close, 50)).is_ok(), "{open}");
        let problem = Cesql::parse(&nested(open, close, 2_000)).unwrap_err();
        assert_eq!(
            problem.message,
            "the expression nests deeper than 64 levels"
        );
    }
    // A chain is not deep, however long.
    let chain = vec!["n"; 3_000].join(" = ");
    assert_eq!(result(&format!("({chain}) IN (true, false)")), "true");
    assert!(Cesql::parse(&"a".repeat(20_000)).is_err());
}

/// The expression with parentheses around everything.
fn written(source: &str, expression: &Expression) -> String {
    let written = |part: &Expression| written(source, part);
    let list = |items: &[Expression]| items.iter().map(written).collect::<Vec<_>>().join(", ");
    let not = |negated: &bool| if *negated { "NOT " } else { "" };
    match &expression.kind {
        Kind::Boolean(value) => value.to_string(),
        Kind::Integer(number) => number.to_string(),
        Kind::String(text) => Value::String(text.as_ref().into()).to_string(),
        Kind::Attribute(name) => name.to_string(),
        Kind::Exists(name) => format!("(EXISTS {name})"),
        Kind::Not(part) => format!("(NOT {})", written(part)),
        Kind::Negate(part) => format!("(- {})", written(part)),
        Kind::Like { text, .. } => {
            // What follows the operand is written as it stands there.
            let test = &source[text.span.end..expression.span.end];
            format!(
                "({} {})",
                written(text),
                test.trim_start_matches([')', ' ']).trim_end_matches(')')
            )
        }
        Kind::In {
            value,
            set,
            negated,
        } => format!("({} {}IN ({}))", written(value), not(negated), list(set)),
        Kind::Chain { first, rest } => {
            rest.iter().fold(written(first), |left, (operator, right)| {
                let symbol = match operator {
                    Operator::And => "AND",
                    Operator::Or => "OR",
                    Operator::Xor => "XOR",
                    Operator::Equal => "=",
                    Operator::Unequal => "!=",
                    Operator::Less => "<",
                    Operator::LessOrEqual => "<=",
                    Operator::Greater => ">",
                    Operator::GreaterOrEqual => ">=",
                    Operator::Add => "+",
                    Operator::Subtract => "-",
                    Operator::Multiply => "*",
                    Operator::Divide => "/",
                    Operator::Remainder => "%",
                };
                format!("({left} {symbol} {})", written(right))
            })
        }
        Kind::Call {
            name, arguments, ..
        } => format!("{name}({})", list(arguments)),
    }
}

/// Texts that are mostly expressions.
fn sources() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        "[a-z0-9]{1,3}",
        "'([a-c%_ ]|\\\\')*'",
        "EXISTS [a-z]{1,4}1",
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let operator = prop::sample::select(vec![
            "AND", "or", "XOR", "=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
            inner.clone().prop_map(|part| format!("({part})")),
            inner.clone().prop_map(|part| format!("NOT {part}")),
            inner.clone().prop_map(|part| format!("-{part}")),
            (inner.clone(), "'[a-c%_]*'")
                .prop_map(|(part, pattern)| format!("({part}) NOT LIKE {pattern}")),
            (inner.clone(), prop::collection::vec(inner.clone(), 1..3))
                .prop_map(|(part, set)| format!("({part}) IN ({})", set.join(","))),
            (
                prop::sample::select(vec!["CONCAT", "abs", "Left", "SUBSTRING", "nosuch"]),
                prop::collection::vec(inner, 0..3)
            )
                .prop_map(|(name, arguments)| format!("{name}({})", arguments.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", tokens in prop::collection::vec(
        prop::sample::select(vec!["a", "1", "'x'", "(", ")", ",", "NOT", "-", "+", "=", "AND", "LIKE", "IN", "EXISTS", "F("]), 0..12)) {
        for text in [text, tokens.join(" ")] {
            match Cesql::parse(&text) {
                Ok(expression) => { let _ = expression.evaluate(&event()); }
                Err(problem) => prop_assert!(problem.within.is_none_or(|within| text.get(within).is_some())),
            }
        }
    }

    #[test]
    fn an_explanation_says_what_the_expression_does(text in sources()) {
        if let Ok(filters) = Filters::compile(&[RawFilter::Sql(text)]) {
            let event = event();
            let holds = filters.hold(&event);
            let explanation = explain(&Filter::from(filters), &Document::event(&event));
            prop_assert_eq!(explanation.matches, holds);
            prop_assert_eq!(explanation.matches, explanation.checks.iter().all(|check| check.holds), "{}", explanation);
        }
    }

    #[test]
    fn what_is_read_reads_the_same_in_parentheses(text in sources()) {
        if let Ok(expression) = Cesql::parse(&text) {
            let plain = written(&text, &expression.root);
            let again = Cesql::parse(&plain).unwrap();
            prop_assert_eq!(&written(&plain, &again.root), &plain);
            let event = event();
            prop_assert_eq!(again.evaluate(&event), expression.evaluate(&event));
        }
    }
}
