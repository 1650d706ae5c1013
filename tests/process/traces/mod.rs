//! Traces as a real collector receives them: one trace from the request to the callback, whichever process does the work, and
//! no effect of a broken collector.

mod collector;
mod export;
mod spans;

use alovoice_gateway::sandbox::stand_in::Operation;
use serde_json::Value;

use self::collector::Collector;
use self::spans::{Span, tree};
use crate::gateway::{Serving, within};
use crate::stage::{SCOPES, Stage, send};

const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";

impl Stage {
    /// Submits a call as part of a caller's trace.
    async fn submit_in(&self, gateway: &Serving, call_id: &str, traceparent: &str) {
        let request = self.client.post(gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").header("traceparent", traceparent);
        let body = self.submission(call_id).to_string();
        let answer = send(request.bearer_auth(self.token(SCOPES)).body(body)).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Waits for the callback of a call and returns its `traceparent`.
    async fn callback_of(&self, call_id: &str) -> String {
        let path = format!("/hook/ok/{call_id}");
        let has_come = |received: &[alovoice_gateway::sandbox::receiver::Received]| {
            received.iter().any(|request| request.path == path)
        };
        let received = within("the callback", self.receiver.wait_for(has_come)).await;
        let callback = received.iter().find(|request| request.path == path).unwrap();
        callback.header("traceparent").unwrap().to_owned()
    }
}

/// The trace ids and span ids of log lines that have both.
fn logged(lines: &[String]) -> Vec<(String, String)> {
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ids = lines.filter_map(|line| {
        let id = |name: &str| Some(line["span"][name].as_str()?.to_owned());
        Some((id("trace_id")?, id("span_id")?))
    });
    ids.collect()
}

/// The span that a `traceparent` names.
fn named<'a>(spans: &'a [Span], traceparent: &str) -> &'a Span {
    let [version, trace, span, flags] = traceparent.split('-').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((version, flags), ("00", "01"), "{traceparent}");
    let found = spans.iter().find(|known| known.trace_id == trace && known.id == span);
    found.unwrap_or_else(|| panic!("no span of {traceparent}"))
}

/// A run whose trace is checked.
struct TracedRun {
    stage: Stage,
    collector: Collector,
    /// The log lines of all gateways.
    logs: Vec<String>,
}

impl TracedRun {
    /// Prepares a run whose trace does not depend on the time that the test takes.
    async fn prepare(mut stage: Stage) -> Self {
        let collector = Collector::start(stage.home.path()).await;
        stage.set("TRACES__OTLP_ENDPOINT", collector.endpoint().as_str());
        stage.set("VENDOR__POLLING__SETTLE_AFTER", "1h");
        Self { stage, collector, logs: Vec::new() }
    }

    /// Waits until the collector has received `count` spans with this name, or until the gateway warns that something failed.
    async fn gets(&self, gateway: &Serving, count: usize, name: &str) {
        tokio::select! {
            () = self.collector.gets(count, name) => {}
            _ = gateway.process.stderr.line("a warning", is_warning) => {}
        }
    }

    /// Stops a gateway, which finishes its work, and keeps its log lines.
    async fn stop(&mut self, gateway: Serving) {
        gateway.process.terminate();
        assert_eq!(gateway.process.ended().await, Some(0));
        self.logs.extend(gateway.process.stderr.so_far());
    }

    /// One process accepts the submission and is killed while the vendor handles it; a second process continues.
    async fn kill_between_submission_and_callback(&mut self) {
        let caller = format!("00-{CALLERS_TRACE}-{CALLERS_SPAN}-01");
        let first = self.stage.serve().await;
        self.stage.vendor.set_held(true);
        self.stage.submit_in(&first, "traced", &caller).await;
        let asked = self.stage.vendor.wait_for(|requests| !requests.is_empty());
        within("a submit at the vendor", asked).await;
        self.gets(&first, 1, "POST /v1/analyses").await;
        first.kill();
        self.logs.extend(first.process.stderr.so_far());
        self.stage.vendor.set_held(false);
        let second = self.stage.serve().await;
        self.stage.callback_of("traced").await;
        self.gets(&second, 1, "deliver callback").await;
        self.stop(second).await;
    }

    /// One replica submits the call to the vendor and stops; a second one polls the result and delivers the callback.
    async fn end_between_submission_and_result(&mut self) {
        let caller = format!("00-{CALLERS_TRACE}-{CALLERS_SPAN}-01");
        let first = self.stage.serve().await;
        self.stage.submit_in(&first, "traced", &caller).await;
        let asked = self.stage.vendor.wait_for(|requests| !requests.is_empty());
        within("a submit at the vendor", asked).await;
        self.gets(&first, 1, "submit call").await;
        self.stop(first).await;
        self.stage.store.change("UPDATE analyses SET due_at = 0", 1).await;
        let second = self.stage.serve().await;
        self.stage.callback_of("traced").await;
        self.gets(&second, 1, "deliver callback").await;
        self.stop(second).await;
    }

