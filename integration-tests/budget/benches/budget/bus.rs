//! A bus under valgrind, with its callers and the function that it calls, moved step by step.
//!
//! What a round brings is sent while the bus stands still, and the next step comes when the bus has
//! nothing left to do. Also the end of a sync is such a step. What it does in one go (the requests
//! of one look at its sockets, the rows of one commit) then hangs on the order of its own work, and
//! hardly on how fast the machine is or what else runs there.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_test_brokers::free_port;
use tempfile::TempDir;

use super::function::{Function, read_message};

/// Callers, each with one request in flight.
const CALLERS: u32 = 64;

/// How many calls are in flight: reached within the first rounds, so that it does not move later.
const CALLS_MAX: u32 = 16;

/// How long anything may take: valgrind makes all of it fifty times as slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process rests where no thread of it has run for so many looks.
const LOOKS_AT_REST: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// What the binary is run with: addresses and not lines, and every name in full.
const CALLGRIND: [&str; 10] = [
    "--tool=callgrind",
    "--quiet",
    "--instr-atstart=no",
    "--fair-sched=yes",
    "--dump-instr=yes",
    "--dump-line=no",
    "--compress-strings=no",
    "--compress-pos=no",
    "--demangle=no",
    "--callgrind-out-file=profile",
];

/// A bus under valgrind.
pub struct Bus {
    folder: TempDir,
    process: Child,
    admin: u16,
    callers: Vec<(TcpStream, Vec<u8>)>,
    function: Arc<Function>,
    /// Where its syncs wait to be ended.
    gate: Option<UnixListener>,
    sent: u64,
}

impl Bus {
    /// Starts it with one rule that has the function called, and connects the callers. `history`
    /// is the rule's setting of that name.
    pub fn start(history: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (function_port, function) = Function::start();
        let (listen, admin) = (free_port(), free_port());
        let rules = format!(
            "listen: 127.0.0.1:{listen}\nadmin: 127.0.0.1:{admin}\nstore: {{ path: ./store }}\n\
             targets:\n  function:\n    http: {{ url: \"http://127.0.0.1:{function_port}/\" }}\n    \
             delivery: {{ concurrency: {{ max: {CALLS_MAX} }}, history: {history} }}\n\
             rules:\n  orders: {{ match: {{ type: [order.paid] }}, to: function }}\n"
        );
        std::fs::write(folder.path().join("pointsman.yaml"), rules).expect("a file can be written");
        let process = run(folder.path());
        let mut bus = Self {
            folder,
            process,
            admin,
            callers: Vec::new(),
            function,
            gate: None,
            sent: 0,
        };
        bus.ready();
        bus.callers = (0..CALLERS).map(|_| (caller(listen), Vec::new())).collect();
        bus.idle();
        // From now on its syncs wait.
        let gate = UnixListener::bind(bus.gate_path()).expect("a socket can be bound");
        gate.set_nonblocking(true).expect("a socket takes options");
        bus.gate = Some(gate);
        bus.callgrind(&["-i", "on"]);
        bus
    }

    fn gate_path(&self) -> PathBuf {
        self.folder.path().join(GATE)
    }

