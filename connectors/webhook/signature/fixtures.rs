//! A signer and a server of keys, for tests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use num_bigint::BigUint;
use parking_lot::Mutex;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::net::tls::fixtures::acceptor;

/// Made out to `sns.amazonaws.com`, until 2123; as all others of the key in `signer.txt`.
pub(in crate::webhook) const SNS: &str = include_str!("fixtures/sns.pem");
/// Made out to `messageverificationcerts.paypal.com`.
pub(in crate::webhook) const PAYPAL: &str = include_str!("fixtures/paypal.pem");
/// Made out to `evil.example`.
pub(in crate::webhook) const OTHER: &str = include_str!("fixtures/other.pem");
/// Made out to `sns.amazonaws.com`, until 2021.
pub(in crate::webhook) const EXPIRED: &str = include_str!("fixtures/expired.pem");
/// Of another key, of 1024 bits.
pub(in crate::webhook) const SHORT: &str = include_str!("fixtures/short.pem");

/// An RSA key of 2048 bits that signs.
pub(in crate::webhook) struct TestKey {
    n: BigUint,
    d: BigUint,
}

const SHA1_INFO: &str = "3021300906052b0e03021a05000414";
const SHA256_INFO: &str = "3031300d060960864801650304020105000420";

impl TestKey {
    pub(in crate::webhook) fn new() -> Self {
        let mut lines = include_str!("fixtures/signer.txt")
            .lines()
            .map(|line| BigUint::parse_bytes(line.as_bytes(), 16).unwrap());
        Self {
            n: lines.next().unwrap(),
            d: lines.next().unwrap(),
        }
    }

    /// Packs bytes up with the private key: RFC 2313, section 8.1.
    pub(in crate::webhook) fn pack(&self, content: &[u8]) -> Vec<u8> {
        let block = [
            &[0, 1][..],
            &vec![0xff; 256 - 3 - content.len()],
            &[0],
            content,
        ]
        .concat();
        let packed = BigUint::from_bytes_be(&block)
            .modpow(&self.d, &self.n)
            .to_bytes_be();
        [vec![0; 256 - packed.len()], packed].concat()
    }

    pub(in crate::webhook) fn sha1(&self, text: &[u8]) -> String {
        BASE64_STANDARD.encode(
            self.pack(&[hex::decode(SHA1_INFO).unwrap(), Sha1::digest(text).to_vec()].concat()),
        )
    }

    fn sha256_bytes(&self, text: &[u8]) -> Vec<u8> {
        self.pack(
            &[
                hex::decode(SHA256_INFO).unwrap(),
                Sha256::digest(text).to_vec(),
            ]
            .concat(),
        )
    }

    pub(in crate::webhook) fn sha256(&self, text: &[u8]) -> String {
        BASE64_STANDARD.encode(self.sha256_bytes(text))
    }

    /// A JSON Web Token.
    pub(in crate::webhook) fn token(
        &self,
        header: &serde_json::Value,
        claims: &serde_json::Value,
    ) -> String {
        let [header, claims] =
            [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signature = BASE64_URL_SAFE_NO_PAD
            .encode(self.sha256_bytes(format!("{header}.{claims}").as_bytes()));
        format!("{header}.{claims}.{signature}")
    }

    /// A set with its public key by this name.
    pub(in crate::webhook) fn set(&self, kid: &str) -> String {
        let n = BASE64_URL_SAFE_NO_PAD.encode(self.n.to_bytes_be());
        serde_json::json!({ "keys": [{ "kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": n, "e": "AQAB" }] }).to_string()
    }
}

/// With TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A server of keys that counts who asks.
pub(in crate::webhook) struct KeyServer {
    pub(in crate::webhook) origin: String,
    /// Whole answers by their address; 404 where there is none.
    pages: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<AtomicUsize>,
    /// Each answer takes one.
    pub(in crate::webhook) gate: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl KeyServer {
    pub(in crate::webhook) async fn start() -> Self {
        Self::listen(None).await
    }

    /// One that shows a certificate of the tests' own authority.
    pub(in crate::webhook) async fn start_with_tls() -> Self {
        Self::listen(Some(acceptor(&[b"http/1.1"]))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = if tls.is_some() {
            format!("https://localhost:{}", address.port())
        } else {
            format!("http://{address}")
        };
        let (pages, asked, gate) = (
            Arc::new(Mutex::<HashMap<String, String>>::default()),
            Arc::<AtomicUsize>::default(),
            Arc::new(Semaphore::new(10_000)),
        );
        let (own_pages, own_asked, own_gate) =
            (Arc::clone(&pages), Arc::clone(&asked), Arc::clone(&gate));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pages, asked, gate) = (
                    Arc::clone(&own_pages),
                    Arc::clone(&own_asked),
                    Arc::clone(&own_gate),
                );
                let tls = tls.clone();
                tokio::spawn(async move {
                    let mut stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        // Who does not trust the certificate hangs up.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    let path = String::from_utf8(head)
                        .unwrap()
                        .split(' ')
                        .nth(1)
                        .unwrap()
                        .to_owned();
                    let missing =
                        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                            .to_owned();
                    let page = pages.lock().get(&path).cloned().unwrap_or(missing);
                    let _ = stream.write_all(page.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            origin,
            pages,
            asked,
            gate,
            task,
        }
    }

    /// Serves a body at a path, with these lines in the head.
    pub(in crate::webhook) fn serve(&self, path: &str, head: &str, body: &str) {
        let page = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n{head}\r\n{body}",
            body.len()
        );
        self.pages.lock().insert(path.to_owned(), page);
    }

    /// Answers at a path just this.
    pub(in crate::webhook) fn answer(&self, path: &str, whole: &str) {
        self.pages.lock().insert(path.to_owned(), whole.to_owned());
    }

    pub(in crate::webhook) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
