//! Telling a folder from another one in its place.
//!
//! A mount point whose share is not mounted is an empty folder: what was in the share is not
//! deleted. So the position keeps device and inode of the folder, and of the mount points below it.
//! They do not always last, though: many file systems get another device number when they are
//! mounted again, and a restored folder has another inode. So another folder is taken for the same
//! where it holds the same files.

use std::io;

use super::listing::{Key, Listing, Scope};
use super::position::Position;

/// Whether this folder is the one whose position is stored, or holds enough of it to be followed in
/// its place.
///
/// # Errors
/// It cannot be listed.
pub(super) fn accept(scope: &Scope, position: &Position) -> io::Result<bool> {
    match position.mounts.get(&Key::new()) {
        Some(root) if *root != scope.identity => {
            Ok(is_found(position, &Key::new(), &scope.list(&mut |_| {})?))
        }
        _ => Ok(true),
    }
}

/// Says of each mount point below the folder that is not what it was, and does not hold the files
/// that it held, that nothing can be said.
pub(super) fn hold(position: &Position, listing: &mut Listing) {
    for (mount, identity) in position
        .mounts
        .iter()
        .filter(|(mount, _)| !mount.is_empty())
    {
        if listing.mounts.get(mount) != Some(identity) && !is_found(position, mount, listing) {
            let why = "it is another folder than the one that was followed, and holds none of its \
                       files; mount its share again, or set replaced: tell";
            listing
                .unreadable
                .insert([&mount[..], b"/"].concat(), why.to_owned());
            listing.mounts.insert(mount.clone(), *identity);
        }
    }
}

/// True where at least half of the files that are known in a folder lie there unchanged; also where
/// none is known.
fn is_found(position: &Position, folder: &Key, listing: &Listing) -> bool {
    let start = if folder.is_empty() {
        Key::new()
    } else {
        [&folder[..], b"/"].concat()
    };
    let known = position
        .files
        .range(start.clone()..)
        .take_while(|(key, _)| key.starts_with(&start));
    let (mut all, mut found) = (0_usize, 0_usize);
    for (key, known) in known {
        all += 1;
        found += usize::from(
            listing
                .files
                .get(key)
                .is_some_and(|version| version.looks_like(known.version)),
        );
    }
    found * 2 >= all
}

#[cfg(test)]
mod tests {
    use super::super::listing::Version;
    use super::super::position::Known;
    use super::*;

    fn version(size: u64) -> Version {
        Version {
            modified: 1,
            changed: 1,
            size,
            inode: 1,
            access: Some(1),
        }
    }

    #[test]
    fn a_mount_point_is_held_unless_it_is_the_same_or_holds_the_same() {
        let known = ["a", "share/1", "share/2", "share/3", "share-2/x"];
        let known = known.map(|key| {
            (
                key.as_bytes().to_vec(),
                Known {
                    version: version(1),
                    generation: 0,
                },
            )
        });
        let mounts = [(Key::new(), (1, 2)), (b"share".to_vec(), (5, 2))].into();
        let position = Position {
            generation: 0,
            mounts,
            files: known.into(),
        };
        for (mount, files, held) in [
            (Some((5, 2)), vec![], false),
            (None, vec![], true),
            (Some((6, 2)), vec![], true),
            (Some((6, 2)), vec![("share/1", 1)], true),
            (Some((6, 2)), vec![("share/1", 1), ("share/3", 1)], false),
            (
                Some((6, 2)),
                vec![("share/1", 1), ("share/3", 2), ("share-2/x", 1)],
                true,
            ),
        ] {
            let files = files
                .iter()
                .map(|(key, size)| (key.as_bytes().to_vec(), version(*size)))
                .collect();
            let mut listing = Listing {
                files,
                ..Listing::default()
            };
            listing
                .mounts
                .extend(mount.map(|mount| (b"share".to_vec(), mount)));
            hold(&position, &mut listing);
            assert_eq!(
                listing.unreadable.contains_key(&b"share/"[..]),
                held,
                "{mount:?} {:?}",
                listing.files
            );
            // Held, it is waited for.
            assert_eq!(
                listing.mounts.get(&b"share"[..]).copied(),
                if held { Some((5, 2)) } else { mount }
            );
        }
    }
}