    /// Whether a busy machine changed the trace: a request, a statement or an export took too long.
    fn is_disturbed(&self) -> bool {
        self.logs.iter().any(|line| is_warning(line))
    }
}

fn is_warning(line: &str) -> bool {
    ["\"level\":\"WARN\"", "\"level\":\"ERROR\""].iter().any(|level| line.contains(level))
}

/// Repeats a run until nothing disturbs it.
async fn undisturbed(run: impl AsyncFn() -> TracedRun) -> TracedRun {
    let undisturbed = async {
        loop {
            let run = run().await;
            if !run.is_disturbed() {
                return run;
            }
            eprintln!("disturbed:\n{}", run.logs.join("\n"));
        }
    };
    within("an undisturbed run", undisturbed).await
}

/// Checks the trace of a call against requests and log lines, and returns its tree.
async fn checked(TracedRun { stage, collector, logs }: TracedRun) -> String {
    let spans = collector.spans().await;

    let callback = stage.callback_of("traced").await;
    let callback = named(&spans, &callback);
    assert_eq!((callback.name.as_str(), callback.kind.as_str()), ("POST", "client"));
    let mut asked = stage.vendor.calls();
    // The killed process could not export the span of the request that the vendor held.
    let unexported = asked.first().unwrap().traceparent.clone().unwrap();
    if !spans.iter().any(|span| unexported.contains(&span.id)) {
        asked.remove(0);
    }
    for request in &asked {
        let span = named(&spans, request.traceparent.as_ref().unwrap());
        let operation = match request.operation {
            Operation::Submit => "GET /callsendai/{token}/{call_id}",
            _ => "GET /callgetairesult/{token}/{call_id}",
        };
        assert_eq!((span.name.as_str(), span.kind.as_str()), (operation, "client"));
    }
    assert!(!asked.is_empty());

    let root = spans.iter().find(|span| span.parent_id == CALLERS_SPAN).unwrap();
    let instance = |span: &Span| span.resource["service.instance.id"].clone();
    assert_ne!(instance(root), instance(callback), "another process continued");
    for span in &spans {
        assert_eq!(span.trace_id, CALLERS_TRACE, "{span:?}");
        assert_eq!(span.resource["service.name"], "alovoice-gateway");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(span.start <= span.end);
    }
    for (trace, span) in logged(&logs) {
        assert_eq!(trace, CALLERS_TRACE);
        assert!(
            spans.iter().any(|known| known.id == span),
            "a log line names the span {span}, which was not exported"
        );
    }
    assert!(!logged(&logs).is_empty());

    // Each poll asks for a probe until a probe has ended. The store decides which of them sends it.
    let (probes, others): (Vec<_>, Vec<_>) =
        spans.into_iter().partition(|span| span.attributes.get("outcome").is_some_and(|it| it == "answered"));
    let [probe] = probes.as_slice() else { panic!("{probes:?}") };
    let sender = others.iter().find(|span| span.id == probe.parent_id).unwrap();
    format!("{}probe of: {}\n{}", tree(&others, CALLERS_SPAN), sender.name, tree(&probes, &sender.id))
}

