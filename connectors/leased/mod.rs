//! Reading a queue that hands its messages out for a time: SQS, MNS, groups of streams of Redis and
//! of topics of RocketMQ, and what is like them.
//!
//! A message is deleted once everything in it is stored. Until then a heartbeat keeps it from being
//! handed to anybody else; what cannot be stored comes again after a while, and what a crash leaves
//! when its time in hand is over.
//!
//! | file | |
//! |---|---|
//! | `queue.rs` | what a queue has to be able to do |
//! | `reading.rs` | asks for messages, as many calls at once as there is use for |
//! | `reader.rs` | the same as a source, for those of whose messages each brings one event |
//! | `settings.rs` | what settings of such sources have in common |
//! | `held.rs` | what is in hand, and its bound |
//! | `keeper.rs` | extends what is in hand, deletes it and gives it back |
//! | `settling.rs` | one such call for several messages |
//! | `watch.rs` | how many messages wait, and whether the queue answers |

mod held;
mod keeper;
mod queue;
mod reader;
mod reading;
pub(crate) mod settings;
mod settling;
mod watch;

pub(crate) use held::Bounds;
pub(crate) use queue::{Answer, Failure, Hidden, Queue};
pub(crate) use reader::{Decoder, Reader, Way};
pub(crate) use reading::{Reading, Received};
