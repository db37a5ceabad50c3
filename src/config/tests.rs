use std::path::{Path, PathBuf};

use super::*;

fn folder(name: &str) -> PathBuf {
    Path::new("src/config/fixtures").join(name)
}

/// The entries of a folder of fixtures, sorted.
fn fixtures(name: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn told(path: &Path) -> String {
    match Config::load(&[path.to_owned()]) {
        Ok((_, warnings)) => format!("sound\n{}", diagnostic::render(&warnings, false)),
        Err(diagnostics) => diagnostic::render(&diagnostics, false),
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    for path in fixtures("broken").into_iter().chain(fixtures("broken_folders")) {
        let told = told(&path);
        assert!(!told.starts_with("sound"), "{} is broken", path.display());
        insta::with_settings!({ snapshot_path => "fixtures/told", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(path.file_stem().unwrap().to_string_lossy().into_owned(), told);
        });
    }
}
