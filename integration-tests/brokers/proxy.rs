//! A TCP proxy that misbehaves when told to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What is passed on between two looks at the fault.
const PIECE_BYTES: usize = 16 * 1024;

/// What a proxy does to its connections, those that are open included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything on.
    #[default]
    None,
    /// Nobody listens; open connections are reset.
    Refuse,
    /// Accepts, and resets at once; open connections too.
    Reset,
    /// Accepts and passes nothing on in either direction; nobody is told of anything, ends
    /// included.
    BlackHole,
    /// Passes on what the client sends, and nothing of what the server answers: a path of which one
    /// half is gone.
    HalfOpen,
    /// Passes on so many bytes, and then so long nothing, in each direction.
    Trickle(usize, Duration),
}

/// What the proxy does at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    fault: Fault,
    /// Connections up to this number are never heard of again.
    stranded: usize,
}

/// A TCP proxy in front of one upstream, with its own port for as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    attempts: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that passes everything on to a port of this machine.
    ///
    /// # Panics
    /// Where its own port is taken.
    #[must_use]
    pub fn start(upstream: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::free_port()));
        let (weather, watched) = watch::channel(Weather::default());
        let attempts = Arc::new(AtomicUsize::new(0));
        // Bound before anybody is told the address.
        let listener = listen(address);
        let server = tokio::spawn(serve(
            listener,
            address,
            (Ipv4Addr::LOCALHOST, upstream).into(),
            watched,
            Arc::clone(&attempts),
        ));
        Self {
            address,
            weather,
            attempts,
            server,
        }
    }

    /// Its port on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, and for connections that are open already, this.
    pub fn set(&self, fault: Fault) {
        self.weather.send_modify(|weather| weather.fault = fault);
    }

    /// Those that are connected now never hear of each other again, as if the other machine were
    /// gone: no end, no reset. New ones are not affected.
    pub fn strand(&self) {
        self.weather
            .send_modify(|weather| weather.stranded = self.attempts());
    }

    /// How many connections it has accepted so far. Those that were refused are not among them.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let listen = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    listen().unwrap_or_else(|error| panic!("the proxy cannot listen on {address}: {error}"))
}

async fn serve(
    first: TcpListener,
    address: SocketAddr,
    upstream: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    attempts: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    let mut listener = Some(first);
    loop {
        let fault = weather.borrow_and_update().fault;
        match (fault, &listener) {
            (Fault::Refuse, _) => listener = None,
            (_, None) => listener = Some(listen(address)),
            (_, Some(_)) => {}
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = weather.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
            accepted = accept => {
                let Ok((client, _)) = accepted else { continue };
                let number = attempts.fetch_add(1, Ordering::Relaxed) + 1;
                connections.spawn(connect(client, upstream, Watched { weather: weather.clone(), number }));
            }
        }
    }
}

/// What one connection sees of the weather.
#[derive(Clone)]
struct Watched {
    weather: watch::Receiver<Weather>,
    number: usize,
}

impl Watched {
    /// Waits for a fault, or for none, that lets this connection go on.
    async fn until(&mut self, goes_on: impl Fn(Fault) -> bool) -> Fault {
        let number = self.number;
        let weather = self
            .weather
            .wait_for(|weather| number > weather.stranded && goes_on(weather.fault))
            .await;
        // Without a proxy there is soon no connection either.
        weather.map_or(Fault::None, |weather| weather.fault)
    }

    /// Waits until it is to be broken off.
    async fn broken_off(mut self) {
        self.until(|fault| matches!(fault, Fault::Reset | Fault::Refuse))
            .await;
    }
}

