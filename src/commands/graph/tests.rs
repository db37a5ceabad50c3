//! The drawings of rule files with something of everything.

use clap::Parser;

use super::*;

const RULES: &str = "
sources:
  orders: { directory: { path: ./orders } }
  beat: { timer: { every: 1m } }
  idle: { timer: { every: 1h } }
targets:
  function: { http: { url: \"http://127.0.0.1:9000/\" } }
  archive: { stdout: {} }
rules:
  paid:
    description: every <paid> order & \"more\"
    from: orders
    to: function
    on_success: { to: archive }
    on_failure: { to: archive }
  all: { to: [archive, function] }
  answers: { from: replies, to: archive }
pipes:
  ticks: { from: beat, to: archive }
";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: GraphArgs,
}

fn drawn_with(rules: &str, rest: &str) -> String {
    let line = format!("graph {rest}");
    let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
    let (config, _) = Config::of_text("rules.yaml", std::path::Path::new("/"), rules).unwrap();
    drawn(&config, &args)
}

#[test]
fn every_form_has_all_that_leads_somewhere() {
    insta::assert_snapshot!("mermaid", drawn_with(RULES, ""));
    insta::assert_snapshot!("dot", drawn_with(RULES, "--format dot"));
    insta::assert_snapshot!("svg", drawn_with(RULES, "-f svg"));
}

#[test]
fn one_rule_is_drawn_with_what_it_is_joined_to() {
    insta::assert_snapshot!(drawn_with(RULES, "--rule paid"), @r#"
    flowchart LR
      n0(["orders<br>directory"])
      n1["paid"]
      n2[["function<br>http"]]
      n3[["archive<br>stdout"]]
      n0 --> n1
      n1 --> n2
      n1 -. on success .-> n3
      n1 -. on failure .-> n3
    "#);
    assert_eq!(drawn_with(RULES, "--tenant other"), "flowchart LR\n");
    assert_eq!(drawn_with(RULES, "--rule none"), "flowchart LR\n");
}

#[test]
fn an_image_is_xml_whatever_a_description_holds() {
    let image = drawn_with(RULES, "-f svg");
    assert!(
        image.contains("every &lt;paid&gt; order &amp; &quot;more&quot;"),
        "{image}"
    );
    for token in xmlparser::Tokenizer::from(&*image) {
        token.unwrap();
    }
}
