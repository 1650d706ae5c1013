//! Wrong clocks lose no work, and the gateway reports them. The monotonic clock of the processes stays right.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use alovoice_gateway::sandbox::stand_in::{VendorOptions, VendorStandIn};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::gateway::{Serving, within};
use crate::postgres::server::{Options, Server};
use crate::postgres::stepped_clock::SteppedClock;
use crate::stage::{SCOPES, Stage, send};

const DAY: i64 = 24 * 3600;
const YEAR: i64 = 365 * DAY;
const IN_DOUBT: &str = "clock in doubt";
const CONFIRMED: &str = "clock confirmed for the first time";
const CORRECTED: &str = "clock corrected";

/// A stage whose gateways run on a machine's clock that the test can step.
struct ClockStage {
    stage: Stage,
    clock: SteppedClock,
    token: String,
}

impl ClockStage {
    /// `None` without libfaketime.
    async fn set_up() -> Option<Self> {
        Self::of(Stage::set_up().await)
    }

    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    fn of(stage: Stage) -> Option<Self> {
        let clock = SteppedClock::find(stage.home.path().join("clock"));
        let Some(clock) = clock else {
            println!("skipped: libfaketime is missing (tests/tools installs it)");
            return None;
        };
        let token = stage.lasting_token(SCOPES);
        Some(Self { stage, clock, token })
    }

    async fn serve(&self) -> Serving {
        let command = || {
            let mut command = self.stage.command(&["serve"]);
            self.clock.apply(&mut command);
            command
        };
        self.stage.serve_with(command).await
    }

