//! Processes beside the bus, and what a process takes.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pointsman_test_brokers::kill;

/// The processor time that a process has taken so far (proc_pid_stat(5), in ticks of 10 ms).
///
/// # Panics
/// Where it does not run, or this is not Linux.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// A process that ends with its handle.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// This program in another role.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn in_role(arguments: &[&str]) -> Self {
        let own = std::env::current_exe().expect("a program knows its own path");
        Self::start(Command::new(own).args(arguments))
    }

    /// A program that says nothing.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.expect("it can be started"))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}
