//! Long work that takes turns with whoever is being served.
//!
//! Ten thousand rules keep a core busy for some tenths of a second. Where cores are few, the threads that serve would wait behind that,
//! and the system hands out turns of milliseconds. So such work rests after each short turn of its own.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// How long to work without a rest: less than taking an event in takes, which waits for the disk.
const TURN: Duration = Duration::from_micros(100);

/// How long to rest: the work takes four times its time, which nobody waits for.
const REST: Duration = Duration::from_micros(300);

tokio::task_local! {
    /// When the turn began.
    static BEGUN: Cell<Instant>;
}

/// Does work in turns: it rests at the first [`breathe`] after each of them. The rests block the thread as the work does.
pub async fn in_turns<T>(work: impl Future<Output = T>) -> T {
    BEGUN.scope(Cell::new(Instant::now()), work).await
}

/// As [`in_turns`], of work that is no future.
pub fn in_turns_sync<T>(work: impl FnOnce() -> T) -> T {
    BEGUN.sync_scope(Cell::new(Instant::now()), work)
}

/// Rests, where this is work in turns and one is over. To be called every few microseconds of such work; it costs a look at the clock.
pub fn breathe() {
    // Outside of work in turns nobody is to be let through.
    let _ = BEGUN.try_with(|begun| {
        if begun.get().elapsed() >= TURN {
            std::thread::sleep(REST);
            begun.set(Instant::now());
        }
    });
}

/// Drops things one by one, and breathes in between.
pub fn drop_each<T>(things: impl IntoIterator<Item = T>) {
    for thing in things {
        drop(thing);
        breathe();
    }
}