    async fn submit(&self, gateway: &Serving, call_id: &str) {
        let url = gateway.api.join("v1/analyses").unwrap();
        let request = self.stage.client.post(url).header(CONTENT_TYPE, "application/json");
        let body = self.stage.submission(call_id).to_string();
        let answer = send(request.bearer_auth(&self.token).body(body)).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    async fn analysis(&self, gateway: &Serving, call_id: &str, prefer: &str) -> Value {
        let url = gateway.api.join(&format!("v1/analyses/{call_id}")).unwrap();
        let request = self.stage.client.get(url).header("prefer", prefer);
        let answer = send(request.bearer_auth(&self.token)).await.unwrap();
        assert_eq!(answer.status(), 200, "{call_id}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Submits a call and waits for its result.
    async fn complete(&self, gateway: &Serving, call_id: &str) -> Value {
        self.submit(gateway, call_id).await;
        let completion = async {
            loop {
                let analysis = self.analysis(gateway, call_id, "wait=5").await;
                if analysis["status"] == "completed" {
                    return analysis;
                }
            }
        };
        within("the completion of a call", completion).await
    }

    /// Checks that the finished call is there and the unfinished call is unfinished.
    async fn check_both(&self, gateway: &Serving) {
        assert_eq!(self.analysis(gateway, "finished", "").await["status"], "completed");
        let open = self.analysis(gateway, OPEN, "").await;
        assert_eq!(open["status"], "processing", "{open}");
    }

    /// Starts a gateway with a right clock and gives it a finished and an unfinished call.
    async fn serve_both_calls(&self) -> Serving {
        let gateway = self.serve().await;
        self.complete(&gateway, "finished").await;
        self.submit(&gateway, OPEN).await;
        gateway.process.stderr.line("a confirmed clock", |line| line.contains(CONFIRMED)).await;
        self.until_open(&gateway).await;
        gateway
    }

    async fn until_open(&self, gateway: &Serving) {
        let processing =
            async { while self.analysis(gateway, OPEN, "wait=1").await["status"] != "processing" {} };
        within("the submit of a call", processing).await;
    }

    /// Waits until `/readyz` is a page with this property. The log line of a change precedes the change of the page.
    async fn until_readyz(&self, gateway: &Serving, what: &str, fits: impl Fn(&str) -> bool) {
        let changed = async { while !fits(&gateway.readiness(&self.stage.client).await) {} };
        within(what, changed).await;
    }

    /// Waits until nothing is wrong.
    async fn until_right(&self, gateway: &Serving) {
        self.until_readyz(gateway, "a right clock", |page| page == "ok\n").await;
    }

    /// Waits for the doubt, and checks that probe and metrics show it.
    async fn check_doubt(&self, gateway: &Serving) {
        gateway.process.stderr.line("a clock in doubt", |line| line.contains(IN_DOUBT)).await;
        let doubts = |page: &str| page.starts_with("ok\nclock in doubt: the gateway's clock shows 20");
        self.until_readyz(gateway, "a doubt", doubts).await;
        let counted = async {
            while !self.stage.metrics(gateway).await.contains("alovoice_gateway_clock_in_doubt 1\n") {}
        };
        within("the metric of the doubt", counted).await;
        let metrics = self.stage.metrics(gateway).await;
        assert!(metrics.contains("alovoice_gateway_clock_steps_total{direction=\"forward\"} 0\n"));
    }
}

const OPEN: &str = "never-ready~open";

/// Whether the time of an analysis is the real time, to within the duration of the test.
fn is_recent(time: &Value) -> bool {
    let time: Timestamp = serde_json::from_value(time.clone()).unwrap();
    let now = SystemClock.now();
    now.since(time).max(time.since(now)) < Duration::from_hours(1)
}

#[tokio::test]
async fn a_start_with_a_fast_clock_destroys_nothing() {
    let Some(clocks) = ClockStage::set_up().await else { return };
    let gateway = clocks.serve_both_calls().await;
    gateway.stop().await;
    for days in [400, 2, -400] {
        clocks.clock.set(days * DAY);
        let gateway = clocks.serve().await;
        clocks.check_doubt(&gateway).await;
        let analysis = clocks.complete(&gateway, &format!("in-doubt-{days}")).await;
        assert!(is_recent(&analysis["submitted_at"]) && is_recent(&analysis["completed_at"]), "{analysis}");
        clocks.check_both(&gateway).await;
        gateway.kill();
    }
    clocks.clock.set(0);
    let gateway = clocks.serve().await;
    clocks.complete(&gateway, "right-again").await;
    clocks.check_both(&gateway).await;
    clocks.until_right(&gateway).await;
    assert!(!gateway.process.stderr.so_far().iter().any(|line| line.contains(IN_DOUBT)));
    gateway.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_while_the_gateway_runs_changes_nothing() {
    let Some(clocks) = ClockStage::set_up().await else { return };
    let gateway = clocks.serve_both_calls().await;
    clocks.clock.set(400 * DAY);
    clocks.check_doubt(&gateway).await;
    let analysis = clocks.complete(&gateway, "in-doubt").await;
    assert!(is_recent(&analysis["submitted_at"]), "{analysis}");
    clocks.check_both(&gateway).await;
    clocks.clock.set(0);
    gateway.process.stderr.line("the end", |line| line.contains("clock no longer in doubt")).await;
    clocks.until_right(&gateway).await;
    clocks.check_both(&gateway).await;
    gateway.stop().await;
}

/// A machine without a battery starts in the year 2000 until it has network time.
#[tokio::test]
async fn work_that_began_in_the_year_2000_goes_on_when_the_time_is_right() {
    let Some(clocks) = ClockStage::set_up().await else { return };
    clocks.clock.set(-26 * YEAR);
    let gateway = clocks.serve().await;
    clocks.check_doubt(&gateway).await;
    clocks.complete(&gateway, "finished").await;
    clocks.submit(&gateway, OPEN).await;
    clocks.until_open(&gateway).await;
    gateway.kill();
    clocks.clock.set(0);
    let gateway = clocks.serve().await;
    gateway.process.stderr.line("a correction", |line| line.contains(CORRECTED)).await;
    clocks.check_both(&gateway).await;
    for call_id in ["finished", OPEN] {
        let analysis = clocks.analysis(&gateway, call_id, "").await;
        assert!(is_recent(&analysis["submitted_at"]), "{analysis}");
    }
    let analysis = clocks.complete(&gateway, "later").await;
    assert!(is_recent(&analysis["completed_at"]), "{analysis}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_operator_confirms_the_clock() {
    let Some(clocks) = ClockStage::set_up().await else { return };
    let gateway = clocks.serve_both_calls().await;
    clocks.clock.set(2 * DAY);
    clocks.check_doubt(&gateway).await;
    let mut command = clocks.stage.command(&["store", "confirm-clock"]);
    clocks.clock.apply(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Confirmed: it is 20"), "{output:?}");
    let corrected = |line: &str| line.contains(CORRECTED) && line.contains("operator");
    gateway.process.stderr.line("a correction", corrected).await;
    clocks.check_both(&gateway).await;
    clocks.until_right(&gateway).await;
    let analysis = clocks.complete(&gateway, "later").await;
    let submitted_at: Timestamp = serde_json::from_value(analysis["submitted_at"].clone()).unwrap();
    assert!(submitted_at > SystemClock.now() + Duration::from_hours(47), "{analysis}");
    gateway.stop().await;
}

/// The real clock with an offset.
#[derive(Default)]
struct OffsetClock(AtomicI64);

impl Clock for OffsetClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_gateway_that_was_off_for_weeks_goes_on_by_itself() {
    let mut stage = Stage::set_up().await;
    let time = Arc::new(OffsetClock::default());
    let vendor = VendorOptions { clock: time.clone(), ..VendorOptions::default() };
    let vendor = VendorStandIn::start(vendor).await.unwrap();
    stage.set("VENDOR__BASE_URL", vendor.base_url().as_str());
    let Some(clocks) = ClockStage::of(stage) else { return };
    clocks.serve_both_calls().await.stop().await;
    let weeks = 21 * DAY;
    time.0.store(weeks * 1000, Ordering::SeqCst);
    clocks.clock.set(weeks);
    let asked = vendor.calls().len();
    let gateway = clocks.serve().await;
    let corrected = |line: &str| line.contains(CORRECTED) && line.contains("vendor");
    gateway.process.stderr.line("a correction", corrected).await;
    clocks.complete(&gateway, "later").await;
    assert!(vendor.calls().iter().skip(asked).any(|request| request.call_id.as_str() == OPEN));
    // Its deadline of 24 hours counts only the time during which a gateway ran.
    clocks.check_both(&gateway).await;
    let shows = |page: &str| page.starts_with("ok\nclock corrected: it shows 20");
    clocks.until_readyz(&gateway, "the correction", shows).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_fast_clock_of_the_database_server_destroys_nothing() {
    let server = Server::start(Options { stepped_clock: true, ..Options::default() }).await;
    let Some(clocks) = ClockStage::of(Stage::on(server.fresh_database().await).await) else { return };
    let gateway = clocks.serve_both_calls().await;
    server.set_clock(400 * DAY);
    clocks.check_doubt(&gateway).await;
    let another = clocks.serve().await;
    clocks.check_doubt(&another).await;
    for (number, gateway) in [&gateway, &another].into_iter().enumerate() {
        let analysis = clocks.complete(gateway, &format!("in-doubt-{number}")).await;
        assert!(is_recent(&analysis["submitted_at"]), "{analysis}");
        clocks.check_both(gateway).await;
    }
    // Both clocks jump, as on one machine.
    clocks.clock.set(400 * DAY);
    clocks.complete(&another, "both-jumped").await;
    clocks.check_both(&another).await;
    server.set_clock(0);
    clocks.clock.set(0);
    for gateway in [&gateway, &another] {
        gateway.process.stderr.line("the end", |line| line.contains("clock no longer in doubt")).await;
        clocks.check_both(gateway).await;
        clocks.until_right(gateway).await;
    }
    gateway.stop().await;
    another.stop().await;
}
