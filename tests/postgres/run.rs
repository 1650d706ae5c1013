//! One run of the server, from its start to the end of all its processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt;
use tokio::sync::watch;

/// Supervisor script of the server. It survives a killed test process and cleans up after it. Each line on its standard input is
/// `leave`, or a signal for the server and optionally ids of more processes. When standard input closes, the test process has ended:
/// the script stops the server and removes its folder.
pub(super) const SUPERVISOR: &str = r#"
folder=$1
shift
"$@" </dev/null >/dev/null &
server=$!
exec 2>/dev/null
while read -r word others; do
    if [ "$word" = leave ]; then wait "$server"; exit; fi
    kill -s "$word" "$server" $others
done
kill -s QUIT "$server"
wait "$server"
rm -rf "$folder"
"#;

const READY: &str = "database system is ready to accept connections";

/// The log of the server so far.
#[derive(Default)]
struct Log {
    text: String,
    has_ended: bool,
}

/// A running server. Dropping it stops the server.
pub(super) struct Run {
    supervisor: Child,
    log: watch::Receiver<Log>,
}

impl Run {
    pub(super) fn begin(mut supervisor: Command) -> Self {
        // The supervisor inherits the output of the tests, so that the end of the output shows the end of the cleanup. It has its
        // own process group, so that an interrupt from the keyboard does not stop it before the cleanup.
        supervisor.process_group(0).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut supervisor = supervisor.spawn().unwrap();
        let stderr = supervisor.stderr.take().unwrap();
        let (seen, log) = watch::channel(Log::default());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                seen.send_modify(|log| log.text += &format!("{line}\n"));
            }
            seen.send_modify(|log| log.has_ended = true);
        });
        Self { supervisor, log }
    }

    /// Waits until the server accepts connections. `Err` has the log if the server ended instead.
    pub(super) async fn until_ready(&mut self) -> Result<(), String> {
        let log = self.log.wait_for(|log| log.has_ended || log.text.contains(READY)).await.unwrap();
        if log.text.contains(READY) { Ok(()) } else { Err(log.text.clone()) }
    }

    /// Sends a signal to the server's first process and to `others`, and waits until all of them have ended. Each of them keeps the
    /// log open.
    pub(super) async fn end(mut self, signal: &str, others: &[String]) {
        self.tell(&format!("{signal} {}", others.join(" ")));
        self.log.wait_for(|log| log.has_ended).await.unwrap();
        self.tell("leave");
        self.supervisor.wait().unwrap();
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.supervisor.stdin.as_ref().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // The folder must not be removed while the server uses it.
        let _ = self.supervisor.wait();
    }
}
