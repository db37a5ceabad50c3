use super::*;
use proptest::prelude::*;

#[test]
fn the_grammar_is_that_of_rfc_8259() {
    for good in [
        "0",
        "-0",
        "-12.50e+07",
        "1E9",
        "1e999",
        "true",
        " null ",
        "\"\"",
        "[]",
        "{}",
        " [ 1 , 2 ] ",
        r#"{"a":{"b":[{},[]]},"a":1}"#,
        r#""\ud800 \u00e9 \"\\\/\b\f\n\r\t""#,
        "\"ü\u{7f}\u{2028}\"",
        "[[],[[]],{}]",
        "123456789012345678901234567890",
    ] {
        assert_eq!(validate(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        " ",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "nul",
        "truefalse",
        "\"",
        "\"\n\"",
        "\"\u{1f}\"",
        r#""\x""#,
        r#""\u12g4""#,
        r#""\u123"#,
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "[1}",
        "{\"a\":1]",
        "1 1",
        "[] x",
        "'a'",
        "// x\n1",
        "\u{feff}1",
        "[1,\u{a0}2]",
    ] {
        assert!(validate(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_depth_is_bounded_and_the_place_is_told() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(validate(&nested(128)), Ok(()));
    assert_eq!(
        validate(&nested(129)),
        Err(Syntax {
            at: 128,
            what: TOO_DEEP
        })
    );
    assert!(
        validate(&"[".repeat(1_000_000)).is_err()
            && validate(&"{\"a\":".repeat(1_000_000)).is_err()
    );
    // What stands side by side is not deep.
    assert_eq!(
        validate(&format!("[{}0]", "[[]],{\"a\":[]},".repeat(1000))),
        Ok(())
    );
    let text = "{\n \"ü\": x}";
    assert_eq!(
        validate(text).unwrap_err().describe(text),
        "expected a value at line 2 column 7"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// serde_json is the oracle: it reads the same texts, but for its own limit of depth, which
    /// the generator does not reach.
    #[test]
    fn it_agrees_with_serde_json(text in r#"([\[\]{},:"\\ \n0-9eE.+\-]|true|null|"a":|"\\u00e9"|\\[nux]|é|[\x00-\x22]){0,24}"#) {
        let expect = serde_json::from_str::<&serde_json::value::RawValue>(&text);
        prop_assert_eq!(validate(&text).is_ok(), expect.is_ok(), "{:?}", expect);
    }
}
