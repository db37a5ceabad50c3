//! What the ballast lends to whom.

use std::fs::File;

use super::*;
use crate::disk::ballast::{Ballast, Share};

const MIB: u64 = 1024 * 1024;

/// A whole ballast of 4 MiB, and a file that may need its room.
fn ballast(directory: &TempDir) -> (Ballast, File) {
    let mut ballast = Ballast::of(directory.path(), 4 * MIB);
    assert!(!ballast.is_whole(), "nothing is there at first");
    assert!(ballast.refill());
    let file = File::create(directory.path().join("journal.db")).unwrap();
    (ballast, file)
}

/// What lies on the disk for it.
fn length(directory: &TempDir) -> u64 {
    directory.path().join("ballast").metadata().unwrap().len()
}

#[test]
fn what_is_new_may_count_on_half_and_what_frees_on_nearly_all() {
    let directory = TempDir::new().unwrap();
    let (ballast, _file) = ballast(&directory);
    assert_eq!(length(&directory), 4 * MIB);
    // Half a mebibyte is kept for what makes room, and half of that for opening the store.
    for (share, most) in [
        (Share::New, (4 * MIB - MIB / 2) / 2),
        (Share::Known, 4 * MIB - MIB / 2),
        (Share::Freeing, 4 * MIB - MIB / 4),
    ] {
        assert!(ballast.covers(most, share), "{share:?}");
        assert!(!ballast.covers(most + 1, share), "{share:?}");
    }
}

#[test]
fn it_is_where_it_was_left_and_grows_back_to_its_size() {
    let directory = TempDir::new().unwrap();
    drop(ballast(&directory));
    File::options()
        .write(true)
        .open(directory.path().join("ballast"))
        .unwrap()
        .set_len(MIB)
        .unwrap();
    let mut again = Ballast::of(directory.path(), 4 * MIB);
    assert!(!again.is_whole());
    assert!(again.covers(MIB / 4, Share::New) && !again.covers(MIB / 2, Share::New));
    // A log of two mebibytes gives back less than the three that are missing.
    assert!(!again.is_completed_by(2 * MIB));
    assert!(again.refill());
    assert_eq!(length(&directory), 4 * MIB);
}

#[test]
fn what_it_gives_up_is_missing_until_it_is_taken_back() {
    let directory = TempDir::new().unwrap();
    let (mut ballast, _file) = ballast(&directory);
    ballast.give_up_for_opening();
    assert!(!ballast.is_whole());
    let missing = 4 * MIB - length(&directory);
    assert!((1..MIB).contains(&missing), "{missing}");
    assert!(ballast.is_completed_by(missing) && !ballast.is_completed_by(missing - 1));
    assert!(ballast.restore());
    assert_eq!(length(&directory), 4 * MIB);
}

#[test]
fn what_the_last_look_found_holds_until_the_ballast_or_the_database_changes() {
    let directory = TempDir::new().unwrap();
    let (mut ballast, file) = ballast(&directory);
    assert!(!ballast.is_sure_of(1), "nobody has looked");
    let credit = (4 * MIB - MIB / 2) / 2;
    ballast.note_database(MIB, 0);
    assert!(ballast.is_sure_of(MIB + credit) && !ballast.is_sure_of(MIB + credit + 1));
    // The file has taken more room than the ballast stands for.
    assert!(ballast.reserve(&file, 2 * credit));
    ballast.note_database(MIB, 2 * credit);
    assert!(ballast.is_sure_of(MIB + 2 * credit));
    ballast.forget_database();
    assert!(!ballast.is_sure_of(MIB));
    ballast.note_database(MIB, 0);
    ballast.give_up_for_opening();
    assert!(!ballast.is_sure_of(MIB), "there is less of it now");
}

#[test]
fn one_that_was_removed_lends_nothing_and_comes_back() {
    let directory = TempDir::new().unwrap();
    let (mut ballast, _file) = ballast(&directory);
    std::fs::remove_file(directory.path().join("ballast")).unwrap();
    ballast.give_up_for_opening();
    assert!(!ballast.covers(1, Share::Freeing));
    assert!(ballast.refill());
    assert_eq!(length(&directory), 4 * MIB);
}
