//! The examples are right.

use std::process::Command;

use pointsman_integration_tests::bus::{binary, workspace};

#[test]
fn every_example_passes_the_check_without_a_word_and_its_own_tests() {
    let examples: Vec<_> = std::fs::read_dir(workspace().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        for command in ["check", "test"] {
            let output = Command::new(binary()).arg(command).arg(&example).output().unwrap();
            let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && !told.contains("warning"), "{command} {example:?}:\n{told}");
        }
    }
}
