//! When the write-ahead log is moved into the database.

use super::*;
use crate::disk::upkeep::Upkeep;

#[test]
fn a_log_that_was_long_once_waits_until_it_is_again() {
    suite::paused(async {
        let directory = TempDir::new().unwrap();
        let options = DiskOptions {
            max_size_bytes: 64 * 1024 * 1024,
            ..DiskOptions::default()
        };
        let clock = Arc::new(RuntimeClock::new(START));
        let journal = DiskJournal::open(directory.path(), options, clock).unwrap();
        let shared = &journal.shared;
        let append = async |id: &str, bytes| {
            let entry = Entry {
                event: suite::sized_event(id, bytes),
                ..suite::entry(id, &[])
            };
            journal.append(suite::append_of(vec![entry])).await.unwrap();
            shared.log_waiting()
        };
        let look = || {
            let round = Upkeep::new(Arc::clone(shared)).round(false, false);
            round.unwrap();
        };
        let long = shared.log_bytes_max();
        let mut number = 0..;
        while append(&number.next().unwrap().to_string(), 1024 * 1024).await <= long {}
        look();
        let moved = append("moved", 1).await;
        assert!(moved < long / 8, "{moved} bytes still wait to be moved");
        let mut waiting = vec![moved];
        for id in ["a", "b", "c", "d"] {
            look();
            waiting.push(append(id, 1).await);
        }
        assert!(
            waiting.is_sorted_by(|before, after| before < after),
            "a short log was moved: {waiting:?}"
        );
        assert!(
            shared.log_length() > long,
            "a file that grows again costs more with each sync"
        );
        journal.close().await;
    });
}
