//! The examples are right.

use std::process::Command;

use pointsman_integration_tests::bus::{binary, workspace};

#[test]
fn every_example_passes_the_check_without_a_word_and_its_own_tests() {
    let examples: Vec<_> = std::fs::read_dir(workspace().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        for command in ["check", "test"] {
            let output = Command::new(binary())
                .arg(command)
                .arg(&example)
                .output()
                .unwrap();
            let told = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(
                output.status.success() && !told.contains("warning"),
                "{command} {example:?}:\n{told}"
            );
        }
    }
}

#[test]
fn connections_are_tried_from_within_the_folder_of_the_rule_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    let rules = "sources: { inbox: { directory: { path: ./inbox } } }\ntargets: { console: { stdout: {} } }\nrules: { r: { to: console } }\n";
    std::fs::write(folder.path().join("pointsman.yaml"), rules).unwrap();
    for paths in [&[][..], &["pointsman.yaml"], &["."]] {
        let output = Command::new(binary())
            .args(["check", "--connect"])
            .args(paths)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            output.status.success() && told.contains("inbox can be listed"),
            "{paths:?}:\n{told}"
        );
    }
}