/// Serves one connection until it ends or is to be reset.
async fn connect(client: TcpStream, upstream: SocketAddr, watched: Watched) {
    let broken_off = watched.clone().broken_off();
    tokio::pin!(broken_off);
    // A connection that was made into a black hole reaches the server once that is over.
    let open = async {
        watched
            .clone()
            .until(|fault| fault != Fault::BlackHole)
            .await;
        TcpStream::connect(upstream).await
    };
    let server = tokio::select! {
        server = open => server,
        () = &mut broken_off => return hang_up(&client),
    };
    let Ok(server) = server else {
        return hang_up(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = Pipe {
        from: from_client,
        to: to_server,
        watched: watched.clone(),
        is_answer: false,
    };
    let mut down = Pipe {
        from: from_server,
        to: to_client,
        watched,
        is_answer: true,
    };
    tokio::select! {
        ended = async { tokio::try_join!(up.run(), down.run()) } => if ended.is_ok() { return },
        () = broken_off => {}
    }
    for Pipe { from, to, .. } in [up, down] {
        hang_up(from.as_ref());
        // Otherwise it says an orderly goodbye first.
        to.forget();
    }
}

/// Makes the connection end with a reset once it is dropped.
fn hang_up(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction of a connection.
struct Pipe {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    watched: Watched,
    is_answer: bool,
}

impl Pipe {
    /// Passes on until the sender has ended.
    async fn run(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = self.from.read(&mut piece).await?;
            // What was read before the fault is stopped by it as well, and goes on once it is over.
            let is_answer = self.is_answer;
            let fault = self
                .watched
                .until(|fault| {
                    fault != Fault::BlackHole && !(is_answer && fault == Fault::HalfOpen)
                })
                .await;
            let mut rest = piece.get(..read).unwrap_or_default();
            if rest.is_empty() {
                return self.to.shutdown().await;
            }
            if let Fault::Trickle(bytes, pause) = fault {
                while !rest.is_empty() && self.watched.weather.borrow().fault == fault {
                    let (now, later) = rest.split_at(bytes.clamp(1, rest.len()));
                    self.to.write_all(now).await?;
                    rest = later;
                    tokio::time::sleep(pause).await;
                }
            }
            self.to.write_all(rest).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::time::{Instant, timeout};

    use super::*;

    /// Waits until `condition` holds, looking again every few milliseconds.
    async fn until(what: &str, condition: impl AsyncFn() -> bool) {
        let holds = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(Duration::from_secs(60), holds).await;
        assert!(waited.is_ok(), "waited in vain until {what}");
    }

    /// A server that sends back what it is sent, behind a proxy.
    async fn echo() -> (Proxy, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = io::copy(&mut from, &mut to).await;
                });
            }
        });
        (Proxy::start(port), server)
    }

    async fn dial(proxy: &Proxy) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", proxy.port())).await
    }

    /// Sends a word and waits for it to come back.
    async fn say(stream: &mut TcpStream, word: &[u8]) -> io::Result<()> {
        stream.write_all(word).await?;
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).await?;
        assert_eq!(heard, word);
        Ok(())
    }

    /// Longer than a word takes, and no longer than a test wants to wait for nothing.
    const NOTHING: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn what_is_said_is_passed_on_and_so_is_the_end() {
        let (proxy, _server) = echo().await;
        let mut stream = dial(&proxy).await.unwrap();
        say(&mut stream, b"hello").await.unwrap();
        let long = vec![7; 1_000_000];
        let (mut from, mut to) = stream.split();
        let mut heard = Vec::new();
        let (sent, read) = tokio::join!(
            async {
                to.write_all(&long).await?;
                to.shutdown().await
            },
            from.read_to_end(&mut heard)
        );
        sent.unwrap();
        read.unwrap();
        assert_eq!(heard, long);
        assert_eq!(proxy.attempts(), 1);
    }

    #[tokio::test]
    async fn resets_and_refusals_break_off_what_is_open_and_pass() {
        let (proxy, _server) = echo().await;
        for fault in [Fault::Reset, Fault::Refuse] {
            let mut stream = dial(&proxy).await.unwrap();
            say(&mut stream, b"hello").await.unwrap();
            let before = proxy.attempts();
            proxy.set(fault);
            assert_eq!(
                stream.read_u8().await.unwrap_err().kind(),
                ErrorKind::ConnectionReset,
                "{fault:?}"
            );
            // The listener goes at about the same time as the connection.
            until("new ones fare no better", async || {
                match dial(&proxy).await {
                    Err(error) => {
                        error.kind() == ErrorKind::ConnectionRefused && fault == Fault::Refuse
                    }
                    Ok(mut stream) => stream.read_u8().await.is_err() && fault == Fault::Reset,
                }
            })
            .await;
            assert!(
                (proxy.attempts() > before) == (fault == Fault::Reset) || fault == Fault::Refuse
            );
            proxy.set(Fault::None);
            until("it is good again", async || match dial(&proxy).await {
                Ok(mut stream) => say(&mut stream, b"again").await.is_ok(),
                Err(_) => false,
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_black_hole_says_nothing_and_loses_nothing() {
        let (proxy, _server) = echo().await;
        let mut open = dial(&proxy).await.unwrap();
        say(&mut open, b"hello").await.unwrap();
        proxy.set(Fault::BlackHole);
        let mut new = dial(&proxy).await.unwrap();
        let spoken = async { tokio::join!(say(&mut open, b"anybody?"), say(&mut new, b"nobody?")) };
        tokio::pin!(spoken);
        assert!(
            timeout(NOTHING, &mut spoken).await.is_err(),
            "a black hole has answered"
        );
        proxy.set(Fault::None);
        let (one, two) = spoken.await;
        one.unwrap();
        two.unwrap();
    }

    #[tokio::test]
    async fn of_half_a_path_the_other_half_works() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().port());
        let mut client = dial(&proxy).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.set(Fault::HalfOpen);
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.write_all(b"y").await.unwrap();
        drop(server);
        assert!(
            timeout(NOTHING, client.read_u8()).await.is_err(),
            "the lost half has answered"
        );
        proxy.set(Fault::None);
        assert_eq!(client.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test]
    async fn who_is_stranded_hears_nothing_more_and_who_comes_anew_does() {
        let (proxy, _server) = echo().await;
        let mut old = dial(&proxy).await.unwrap();
        say(&mut old, b"hello").await.unwrap();
        proxy.strand();
        say(&mut dial(&proxy).await.unwrap(), b"hello")
            .await
            .unwrap();
        assert!(
            timeout(NOTHING, say(&mut old, b"anybody?")).await.is_err(),
            "it was heard of again"
        );
    }

    #[tokio::test]
    async fn a_trickle_takes_its_time() {
        let (proxy, _server) = echo().await;
        let mut stream = dial(&proxy).await.unwrap();
        say(&mut stream, b"hello").await.unwrap();
        proxy.set(Fault::Trickle(1, Duration::from_millis(20)));
        let begin = Instant::now();
        say(&mut stream, b"0123456789").await.unwrap();
        assert!(
            begin.elapsed() >= Duration::from_millis(180),
            "ten bytes came in {:?}",
            begin.elapsed()
        );
        proxy.set(Fault::None);
        say(&mut stream, &[1; 100_000]).await.unwrap();
    }
}
