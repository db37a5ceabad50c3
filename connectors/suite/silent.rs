//! A server that takes connections and never answers.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A server that takes connections and never answers.
pub(crate) struct Silent {
    port: u16,
    /// How many connections came and how many went.
    seen: watch::Receiver<(usize, usize)>,
    _serving: AbortOnDropHandle<()>,
}

impl Silent {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seeing, seen) = watch::channel((0, 0));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seeing = seeing.clone();
                tokio::spawn(async move {
                    seeing.send_modify(|seen| seen.0 += 1);
                    let mut nothing = [0; 64];
                    while stream.read(&mut nothing).await.is_ok_and(|bytes| bytes > 0) {}
                    seeing.send_modify(|seen| seen.1 += 1);
                });
            }
        });
        Self {
            port,
            seen,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// `127.0.0.1:<port>`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns once a connection has come.
    pub(crate) async fn begun(&self) {
        let mut seen = self.seen.clone();
        let came = seen.wait_for(|(came, _)| *came > 0);
        timeout(LONG, came).await.unwrap().unwrap();
    }

    /// Returns once all that came are gone.
    pub(crate) async fn abandoned(&self) {
        let mut seen = self.seen.clone();
        let gone = seen.wait_for(|(came, went)| came == went);
        timeout(LONG, gone).await.unwrap().unwrap();
    }
}
