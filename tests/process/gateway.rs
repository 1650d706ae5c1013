//! A process of the gateway: its output, addresses and exit code.

use std::fs::{self, DirEntry};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::sync::watch;
use url::Url;

/// Maximum time that a test waits for one condition. A longer wait means that the test hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits for a future, and panics with `what` after [`PATIENCE`].
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("timed out waiting for {what}"),
    }
}

/// A shell that does not outlive a hanging test.
pub(crate) fn bash() -> Command {
    let mut shell = Command::new("timeout");
    shell.args([&PATIENCE.as_secs().to_string(), "bash"]);
    shell
}

/// Lines of a stream so far.
#[derive(Default)]
struct Progress {
    lines: Vec<String>,
    has_ended: bool,
}

/// An output stream of a process, read by a background thread.
pub(crate) struct Output(watch::Receiver<Progress>);

impl Output {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let (seen, read) = watch::channel(Progress::default());
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            loop {
                let mut line = Vec::new();
                match stream.read_until(b'\n', &mut line) {
                    Ok(1..) => {
                        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                        seen.send_modify(|read| read.lines.push(line));
                    }
                    Ok(0) | Err(_) => return seen.send_modify(|read| read.has_ended = true),
                }
            }
        });
        Self(read)
    }

    /// Waits for the first matching line. Panics if the stream ends without one.
    pub(crate) async fn line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let line = self.line_or_end(what, fits).await;
        line.unwrap_or_else(|lines| panic!("ended without {what}:\n{}", lines.join("\n")))
    }

    /// Waits for the first matching line. `Err` has all lines if the stream ends without one.
    pub(crate) async fn line_or_end(
        &self,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String, Vec<String>> {
        let find = |read: &Progress| read.lines.iter().find(|line| fits(line)).cloned();
        let mut read = self.0.clone();
        let waiting = read.wait_for(|read| find(read).is_some() || read.has_ended);
        let read = within(what, waiting).await.unwrap();
        find(&read).ok_or_else(|| read.lines.clone())
    }

    /// Waits until `times` lines match.
    pub(crate) async fn repeated(&self, what: &str, times: usize, fits: impl Fn(&str) -> bool) {
        self.until(what, |lines| lines.iter().filter(|line| fits(line)).count() >= times).await;
    }

    /// Waits until the predicate holds for the lines so far.
    pub(crate) async fn until(&self, what: &str, fits: impl Fn(&[String]) -> bool) {
        let mut read = self.0.clone();
        let waiting = read.wait_for(|read| fits(&read.lines) || read.has_ended);
        let is_there = fits(&within(what, waiting).await.unwrap().lines);
        assert!(is_there, "ended without {what}");
    }

    /// The lines so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.0.borrow().lines.clone()
    }

    /// Waits for the end of the stream and returns all of it.
    pub(crate) async fn whole(&self) -> String {
        let mut read = self.0.clone();
        let read = within("the end of a stream", read.wait_for(|read| read.has_ended)).await.unwrap();
        read.lines.join("\n")
    }
}

/// A process of the gateway. Dropping it kills it.
pub(crate) struct Gateway {
    child: Arc<Mutex<Child>>,
    /// Standard output.
    pub(crate) stdout: Output,
    /// Standard error, which has the log.
    pub(crate) stderr: Output,
}

impl Gateway {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Output::follow(child.stdout.take().unwrap());
        let stderr = Output::follow(child.stderr.take().unwrap());
        Self { child: Arc::new(Mutex::new(child)), stdout, stderr }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, named without the prefix `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Stops the process until `signal("CONT")`. Waits on Linux until all threads have stopped: the signal reaches one thread
    /// first, and the others may answer requests until that thread runs.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        let is_running = |thread: DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name of the thread, which is in parentheses.
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['R', 'S', 'D']))
        };
        let threads = || fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten();
        while threads().any(is_running) {}
    }

    /// Limits the size of the files that the process may write. A process that ignores SIGXFSZ sees a full disk.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let limit = format!("--fsize={bytes}:unlimited");
        let status = Command::new("prlimit").args(["--pid", &self.id().to_string(), &limit]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the exit code. `None` if a signal ended the process.
    pub(crate) async fn exit_code(self) -> Option<i32> {
        self.ended().await
    }

    /// Like [`exit_code`](Self::exit_code), but keeps the streams readable.
    pub(crate) async fn ended(&self) -> Option<i32> {
        let child = self.child.clone();
        // A blocking `wait` here would stop the vendor stand-in and the receiver, which run on this thread.
        let ended = tokio::task::spawn_blocking(move || child.lock().unwrap().wait().unwrap());
        within("the end of the process", ended).await.unwrap().code()
    }

    /// Sends SIGTERM and expects exit code 0.
    pub(crate) async fn stop(self) {
        self.terminate();
        assert_eq!(self.exit_code().await, Some(0));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The process may have ended already.
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A process that runs `serve`, with its addresses.
pub(crate) struct Serving {
    pub(crate) process: Gateway,
    pub(crate) api: Url,
    pub(crate) admin: Url,
}

impl Serving {
    /// Starts `serve` and waits until it is ready.
    pub(crate) async fn start(command: Command, client: &Client) -> Self {
        let started = Self::start_or_end(command, client).await;
        started.unwrap_or_else(|log| panic!("ended without being ready:\n{}", log.join("\n")))
    }

    /// Starts `serve` and waits until it is ready. `Err` has the log of a process that ended instead.
    pub(crate) async fn start_or_end(command: Command, client: &Client) -> Result<Self, Vec<String>> {
        Self::of(Gateway::start(command), client).await
    }

    /// Waits until a process that runs `serve` is ready. `Err` has the log of a process that ended instead.
    pub(crate) async fn of(process: Gateway, client: &Client) -> Result<Self, Vec<String>> {
        let ready = process.stderr.line_or_end("the log line of readiness", is_ready).await?;
        let [api, admin] = addresses(&ready);
        let serving = Self { process, api, admin };
        serving.readiness(client).await;
        Ok(serving)
    }

    /// Waits until `/readyz` answers 200, and returns the page. A check of the store that takes over two seconds gives 503.
    pub(crate) async fn readiness(&self, client: &Client) -> String {
        let readyz = self.admin.join("readyz").unwrap();
        let ready = async {
            loop {
                let answer = client.get(readyz.clone()).send().await.unwrap();
                if answer.status() == StatusCode::OK {
                    return answer.text().await.unwrap();
                }
            }
        };
        within("readiness", ready).await
    }

    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }
}

/// Whether this is the log line of readiness. Other lines can contain "ready" too, but only this line has two addresses.
fn is_ready(line: &str) -> bool {
    line.contains("ready") && line.matches("http://").count() == 2
}

/// The two addresses in the line of readiness, in any log format.
fn addresses(line: &str) -> [Url; 2] {
    let starts = line.match_indices("http://").map(|(start, _)| &line[start..]);
    let urls = starts.map(|rest| rest.split(['"', ' ', ',']).next().unwrap().parse().unwrap());
    urls.collect::<Vec<Url>>().try_into().unwrap_or_else(|_| panic!("two addresses in {line:?}"))
}
