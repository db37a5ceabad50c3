//! The function that the bus under valgrind calls.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A function that takes what it is given, and answers when it is told to.
#[derive(Default)]
pub struct Function {
    called: AtomicU64,
    /// So many calls may be answered.
    allowed: Mutex<u64>,
    allowing: Condvar,
    answered: AtomicU64,
}

impl Function {
    /// Serves on a port.
    pub fn start() -> (u16, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let function = Arc::<Self>::default();
        let served = Arc::clone(&function);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let function = Arc::clone(&served);
                std::thread::spawn(move || function.serve(stream));
            }
        });
        (port, function)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        stream.set_nodelay(true).expect("a socket takes options");
        while read_message(&mut stream, &mut buffer).is_some() {
            let number = self.called.fetch_add(1, Ordering::SeqCst);
            let allowed = self.allowed.lock().expect("no panic while it is held");
            drop(
                self.allowing
                    .wait_while(allowed, |allowed| *allowed <= number),
            );
            let written = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            self.answered.fetch_add(1, Ordering::SeqCst);
            if written.is_err() {
                break;
            }
        }
    }

    /// How often it has been called, and has answered.
    pub fn calls(&self) -> (u64, u64) {
        (
            self.called.load(Ordering::SeqCst),
            self.answered.load(Ordering::SeqCst),
        )
    }

    /// Answers all calls so far.
    pub fn answer(&self) {
        let called = self.called.load(Ordering::SeqCst);
        *self.allowed.lock().expect("no panic while it is held") = called;
        self.allowing.notify_all();
        while self.answered.load(Ordering::SeqCst) < called {
            std::thread::yield_now();
        }
    }
}

/// Reads one HTTP/1.1 message with a length and returns its head; nothing where the connection
/// ends.
pub fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    let mut chunk = [0; 4_096];
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(buffer.get(..end)?).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |text| text.trim().parse().expect("a length is a number"));
            if buffer.len() >= end + 4 + length {
                buffer.drain(..end + 4 + length);
                return Some(head);
            }
        }
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(chunk.get(..read)?);
    }
}