#[tokio::test]
async fn one_trace_from_the_request_to_the_callback() {
    let run = undisturbed(async || {
        let mut run = TracedRun::prepare(Stage::set_up().await).await;
        run.kill_between_submission_and_callback().await;
        run
    });
    insta::assert_snapshot!(checked(run.await).await, @r"
    POST /v1/analyses [server] http.request.method=POST http.response.status_code=202 http.route=/v1/analyses tenant=acme url.path=/v1/analyses url.scheme=http
      submit analyses [internal] call_id=traced db.collection.name=analyses db.operation.name=submit db.system.name=sqlite tenant=acme
      poll result [consumer] call_id=traced tenant=acme
        GET /callgetairesult/{token}/{call_id} [client] http.request.method=GET http.response.status_code=200 outcome=not_ready server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
        apply analyses [internal] db.collection.name=analyses db.operation.name=apply db.system.name=sqlite
      poll result [consumer] call_id=traced event=analysis.completed tenant=acme
        GET /callgetairesult/{token}/{call_id} [client] http.request.method=GET http.response.status_code=200 outcome=ready server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
        apply analyses [internal] db.collection.name=analyses db.operation.name=apply db.system.name=sqlite
      deliver callback [consumer] attempt=… call_id=traced delivery=… tenant=acme
        POST [client] http.request.method=POST http.response.status_code=200 outcome=delivered server.address=127.0.0.1 server.port=…
        finish_attempt deliveries [internal] db.collection.name=deliveries db.operation.name=finish_attempt db.system.name=sqlite
    probe of: poll result
    GET /callgetairesult/{token}/{call_id} [client] failed error.type=404 http.request.method=GET http.response.status_code=404 outcome=answered server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
    ");
}

#[tokio::test]
async fn one_trace_over_replicas() {
    let run = undisturbed(async || {
        let mut run = TracedRun::prepare(Stage::set_up_on_postgres().await).await;
        // The first replica stops before.
        run.stage.set("VENDOR__POLLING__FIRST_AFTER", "1h");
        run.end_between_submission_and_result().await;
        run
    });
    insta::assert_snapshot!(checked(run.await).await, @r"
    POST /v1/analyses [server] http.request.method=POST http.response.status_code=202 http.route=/v1/analyses tenant=acme url.path=/v1/analyses url.scheme=http
      submit analyses [client] call_id=traced db.collection.name=analyses db.operation.name=submit db.system.name=postgresql tenant=acme
      submit call [consumer] call_id=traced tenant=acme
        GET /callsendai/{token}/{call_id} [client] http.request.method=GET http.response.status_code=200 outcome=accepted server.address=127.0.0.1 server.port=… url.template=/callsendai/{token}/{call_id}
        apply analyses [client] db.collection.name=analyses db.operation.name=apply db.system.name=postgresql
      poll result [consumer] call_id=traced tenant=acme
        GET /callgetairesult/{token}/{call_id} [client] http.request.method=GET http.response.status_code=200 outcome=not_ready server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
        apply analyses [client] db.collection.name=analyses db.operation.name=apply db.system.name=postgresql
      poll result [consumer] call_id=traced tenant=acme
        GET /callgetairesult/{token}/{call_id} [client] http.request.method=GET http.response.status_code=304 outcome=unchanged server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
        apply analyses [client] db.collection.name=analyses db.operation.name=apply db.system.name=postgresql
      poll result [consumer] call_id=traced event=analysis.completed tenant=acme
        GET /callgetairesult/{token}/{call_id} [client] http.request.method=GET http.response.status_code=200 outcome=ready server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
        apply analyses [client] db.collection.name=analyses db.operation.name=apply db.system.name=postgresql
      deliver callback [consumer] attempt=… call_id=traced delivery=… tenant=acme
        POST [client] http.request.method=POST http.response.status_code=200 outcome=delivered server.address=127.0.0.1 server.port=…
        finish_attempt deliveries [client] db.collection.name=deliveries db.operation.name=finish_attempt db.system.name=postgresql
    probe of: poll result
    GET /callgetairesult/{token}/{call_id} [client] failed error.type=404 http.request.method=GET http.response.status_code=404 outcome=answered server.address=127.0.0.1 server.port=… url.template=/callgetairesult/{token}/{call_id}
    ");
}

#[tokio::test]
async fn new_traces_are_exported_and_traces_that_the_caller_does_not_sample_are_not() {
    let unrecorded = format!("00-{CALLERS_TRACE}-{CALLERS_SPAN}-00");
    let run = undisturbed(async || {
        let mut run = TracedRun::prepare(Stage::set_up().await).await;
        let gateway = run.stage.serve().await;
        run.stage.submit_in(&gateway, "unrecorded", &unrecorded).await;
        // The receiver gets the trace of the caller all the same.
        assert_eq!(run.stage.callback_of("unrecorded").await, unrecorded);

        run.stage.submit(&gateway, "begun-here").await.unwrap();
        run.stage.callback_of("begun-here").await;
        run.stage.get(&gateway, "begun-here", "").await;
        run.stage.get(&gateway, "begun-here", "").await;
        run.gets(&gateway, 1, "deliver callback").await;
        run.gets(&gateway, 2, "GET /v1/analyses/{call_id}").await;
        run.stop(gateway).await;
        run
    });
    let TracedRun { stage, collector, logs } = run.await;
    let callback = stage.callback_of("begun-here").await;
    let spans = collector.spans().await;

    let trace = &named(&spans, &callback).trace_id;
    assert!(spans.iter().all(|span| span.trace_id != CALLERS_TRACE));
    let roots: Vec<_> = spans.iter().filter(|span| span.parent_id.trim_matches('0').is_empty()).collect();
    let names: Vec<_> = roots.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /v1/analyses", "GET /v1/analyses/{call_id}", "GET /v1/analyses/{call_id}"]);
    assert_eq!(&roots[0].trace_id, trace);
    assert_ne!(&roots[1].trace_id, trace, "a request without traceparent starts a trace");
    let recorded: Vec<_> = logged(&logs);
    assert!(!recorded.is_empty());
    for (trace, span) in recorded {
        assert!(spans.iter().any(|known| known.trace_id == trace && known.id == span), "{trace} {span}");
    }
}