    fn ready(&mut self) {
        let begin = Instant::now();
        loop {
            let ended = self.process.try_wait().expect("a child can be waited for");
            assert!(
                ended.is_none() && begin.elapsed() < PATIENCE,
                "the bus does not come up under valgrind:\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            let answer = TcpStream::connect(("127.0.0.1", self.admin)).and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(
                    b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
                )?;
                let mut text = String::new();
                stream.read_to_string(&mut text).map(|_| text)
            });
            if answer.is_ok_and(|text| text.starts_with("HTTP/1.1 200")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has somebody listen to what is asked for, as long as the bus runs.
    pub fn listen(&self, query: &str) {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.admin)).expect("the bus takes connections");
        let request = format!("GET /api/v1/tap?{query} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the bus reads");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("the bus answers");
        assert_eq!(&head, b"HTTP/1.1 200");
        std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    }

    /// Forgets what has been counted so far.
    pub fn count_from_now(&self) {
        self.callgrind(&["-z"]);
    }

    /// Has each caller send an event, and goes on until all of them are delivered and settled.
    /// Returns how many that were.
    pub fn round(&mut self) -> u32 {
        self.while_stopped(|bus| {
            for (stream, _) in &mut bus.callers {
                bus.sent += 1;
                stream.write_all(&request(bus.sent)).expect("the bus reads");
            }
        });
        let begin = Instant::now();
        while self.step() {
            assert!(begin.elapsed() < PATIENCE, "not all events are delivered");
        }
        for (stream, buffer) in &mut self.callers {
            let head = read_message(stream, buffer).expect("the bus answers");
            assert!(head.starts_with("http/1.1 202"), "{head}");
        }
        CALLERS
    }

    /// Gives the bus, once it has nothing left to do, the next thing: the answers to its calls,
    /// else the end of the sync that it waits for. Returns whether anything is left to come.
    fn step(&mut self) -> bool {
        self.idle();
        let (called, answered) = self.function.calls();
        if called > answered {
            // Before the sync, so that how long a call takes is always the same: the bus makes
            // fewer calls at a time where it grows.
            self.while_stopped(|bus| bus.function.answer());
            return true;
        }
        let waiting = self.gate.as_ref().and_then(|gate| gate.accept().ok());
        waiting.is_some() || called < self.sent
    }

    fn while_stopped(&mut self, act: impl FnOnce(&mut Self)) {
        self.signal("STOP");
        act(self);
        self.signal("CONT");
    }

    /// Waits until no thread of the process has run for some looks.
    fn idle(&self) {
        let begin = Instant::now();
        let (mut before, mut looks) = (String::new(), 0);
        while looks < LOOKS_AT_REST {
            assert!(begin.elapsed() < PATIENCE, "the bus does not come to rest");
            let (runs, now) = self.activity();
            looks = if runs || now != before { 0 } else { looks + 1 };
            before = now;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether a thread runs or waits for the disk (proc_pid_stat(5)), and how long each has run
    /// so far.
    fn activity(&self) -> (bool, String) {
        let tasks = Path::new("/proc")
            .join(self.process.id().to_string())
            .join("task");
        let (mut runs, mut times) = (false, String::new());
        for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let stat = read("stat");
            let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            runs |= state.starts_with(['R', 'D']);
            times += &read("schedstat");
        }
        (runs, times)
    }

    /// Tells callgrind what to do.
    fn callgrind(&self, arguments: &[&str]) {
        let done = Command::new("callgrind_control")
            .args(arguments)
            .arg(self.process.id().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let is_done = done.is_ok_and(|status| status.success());
        assert!(is_done, "callgrind_control {arguments:?}");
        self.idle();
    }

    /// Ends the bus and returns its profile.
    pub fn profile(mut self) -> String {
        self.callgrind(&["-i", "off"]);
        self.gate = None;
        let _ = std::fs::remove_file(self.gate_path());
        self.signal("TERM");
        let begin = Instant::now();
        while let Ok(None) = self.process.try_wait() {
            assert!(begin.elapsed() < PATIENCE, "the bus does not end");
            std::thread::sleep(LOOK_EVERY);
        }
        std::fs::read_to_string(self.folder.path().join("profile")).expect("callgrind has written")
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.process.id().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The socket at which syncs wait.
const GATE: &str = "gate";

/// Runs this program in the binary's place, in a folder with its rule file.
fn run(folder: &Path) -> Child {
    let log = File::create(folder.join("log")).expect("a file can be written");
    let errors = log.try_clone().expect("a file can have two handles");
    Command::new("valgrind")
        .args(CALLGRIND)
        .arg(std::env::current_exe().expect("a benchmark knows its own path"))
        .args(["run", "pointsman.yaml"])
        .current_dir(folder)
        // With two, who takes which task hangs on chance.
        .env("TOKIO_WORKER_THREADS", "1")
        .env("LD_PRELOAD", disk(folder))
        .env("DISK_GATE", folder.join(GATE))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .expect("valgrind can be started")
}

fn caller(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the bus listens");
    let set = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
    set.expect("a socket takes options");
    stream
}

/// Compiles the disk that is preloaded into the bus.
fn disk(folder: &Path) -> PathBuf {
    let library = folder.join("disk.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("disk.c"))
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "disk.c does not compile"
    );
    library
}

/// An event of 1 KiB in binary mode.
fn request(id: u64) -> Vec<u8> {
    let data = format!(
        r#"{{"customer":"c-1042","total":250,"status":"paid","note":"{}"}}"#,
        "x".repeat(824)
    );
    format!(
        "POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\nce-specversion: 1.0\r\nce-source: /bench\r\n\
         ce-type: order.paid\r\nce-id: {id:012}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{data}",
        data.len()
    )
    .into_bytes()
}
