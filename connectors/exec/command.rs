//! What a command is started with, as target and as source alike.

use std::path::Path;

use indexmap::IndexMap;
use pointsman_schemas::{Problem, Segment, Text};

use crate::OpenError;

/// Every text that a command is made of, with the path of its setting.
pub(super) fn texts<'s>(
    command: &'s [Text],
    env: &'s IndexMap<String, Text>,
    cwd: Option<&'s Text>,
) -> impl Iterator<Item = (Vec<Segment>, &'s Text)> {
    let words = command
        .iter()
        .enumerate()
        .map(|(index, word)| (vec!["command".into(), index.into()], word));
    let variables = env
        .iter()
        .map(|(name, value)| (vec!["env".into(), name.as_str().into()], value));
    words
        .chain(variables)
        .chain(cwd.map(|cwd| (vec!["cwd".into()], cwd)))
}

/// The mistakes that a command has whatever it is for.
pub(super) fn check(
    command: &[Text],
    env: &IndexMap<String, Text>,
    cwd: Option<&Text>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    match command.first().map(Text::literal) {
        None => problems.push(
            Problem::new("a command needs a program")
                .at("command")
                .help("write [./convert.sh]"),
        ),
        Some(Some("")) => problems.push(
            Problem::new("the program's name is empty")
                .at(0)
                .at("command"),
        ),
        Some(_) => {}
    }
    if cwd.and_then(Text::literal) == Some("") {
        problems.push(Problem::new("a folder's path must not be empty").at("cwd"));
    }
    for name in env.keys() {
        let mistake = if name.is_empty() || name.contains(['=', '\0']) {
            "is no name of an environment variable"
        } else if name.starts_with("CE_") || name.starts_with("POINTSMAN_") {
            "is set by pointsman itself"
        } else {
            continue;
        };
        problems.push(
            Problem::new(format!("{name:?} {mistake}"))
                .at(name.as_str())
                .at("env")
                .key(),
        );
    }
    let with_nul = texts(command, env, cwd)
        .filter(|(_, text)| text.literal().is_some_and(|text| text.contains('\0')));
    problems.extend(with_nul.map(|(path, _)| Problem {
        path,
        ..Problem::new("a NUL cannot be handed to a command")
    }));
    problems
}

/// Looks for a program as a start from this folder would.
pub(super) fn found(program: &str, folder: &Path) -> Result<String, OpenError> {
    let found = which::which_in(program, std::env::var_os("PATH"), folder).map_err(|error| {
        let problem = Problem::new(format!("cannot run {program}: {error}"));
        OpenError(
            problem
                .help("check its name, its place and that it is executable")
                .at(0)
                .at("command"),
        )
    })?;
    Ok(format!("{} can be run", found.display()))
}
