//! What keeps the log: one engine, or several.

use crate::config::Engine;
use crate::config::load::items;
use crate::config::raw::RawEngine;
use crate::config::reader::{Piece, read};

/// Each of them is told of every beat of every node.
const ENGINES_MAX: usize = 16;

/// Checks what `store.log` says of engines; none where it names no sound ones, which has been
/// reported.
pub(super) fn engines_of(one: RawEngine, piece: Piece<'_>, shards: u16) -> Option<Vec<Engine>> {
    let Some(at) = piece.get("engines") else {
        let several =
            "keep postgres or nats, or list both: engines: [{ postgres: … }, { nats: … }]";
        return engine_of(one, piece, several).map(|engine| vec![engine]);
    };
    if let Some(beside) = ["postgres", "nats"].iter().find_map(|key| piece.get(key)) {
        beside.report_key(
            "the log lies in this engine, or in several, and not in both",
            "make it one of `engines`, or leave those out",
        );
        return None;
    }
    let items = items(at);
    check_number(items.len(), at, shards);
    check_twice(&items, at);
    let engines = items.into_iter().map(|item| {
        let one = read::<RawEngine>(item)?;
        engine_of(one, item, "make two engines of it")
    });
    // What is wrong with each is told.
    let engines: Vec<_> = engines.collect();
    engines.into_iter().collect()
}

fn check_number(engines: usize, at: Piece<'_>, shards: u16) {
    if engines < 2 {
        at.report_key(
            "several engines are two at least",
            "write postgres: { url: … } or nats: { url: … } in the place of `engines`",
        );
    } else if engines > ENGINES_MAX {
        at.report_key(
            format!("these are more than {ENGINES_MAX} engines"),
            "write fewer: every node tells each of them once a second that it lives",
        );
    } else if engines > usize::from(shards) {
        at.report_key(
            format!("of {shards} shards some of these {engines} engines would keep none"),
            "write fewer engines, or more `shards`",
        );
    }
}

/// Refuses engines of which two are written the same.
fn check_twice(items: &[Piece<'_>], at: Piece<'_>) {
    let written: Vec<_> = items.iter().map(|item| whereabouts(*item)).collect();
    for (index, one) in written.iter().enumerate() {
        let same = written.iter().take(index).position(|other| one == other);
        if let (Some(same), Some(_)) = (same, one) {
            // Its own line may have a password in it.
            at.report_key(
                format!(
                    "engine {} of this list is engine {} once more",
                    index + 1,
                    same + 1
                ),
                "list each engine once: another database, another server or another account",
            );
        }
    }
}

/// Where an engine is and as whom it is reached, as it is written but for spaces and quotes.
fn whereabouts(item: Piece<'_>) -> Option<String> {
    let (kind, engine) = ["postgres", "nats"]
        .iter()
        .find_map(|kind| Some((kind, item.get(kind)?)))?;
    let of = |key| engine.get(key).map(Piece::source).unwrap_or_default();
    let written = format!("{kind} {}\n{}", of("url"), of("auth"));
    let is_form = |letter: char| letter.is_whitespace() || ['"', '\''].contains(&letter);
    Some(written.replace(is_form, ""))
}

/// The engine that is written there; `of_two` says what to do where there are two.
fn engine_of(one: RawEngine, piece: Piece<'_>, of_two: &str) -> Option<Engine> {
    match (one.postgres, one.nats) {
        (Some(_), Some(_)) => {
            piece.report_key("one engine keeps the log, and these are two", of_two);
            None
        }
        (Some(postgres), None) => self::postgres(postgres, piece),
        (None, Some(nats)) => self::nats(nats, piece),
        (None, None) => {
            if piece.is_whole() {
                piece.report_key(
                    "it does not say what keeps the log",
                    "write postgres: { url: … } or nats: { url: … }",
                );
            }
            None
        }
    }
}

#[cfg(feature = "postgres")]
fn postgres(
    engine: pointsman_connectors::engine::PostgresEngine,
    piece: Piece<'_>,
) -> Option<Engine> {
    piece.get("postgres")?.report_check(engine.check());
    Some(Engine::Postgres(engine))
}

#[cfg(feature = "nats")]
fn nats(engine: pointsman_connectors::nats::NatsEngine, piece: Piece<'_>) -> Option<Engine> {
    piece.get("nats")?.report_check(engine.check());
    Some(Engine::Nats(engine))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: serde_json::Value, piece: Piece<'_>) -> Option<Engine> {
    left_out(piece, "postgres")
}

#[cfg(not(feature = "nats"))]
fn nats(_: serde_json::Value, piece: Piece<'_>) -> Option<Engine> {
    left_out(piece, "nats")
}

#[cfg(not(all(feature = "nats", feature = "postgres")))]
fn left_out(piece: Piece<'_>, engine: &str) -> Option<Engine> {
    piece.get(engine)?.report_key(
        format!("this build leaves out {engine}"),
        format!("build it with the cargo feature `{engine}`"),
    );
    None
}
