//! A running binary: its log as it comes, its addresses, its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::sync::watch;
use url::Url;

/// No test takes longer, or something is stuck: a bound, and nothing that is measured.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for what must come.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// What a stream of a process has brought so far.
#[derive(Default)]
struct Progress {
    lines: Vec<String>,
    has_ended: bool,
}

/// A stream of a process, read as it comes.
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

    /// The first line that fits, when it has come.
    pub(crate) async fn line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let line = self.line_or_end(what, fits).await;
        line.unwrap_or_else(|lines| panic!("ended without {what}:\n{}", lines.join("\n")))
    }

    /// The same, or all lines when there will be no more.
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

    /// Waits until so many lines fit.
    pub(crate) async fn repeated(&self, what: &str, times: usize, fits: impl Fn(&str) -> bool) {
        self.until(what, |lines| lines.iter().filter(|line| fits(line)).count() >= times).await;
    }

    /// Waits until the lines that have come fit.
    pub(crate) async fn until(&self, what: &str, fits: impl Fn(&[String]) -> bool) {
        let mut read = self.0.clone();
        let waiting = read.wait_for(|read| fits(&read.lines) || read.has_ended);
        let is_there = fits(&within(what, waiting).await.unwrap().lines);
        assert!(is_there, "ended without {what}");
    }

    /// The lines that have come.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.0.borrow().lines.clone()
    }

    /// Everything, when the process has ended.
    pub(crate) async fn whole(&self) -> String {
        let mut read = self.0.clone();
        let read = within("the end of a stream", read.wait_for(|read| read.has_ended)).await.unwrap();
        read.lines.join("\n")
    }
}

/// A process of the gateway. Dropping it kills it.
pub(crate) struct Gateway {
    child: Arc<Mutex<Child>>,
    /// What it prints.
    pub(crate) stdout: Output,
    /// What it logs.
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

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// SIGKILL: no handler, no destructor, no last write.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Any signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Its exit code; `None` if a signal ended it.
    pub(crate) async fn exit_code(self) -> Option<i32> {
        self.ended().await
    }

    /// The same for one whose log is still to be read.
    pub(crate) async fn ended(&self) -> Option<i32> {
        let child = self.child.clone();
        // Not `wait` in place: it would stop the vendor and the receiver, which live on this thread.
        let ended = tokio::task::spawn_blocking(move || child.lock().unwrap().wait().unwrap());
        within("the end of the process", ended).await.unwrap().code()
    }

    /// Terminates it, and it must end well.
    pub(crate) async fn stop(self) {
        self.terminate();
        assert_eq!(self.exit_code().await, Some(0));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A process that serves, and where.
pub(crate) struct Serving {
    pub(crate) process: Gateway,
    pub(crate) api: Url,
    pub(crate) admin: Url,
}

impl Serving {
    /// Starts `serve` and waits until it says that it is ready, and is.
    pub(crate) async fn start(command: Command, client: &Client) -> Self {
        let started = Self::start_or_end(command, client).await;
        started.unwrap_or_else(|log| panic!("ended without being ready:\n{}", log.join("\n")))
    }

    /// The same where it may end instead, with what it logged.
    pub(crate) async fn start_or_end(command: Command, client: &Client) -> Result<Self, Vec<String>> {
        let process = Gateway::start(command);
        let ready = process.stderr.line_or_end("the word that it is ready", is_ready).await?;
        let [api, admin] = addresses(&ready);
        let answer = client.get(admin.join("readyz").unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Ok(Self { process, api, admin })
    }

    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }
}

/// Other lines speak of readiness too, with everything logged; this one has the two addresses.
fn is_ready(line: &str) -> bool {
    line.contains("ready") && line.matches("http://").count() == 2
}

/// The two addresses in a line, whatever its format.
fn addresses(line: &str) -> [Url; 2] {
    let starts = line.match_indices("http://").map(|(start, _)| &line[start..]);
    let urls = starts.map(|rest| rest.split(['"', ' ', ',']).next().unwrap().parse().unwrap());
    urls.collect::<Vec<Url>>().try_into().unwrap_or_else(|_| panic!("two addresses in {line:?}"))
}
