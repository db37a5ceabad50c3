//! Which rule files are meant.

use std::path::{Path, PathBuf};

/// The rule file that is read where none is named.
pub const DEFAULT_PATH: &str = "pointsman.yaml";

/// The folder that is read where there is none of that name either: where a package puts it.
pub const SYSTEM_PATH: &str = "/etc/pointsman";

/// Names rule files, several with colons between them, where the command line names none.
pub const VARIABLE: &str = "POINTSMAN_CONFIG";

/// Standard input, where a file is asked for.
pub const STANDARD_INPUT: &str = "-";

/// Rule files on a command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PathArgs {
    /// Rule files, and folders of them, that are read as one; else those of `POINTSMAN_CONFIG`,
    /// `pointsman.yaml`, or `/etc/pointsman`
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

impl PathArgs {
    /// The files and folders that are meant.
    #[must_use]
    pub fn resolve(&self) -> Vec<PathBuf> {
        if self.paths.is_empty() {
            unnamed(std::env::var_os(VARIABLE).as_deref(), Path::exists)
        } else {
            self.paths.clone()
        }
    }
}

/// What is meant where nothing is named.
fn unnamed(variable: Option<&std::ffi::OsStr>, exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    if let Some(paths) = variable.filter(|paths| !paths.is_empty()) {
        return std::env::split_paths(paths).collect();
    }
    let found = [DEFAULT_PATH, SYSTEM_PATH]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| exists(path));
    vec![found.unwrap_or_else(|| DEFAULT_PATH.into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_meant() {
        let found = |variable: &str, there: &[&str]| {
            let paths = unnamed(Some(variable.as_ref()), |path| {
                there.iter().any(|one| Path::new(one) == path)
            });
            paths
                .into_iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("a.yaml:/b", &[DEFAULT_PATH]), ["a.yaml", "/b"]);
        assert_eq!(found("", &[DEFAULT_PATH, SYSTEM_PATH]), [DEFAULT_PATH]);
        assert_eq!(found("", &[SYSTEM_PATH]), [SYSTEM_PATH]);
        assert_eq!(
            found("", &[]),
            [DEFAULT_PATH],
            "it is said that this is not there"
        );
    }
}
