//! A connection that all who call a target share.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Keeps a connection, made by the first who asks while the others wait for it.
pub(crate) struct SharedConnection<C, E>(Mutex<Kept<C, E>>);

/// The connection, and how the last attempt at one failed.
struct Kept<C, E> {
    connected: Option<Arc<C>>,
    failed: Option<(Instant, E)>,
}

impl<C, E> Default for SharedConnection<C, E> {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            connected: None,
            failed: None,
        }))
    }
}

impl<C, E: Clone> SharedConnection<C, E> {
    /// The connection, which is made anew by `connect` where none is there that `is_usable`.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn get(
        &self,
        is_usable: impl Fn(&C) -> bool,
        connect: impl Future<Output = Result<C, E>>,
    ) -> Result<Arc<C>, E> {
        let asked = Instant::now();
        let mut kept = self.0.lock().await;
        if let Some(connected) = &kept.connected
            && is_usable(connected)
        {
            return Ok(Arc::clone(connected));
        }
        // Whoever waited while it failed need not wait for the next try.
        if let Some((at, failed)) = &kept.failed
            && *at >= asked
        {
            return Err(failed.clone());
        }
        match connect.await {
            Ok(connected) => {
                let connected = Arc::new(connected);
                kept.connected = Some(Arc::clone(&connected));
                Ok(connected)
            }
            Err(failed) => {
                kept.connected = None;
                kept.failed = Some((Instant::now(), failed.clone()));
                Err(failed)
            }
        }
    }

    /// Forgets a connection that is of no use any more, unless another has taken its place.
    pub(crate) async fn forget(&self, connection: &Arc<C>) {
        let mut kept = self.0.lock().await;
        kept.connected.take_if(|kept| Arc::ptr_eq(kept, connection));
    }
}
