//! Tells the binary which commit it was built from.

use std::process::Command;

fn main() {
    // Only what is built to be used: while developing, each commit would build everything again. A
    // packager says it by the variable.
    println!("cargo::rerun-if-env-changed=POINTSMAN_COMMIT");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let said = std::env::var("POINTSMAN_COMMIT").ok();
    let is_asked = is_release && said.is_none();
    let commit = said.or_else(|| if is_asked { of_git() } else { None });
    let suffix = commit
        .filter(|commit| !commit.is_empty())
        .map(|commit| format!(" ({commit})"))
        .unwrap_or_default();
    println!("cargo::rustc-env=POINTSMAN_COMMIT={suffix}");
    if is_asked {
        // The head may name a branch, whose commit then changes. What is not there would count as
        // changed each time.
        for path in [".git/HEAD", ".git/refs/heads"]
            .into_iter()
            .filter(|path| std::path::Path::new(path).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// The short hash of the commit that is checked out; none outside of a checkout.
fn of_git() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
