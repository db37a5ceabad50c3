//! Work that would hold up whatever else waits for the same thread.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does work of some milliseconds while the runtime's other tasks go on: another thread takes this
/// one's place meanwhile. Done in place where there is none, in a runtime of one thread or outside
/// of one.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let has_others = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_others {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
