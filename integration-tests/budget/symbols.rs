//! The places that the addresses of an executable come from, by its debug information.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use addr2line::{Loader, demangle_auto};

use crate::stages::{Way, place};

/// An executable's debug information.
pub struct Symbols {
    loader: Loader,
    workspace: String,
    ways: RefCell<HashMap<u64, Way>>,
}

impl Symbols {
    /// Reads that of an executable that was built in a workspace.
    ///
    /// # Errors
    /// It has none, or cannot be read.
    pub fn read(executable: &Path, workspace: &Path) -> Result<Self, String> {
        let loader = Loader::new(executable)
            .map_err(|error| format!("{}: {error}", executable.display()))?;
        Ok(Self {
            loader,
            workspace: workspace.display().to_string(),
            ways: RefCell::default(),
        })
    }

    /// The way into the code at an address, through the functions that are inlined there.
    pub fn way(&self, address: u64) -> Way {
        if let Some(known) = self.ways.borrow().get(&address) {
            return *known;
        }
        let way = self
            .files(address)
            .iter()
            .rev()
            .filter_map(|path| place(path, &self.workspace))
            .fold(Way::default(), |way, place| way.into(&place));
        self.ways.borrow_mut().insert(address, way);
        way
    }

    /// The files of the functions that are inlined at an address, the innermost first.
    fn files(&self, address: u64) -> Vec<String> {
        let mut files = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                files.extend(
                    frame
                        .location
                        .and_then(|location| location.file)
                        .map(str::to_owned),
                );
            }
        }
        files
    }
}

/// A symbol as it is read.
#[must_use]
pub fn demangle(symbol: &str) -> String {
    demangle_auto(symbol.into(), None).into_owned()
}
