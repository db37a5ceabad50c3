//! Scripts and styles, which are part of the binary. Each is served under a path that names its
//! version, or its content, and is kept by browsers for a year.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::admin::refused::Refused;
use crate::admin::{ASSETS_PATH, FOR_EVER};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A file that is served.
struct Asset {
    /// Its name, with its version.
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

/// The console's own, whose version is what is in them.
const OWN_STYLE: &[u8] = include_bytes!("own/console.css");
const OWN_SCRIPT: &[u8] = include_bytes!("own/console.js");

const ASSETS: [Asset; 6] = [
    Asset {
        name: "console.css",
        media_type: STYLE,
        content: OWN_STYLE,
    },
    Asset {
        name: "uplot-1.6.32.css",
        media_type: STYLE,
        content: include_bytes!("vendor/uplot-1.6.32/uPlot.min.css"),
    },
    Asset {
        name: "htmx-2.0.11.js",
        media_type: SCRIPT,
        content: include_bytes!("vendor/htmx.org-2.0.11/htmx.min.js"),
    },
    Asset {
        name: "htmx-sse-2.2.4.js",
        media_type: SCRIPT,
        content: include_bytes!("vendor/htmx-ext-sse-2.2.4/sse.min.js"),
    },
    Asset {
        name: "uplot-1.6.32.js",
        media_type: SCRIPT,
        content: include_bytes!("vendor/uplot-1.6.32/uPlot.iife.min.js"),
    },
    Asset {
        name: "console.js",
        media_type: SCRIPT,
        content: OWN_SCRIPT,
    },
];

/// Changes whenever one of the console's own files does.
const BUILD: u64 = fnv(OWN_SCRIPT, fnv(OWN_STYLE, 0xcbf2_9ce4_8422_2325));

/// FNV-1a.
const fn fnv(mut bytes: &[u8], mut hash: u64) -> u64 {
    while let [byte, rest @ ..] = bytes {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
        bytes = rest;
    }
    hash
}

/// The paths of all of a kind, in the order in which a page needs them.
fn paths(media_type: &'static str) -> impl Iterator<Item = String> {
    let of_kind = ASSETS
        .iter()
        .filter(move |one| one.media_type == media_type);
    of_kind.map(|one| format!("{ASSETS_PATH}{BUILD:016x}/{}", one.name))
}

pub(super) fn scripts() -> impl Iterator<Item = String> {
    paths(SCRIPT)
}

pub(super) fn styles() -> impl Iterator<Item = String> {
    paths(STYLE)
}

/// Serves one, under whatever build: a page that is still open asks for those of an older one.
pub(super) async fn serve(Path((_build, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().find(|one| one.name == name) {
        Some(asset) => {
            let headers = [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static(asset.media_type),
                ),
                (header::CACHE_CONTROL, FOR_EVER),
            ];
            (headers, asset.content).into_response()
        }
        None => Failure::from(Refused::not_found(format!("file {name}"))).into_response(),
    }
}
