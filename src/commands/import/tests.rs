use std::path::Path;

use super::*;
use crate::config::Config;

/// What the files of `name` become, and what has no counterpart.
fn imported(files: &[(&str, &str)]) -> String {
    let mut draft = Draft::default();
    for (name, text) in files {
        let values = read::values(text, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let stem = Path::new(name)
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        import(
            &read::Documents {
                name: (*name).to_owned(),
                stem,
                values,
            },
            &mut draft,
        )
        .unwrap();
    }
    let imported = draft.finish();
    if let Err(diagnostics) = Config::of_text("imported.yaml", Path::new("/"), &imported.text) {
        panic!(
            "{}\n{}",
            crate::config::diagnostic::render(&diagnostics, crate::output::Screen::TEXT),
            imported.text
        );
    }
    assert!(
        imported
            .notes
            .iter()
            .all(|note| imported.text.contains(&note.message.replace('\n', " "))),
        "{:?}",
        imported.notes
    );
    imported.text
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(Path::new("src/commands/import/fixtures").join(name)).unwrap()
}

#[test]
fn eventbridge_rules_and_their_targets() {
    let (rules, targets) = (
        fixture("eventbridge.json"),
        fixture("eventbridge-targets.json"),
    );
    insta::assert_snapshot!(imported(&[
        ("calls.json", &rules),
        ("nightly-report-targets.json", &targets)
    ]));
}

#[test]
fn knative_triggers() {
    insta::assert_snapshot!(imported(&[("triggers.yaml", &fixture("knative.yaml"))]));
}

#[test]
fn argo_sensors() {
    insta::assert_snapshot!(imported(&[("sensors.yaml", &fixture("argo.yaml"))]));
}

#[test]
fn argo_triggers_of_every_kind_keep_their_rules() {
    let text = imported(&[("kinds.yaml", &fixture("argo-triggers.yaml"))]);
    assert!(!text.contains("LEFT OUT"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn argo_event_sources() {
    insta::assert_snapshot!(imported(&[("sources.yaml", &fixture("argo-sources.yaml"))]));
}

#[test]
fn each_is_blamed_for_its_own_mistakes_and_the_others_stay() {
    let trigger = |name: &str, uri: &str| {
        format!(
            r#"{{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{{"name":"{name}"}},"spec":{{"subscriber":{{"uri":"{uri}"}}}}}}"#
        )
    };
    let rule = |name: &str, pattern: &str| {
        format!(
            r#"{{"Name":"{name}","State":"ENABLED","EventPattern":{}}}"#,
            Value::from(pattern)
        )
    };
    let targets = r#"{"Targets":[{"Id":"good","Arn":"arn:aws:lambda:eu-west-1:1:function:Good"},
        {"Id":"bad","Arn":"arn:aws:lambda:eu-west-1:1:function:Bad","InputPath":"$.detail['a","Input":""},
        {"Id":"late","Arn":"arn:aws:lambda:eu-west-1:1:function:Late","RetryPolicy":{"MaximumEventAgeInSeconds":0}}]}"#;
    let text = imported(&[(
        "in.json",
        &[
            trigger("first", "http://one.example/"),
            trigger("bad-target", "ftp://two.example/"),
            trigger("second", "http://three.example/"),
            rule("bad-pattern", r#"{"source":[{"no-such-operator":1}]}"#),
            rule("several", r#"{"source":["x"]}"#),
            targets.to_owned(),
            rule("last", r#"{"source":["y"]}"#),
        ]
        .join("\n"),
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn cloudformation_sam_and_terraform() {
    insta::assert_snapshot!(
        "sam_events",
        imported(&[("template.yaml", &fixture("sam-events.yaml"))])
    );
    insta::assert_snapshot!("sam", imported(&[("template.yaml", &fixture("sam.yaml"))]));
    insta::assert_snapshot!(
        "cloudformation",
        imported(&[("template.json", &fixture("template.json"))])
    );
    insta::assert_snapshot!(
        "terraform",
        imported(&[("main.tf.json", &fixture("main.tf.json"))])
    );
}

#[test]
fn what_terraform_plans_is_read_and_its_own_language_named() {
    let plan = r#"{"format_version":"1.2","terraform_version":"1.9.0","planned_values":{"root_module":{
        "resources":[{"address":"aws_cloudwatch_event_rule.paid","mode":"managed","type":"aws_cloudwatch_event_rule","name":"paid","values":{"name":"paid","event_pattern":"{\"source\":[\"shop\"]}","description":null}},
            {"address":"aws_cloudwatch_event_target.a","type":"aws_cloudwatch_event_target","name":"a","values":{"rule":"paid","arn":"arn:aws:lambda:eu-west-1:1:function:Notify","input_transformer":[{"input_paths":{"id":"$.detail.id"},"input_template":"{\"id\": <id>}"}]}}],
        "child_modules":[{"address":"module.m","resources":[{"address":"module.m.aws_cloudwatch_event_rule.paid","type":"aws_cloudwatch_event_rule","name":"paid","values":{"name":"tick","schedule_expression":"rate(5 minutes)"}}]}]}}}"#;
    insta::assert_snapshot!(imported(&[("plan.json", plan)]));
    let hcl = "# rules\nresource \"aws_cloudwatch_event_rule\" \"paid\" {\n  name = \"paid\"\n}\n";
    let error = read::values(hcl, "main.tf").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("main.tf: it is written in Terraform's own language (HCL)"),
        "{error}"
    );
    assert!(
        error.help_text().contains("terraform show -json plan"),
        "{error}"
    );
}

#[test]
fn a_function_that_is_called_in_two_ways_keeps_both() {
    let target = |id: &str, input: &str| {
        format!(r#"{{"Id":"{id}","Arn":"arn:aws:lambda:eu-west-1:1:function:F",{input}}}"#)
    };
    let text = imported(&[(
        "in.json",
        &format!(
            r#"{{"Name":"r","State":"ENABLED","EventPattern":"{{\"source\":[\"x\"]}}"}}{{"Targets":[{},{},{}]}}"#,
            target("a", r#""InputPath":"$.detail""#),
            target("b", r#""Input":"{\"n\":1}""#),
            r#"{"Id":"c","Arn":"arn:aws:lambda:eu-west-1:1:function:G","Input":"{}"}"#
        ),
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn the_number_of_attempts_counts_the_first_one() {
    let rule = |policy: &str| {
        let rule = r#"{"Name":"r","State":"ENABLED","EventPattern":"{\"source\":[\"x\"]}"}"#;
        imported(&[(
            "in.json",
            &format!(
                r#"{rule}{{"Targets":[{{"Id":"a","Arn":"arn:aws:lambda:eu-west-1:1:function:F"{policy}}}]}}"#
            ),
        )])
    };
    for (policy, attempts) in [
        ("", 186),
        (r#","RetryPolicy":{"MaximumEventAgeInSeconds":60}"#, 186),
        (r#","RetryPolicy":{"MaximumRetryAttempts":185}"#, 186),
        (r#","RetryPolicy":{"MaximumRetryAttempts":3}"#, 4),
        (r#","RetryPolicy":{"MaximumRetryAttempts":0}"#, 1),
    ] {
        let text = rule(policy);
        assert!(
            text.contains(&format!("attempts: {attempts} ")),
            "{policy}: {text}"
        );
    }
}

#[test]
fn broken_templates_are_refused_in_words() {
    let refused = |text: String| {
        read::values(&text, "t.yaml")
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let template =
        |inner: &str| format!("AWSTemplateFormatVersion: '2010-09-09'\nResources:\n{inner}");
    let told = [
        template("  a: [\n"),
        template(&format!("  a: {}\n", "!Sub [".repeat(100))),
        template("  a: *nothing\n"),
        template(&format!(
            "  x: &a [{}]\n  y: [{}]\n",
            "'0123456789abcdef', ".repeat(20_000),
            "*a, ".repeat(100)
        )),
    ]
    .map(refused);
    assert!(
        told.iter()
            .all(|error| error.starts_with("cannot import t.yaml: ")),
        "{told:?}"
    );
}

#[test]
fn several_systems_make_one_file() {
    let text = imported(&[
        (
            "t.json",
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"a"},"spec":{"subscriber":{"uri":"http://one.example/"}}}]}"#,
        ),
        (
            "r.json",
            r#"{"Name":"a","Arn":"arn:aws:events:eu-west-1:1:rule/a","State":"ENABLED","EventPattern":"{\"source\":[\"x\"]}"}"#,
        ),
    ]);
    assert!(
        text.contains("\n  a:\n") && text.contains("\n  a-2:\n"),
        "{text}"
    );
}

#[test]
fn what_is_none_of_these_is_refused_in_words() {
    let refused = |text: &str| {
        let values = read::values(text, "in.yaml");
        let imported = values.and_then(|values| {
            import(
                &read::Documents {
                    name: "in.yaml".into(),
                    stem: "in".into(),
                    values,
                },
                &mut Draft::default(),
            )
        });
        format!(
            "{text:?}: {}",
            imported
                .err()
                .map_or_else(|| "imported".to_owned(), |error| error.to_string())
        )
    };
    let texts = [
        "",
        "---\n---\n",
        "{\"a\": 1}",
        "just words",
        "[1, 2]",
        "a: [",
        "{\"Name\": \"x\",",
        "a: 1\n---\nb: {{ x }}\n",
        "\u{0}",
        "a: 1\na: 2\n",
        "5",
    ];
    insta::assert_snapshot!(texts.map(refused).join("\n"));
}

#[test]
fn no_rule_takes_more_than_it_did() {
    let rule = |pattern: &str| {
        format!(
            r#"{{"Name":"r","State":"ENABLED","EventPattern":{}}}"#,
            Value::from(pattern)
        )
    };
    let trigger = |spec: &str| {
        format!(
            r#"{{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{{"name":"t"}},"spec":{spec}}}"#
        )
    };
    let sensor = |dependency: &str| {
        format!(
            r#"{{"apiVersion":"argoproj.io/v1alpha1","kind":"Sensor","metadata":{{"name":"s"}},"spec":{{"dependencies":[{dependency}],
            "triggers":[{{"template":{{"name":"t","log":{{}}}}}}]}}}}"#
        )
    };
    for text in [
        rule(r#"{"resources":["arn"]}"#),
        rule(r#"{"source":[{"prefix":5}]}"#),
        rule(r#"{"source":"bare"}"#),
        rule("{"),
        rule("[]"),
        rule("{}").replace("ENABLED", "DISABLED"),
        trigger(r#"{"filters":[{"near":{"type":"x"}}],"subscriber":{"uri":"http://a.example/"}}"#),
        trigger(r#"{"filters":[{}],"subscriber":{"uri":"http://a.example/"}}"#),
        trigger(r#"{"filter":{"attributes":{"Type":["x"]}},"subscriber":{"uri":"http://a.example/"}}"#),
        trigger(r#"{"subscriber":{}}"#),
        sensor(r#"{"name":"d","filters":{"script":"return true"}}"#),
        sensor(r#"{"name":"d","filters":{"time":{"start":"02:00:00"}}}"#),
        sensor(r#"{"name":"d","filters":{"data":[{"path":"body.#(a==1).b","type":"string","value":["x"]}]}}"#),
        sensor(r#"{"name":"d","filters":{"data":[{"path":"body.a","type":"string","value":["\\d+"]}]}}"#),
        sensor(r#"{"name":"d","filters":{"exprs":[{"expr":"a =~ 'x'","fields":[{"name":"a","path":"body.a"}]}]}}"#),
        sensor(r#"{"name":"d","transform":{"jq":"."}}"#),
        sensor(r#"{"name":"d"},{"name":"e"}"#),
        sensor(r#"{"name":"d"}"#).replace(r#""log":{}"#, r#""http":{"url":"http://a.example/","payload":[{"src":{"dependencyName":"d","dataTemplate":"{{ .Input.a | upper }}"},"dest":"a"}]}"#),
        sensor(r#"{"name":"d"}"#).replace(r#","log":{}"#, ""),
    ] {
        let mut draft = Draft::default();
        let values = read::values(&text, "in.json").unwrap();
        import(&read::Documents { name: "in.json".into(), stem: "in".into(), values }, &mut draft).unwrap();
        let imported = draft.finish();
        assert!(imported.made == 0 && imported.notes.iter().any(|note| note.left_out), "{text}\n{}", imported.text);
    }
}
