//! Programs under test: each runs on the first core and ends with its value.

use std::ffi::OsStr;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A running program. Dropping it kills the process.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Maximum size of the log that is shown if a program ends too early, in bytes.
const FIRST_BYTES: u64 = 64 << 10;

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Starts a command, and waits until the program accepts connections on the port. A pipe takes the log of the program, as under a
    /// container runtime.
    pub(crate) fn serving(mut command: Command, port: u16) -> Self {
        command.stderr(Stdio::piped());
        let mut process = Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let log = process.0.stderr.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let (mut first, mut rest) = (Vec::new(), log.take(FIRST_BYTES));
            let _ = rest.read_to_end(&mut first);
            let _ = std::io::copy(&mut rest.into_inner(), &mut std::io::sink());
            String::from_utf8_lossy(&first).into_owned()
        });
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if !matches!(process.0.try_wait(), Ok(None)) {
                panic!("{command:?} ended: {}", reader.join().unwrap_or_default());
            }
            std::thread::yield_now();
        }
        process
    }
}

/// Returns a command that runs a program on the first core.
pub(crate) fn pinned(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// Returns a command that runs this program in another mode on the first core.
pub(crate) fn mode(name: &str) -> Command {
    let mut command = pinned(std::env::current_exe().expect("this program"));
    command.arg(name);
    command
}

/// Returns the CPU time that a process has used, in seconds.
pub(crate) fn cpu_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a running process");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    // `utime` and `stime` count in hundredths of a second (proc_pid_stat(5)).
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}
