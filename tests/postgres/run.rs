//! One run of the server, from its start to the end of all its processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt;
use tokio::sync::watch;

/// Stands between the tests and the server, since only something that outlives a killed process can clean up behind
/// it. It does as it is told by the lines on its standard input: `leave`, or a signal for the server, and with it for
/// more processes. When that closes, the tests' process has gone: so does the server, and its folder.
pub(super) const KEEPER: &str = r#"
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

/// What the server has logged.
#[derive(Default)]
struct Log {
    text: String,
    has_ended: bool,
}

/// Dropping it ends the server as the end of the tests' process does.
pub(super) struct Run {
    keeper: Child,
    log: watch::Receiver<Log>,
}

impl Run {
    pub(super) fn begin(mut keeper: Command) -> Self {
        // It inherits the output of the tests: who reads that to its end knows that everything is cleaned up.
        // Its own group: an interrupt from the keyboard is not for the keeper, which has work to do then.
        keeper.process_group(0).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let stderr = keeper.stderr.take().unwrap();
        let (seen, log) = watch::channel(Log::default());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                seen.send_modify(|log| log.text += &format!("{line}\n"));
            }
            seen.send_modify(|log| log.has_ended = true);
        });
        Self { keeper, log }
    }

    /// Waits until the server takes connections; `Err` has the log of one that ended instead.
    pub(super) async fn until_ready(&mut self) -> Result<(), String> {
        let log = self.log.wait_for(|log| log.has_ended || log.text.contains(READY)).await.unwrap();
        if log.text.contains(READY) { Ok(()) } else { Err(log.text.clone()) }
    }

    /// Sends a signal to the server's first process, and to `others`, and waits until all its processes have ended:
    /// each of them holds the log open.
    pub(super) async fn end(mut self, signal: &str, others: &[String]) {
        self.tell(&format!("{signal} {}", others.join(" ")));
        self.log.wait_for(|log| log.has_ended).await.unwrap();
        self.tell("leave");
        self.keeper.wait().unwrap();
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.keeper.stdin.as_ref().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Else the folder would be removed under its processes.
        let _ = self.keeper.wait();
    }
}
