//! Finds and reads rule files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_schemas::setting::read_regular;

use super::Diagnostic;
use super::paths::STANDARD_INPUT;
use super::yaml::FILE_BYTES_MAX;

/// A rule file's text and where it came from.
#[derive(Debug)]
pub(super) struct Found {
    /// As it is shown.
    pub name: String,
    /// The folder that it lies in, absolute.
    pub folder: Arc<Path>,
    /// Its text, without a byte order mark.
    pub text: String,
    /// What came along with it, where it was not read from here: then nothing else is read for it.
    pub attached: Option<Arc<Attached>>,
}

/// Files that rule files refer to, by their names.
pub(super) type Attached = HashMap<String, String>;

/// Reads every file, and of every folder the `*.yaml` and `*.yml` in it, sorted by name.
pub(super) fn find(paths: &[PathBuf], diagnostics: &mut Vec<Diagnostic>) -> Vec<Found> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.is_dir() {
            match yaml_files(path) {
                Ok(found) if found.is_empty() => {
                    diagnostics.push(of_path(
                        path,
                        "there is no rule file in this folder".to_owned(),
                        "rule files end in .yaml or .yml",
                    ));
                }
                Ok(found) => files.extend(found),
                Err(error) => {
                    let of = if may_pass(&error) {
                        may_pass_of_path
                    } else {
                        of_path
                    };
                    diagnostics.push(of(
                        path,
                        format!("cannot list this folder: {error}"),
                        "is it yours to read?",
                    ));
                }
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|path| seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    files
        .iter()
        .filter_map(|path| {
            read(path)
                .map_err(|diagnostic| diagnostics.push(diagnostic))
                .ok()
        })
        .collect()
}

/// The rule files of a folder, sorted by name. One that cannot be looked at is among them, so that
/// nothing is left out in silence.
pub fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
            && !path.is_dir()
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file cannot be read for want of something that may come back: descriptors, memory, the
/// disk. The file itself may be sound.
pub fn may_pass(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    !matches!(
        error.kind(),
        Kind::NotFound
            | Kind::PermissionDenied
            | Kind::IsADirectory
            | Kind::NotADirectory
            | Kind::InvalidInput
            | Kind::FileTooLarge
    )
}

/// Reads a rule file, or standard input.
fn read(path: &Path) -> Result<Found, Diagnostic> {
    let cannot = |error| unreadable(path, &error);
    let bytes = read_bytes(path).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    let folder = std::path::absolute(path)
        .map_err(cannot)?
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let text = text
        .strip_prefix('\u{feff}')
        .map_or_else(|| text.clone(), str::to_owned);
    Ok(Found {
        name: path.display().to_string(),
        folder: folder.into(),
        text,
        attached: None,
    })
}

fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    if path != Path::new(STANDARD_INPUT) {
        return read_regular(path, FILE_BYTES_MAX);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => of_path(
            path,
            "there is no such file".to_owned(),
            "name a rule file, or a folder of them",
        ),
        Kind::FileTooLarge => {
            let limit = FILE_BYTES_MAX / (1024 * 1024);
            of_path(
                path,
                format!("this file is larger than {limit} MiB"),
                "split it: a folder of rule files is read as one",
            )
        }
        Kind::InvalidInput => of_path(
            path,
            "this is not a regular file".to_owned(),
            "a pipe, a socket or a device holds no rules; give it another name",
        ),
        _ if may_pass(error) => may_pass_of_path(
            path,
            format!("cannot read this file now: {error}"),
            "try again",
        ),
        _ => of_path(
            path,
            format!("cannot read this file: {error}"),
            "is it yours to read?",
        ),
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Diagnostic {
    let at = error.utf8_error().valid_up_to();
    let line = error
        .as_bytes()
        .iter()
        .take(at)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1;
    of_path(
        path,
        format!("line {line} is not UTF-8"),
        "save the file as UTF-8",
    )
}

fn of_path(path: &Path, message: String, help: &str) -> Diagnostic {
    Diagnostic::of_file(path.display().to_string(), message, help)
}

fn may_pass_of_path(path: &Path, message: String, help: &str) -> Diagnostic {
    Diagnostic::may_pass_of_file(path.display().to_string(), message, help)
}
