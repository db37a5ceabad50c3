//! A message in the making.

use bytes::Bytes;
use pointsman_schemas::{PositionChange, Reject};
use smallvec::SmallVec;

use crate::object_storage::connection::Bucket;
use crate::object_storage::happening::Happening;
use crate::object_storage::look::Look;
use crate::{Acknowledgement, Message, SourceError};

/// A message in the making.
pub(super) struct Draft {
    pub(super) happenings: Vec<Happening>,
    pub(super) rejects: Vec<Reject>,
    pub(super) acknowledgement: Acknowledgement,
    /// What changes in what is known with it.
    pub(super) positions: Vec<PositionChange>,
}

impl Draft {
    /// Makes the message, which may take a look at each object.
    pub(super) async fn message(
        self,
        bucket: &Bucket,
        look: Look,
        mapped: bool,
    ) -> Result<Message, SourceError> {
        let Draft {
            happenings,
            mut rejects,
            acknowledgement,
            positions,
        } = self;
        let mut arrivals = SmallVec::new();
        for happening in happenings {
            let seen = bucket.look(&happening, look).await?;
            let key = happening.mark.key.clone();
            match happening.arrival(seen, mapped) {
                Ok(arrival) => arrivals.push(arrival),
                Err(error) => rejects.push(Reject {
                    raw: Bytes::from(key),
                    reason: format!("the object's key makes no event: {error}"),
                }),
            }
        }
        Ok(Message {
            arrivals,
            rejects,
            acknowledgement,
            positions,
        })
    }
}
