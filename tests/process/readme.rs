//! Commands of README.md and of the handbook in docs, run against a sandbox.
//!
//! Each page gets a fresh sandbox and one shell that runs every block of `sh` in order, so that a block can use variables and files of
//! earlier blocks. Only port numbers are replaced. A block without a language that follows is the answer: `…` stands for any text,
//! white space does not count, and the rest must occur in the output in that order. Every request must succeed, except that the last
//! one has the status of an answer that begins with `HTTP/1.1` or is a problem. docs/operating.md has its own test.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::blocks::{Page, blocks, pages};
use crate::gateway::{bash, within};
use crate::peers::tools;
use crate::postgres::cluster::free_port;
use crate::sandbox::Sandbox;
use crate::stage::{BINARY, Stage};

/// Commands before the first block. `curl` reports the status of each answer on standard error.
const PREAMBLE: &str = r#"
python3() { [ "$1 $2" = "-m venv" ] || command python3 "$@"; }    # the folder venv is already there
curl() {
  local head=$(mktemp) code stream
  case " $* " in
    *" --max-time "*)   # a page limits the time of an endless stream: repeated until an event arrived in time
      until stream=$(command curl -D "$head" "$@"); code=$?; [[ $stream = *data:* ]]; do :; done
      echo "$stream" ;;
    *)                  # a slow machine can give 408 and 503
      command curl --max-time 70 --retry 9 -D "$head" "$@"
      code=$? ;;
  esac
  sed -n 's|^HTTP/[^ ]* \([0-9]*\).*|status \1|p' "$head" | tail -n 1 >&2
  return $code
}
trap 'kill $(jobs -p) 2> /dev/null' EXIT
"#;
/// The wait that pages ask for, and the wait that a slow machine may need.
const WAIT: &str = "wait=30";
const LONGEST_WAIT: &str = "wait=60";
const END_OF_BLOCK: &str = "== end of block\n";

/// A block of commands and the answer below it.
struct Example {
    script: String,
    answer: String,
}

fn examples(page: &str) -> Vec<Example> {
    let blocks = blocks(page);
    let answer = |place: usize| blocks.get(place + 1).filter(|next| next.language.is_empty());
    let example = |(place, script): (usize, &str)| Example {
        script: script.to_owned(),
        answer: answer(place).map_or_else(String::new, |block| block.text.clone()),
    };
    let scripts = blocks.iter().enumerate().filter(|(_, block)| block.language == "sh");
    scripts.map(|(place, block)| example((place, &block.text))).collect()
}

impl Example {
    /// Compares what the block printed with what the page shows.
    fn check(&self, output: &str, errors: &str) -> Result<(), String> {
        let statuses: Vec<_> = errors.lines().filter_map(|line| line.strip_prefix("status ")).collect();
        let expected = self.expected_status();
        let is_expected = |(place, status): (usize, &&str)| match expected {
            Some(expected) if place + 1 == statuses.len() => *status == expected,
            _ => status.starts_with('2'),
        };
        let mut rest = &*without_space(output);
        let finds = |piece: &str| match rest.split_once(&*without_space(piece)) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        };
        let is_good = statuses.iter().enumerate().all(is_expected) && self.answer.split('…').all(finds);
        let Self { script, answer } = self;
        is_good
            .then_some(())
            .ok_or_else(|| format!("{script}\nThe page shows:\n{answer}\nThe output is:\n{output}\n{errors}"))
    }

    /// Status of the last answer, if the page shows one.
    fn expected_status(&self) -> Option<&str> {
        let is_problem = self.answer.contains("\"type\": \"/problems/");
        let of_problem = || self.answer.split_once("\"status\": ").filter(|_| is_problem);
        let (_, rest) = self.answer.split_once("HTTP/1.1 ").or_else(of_problem)?;
        rest.get(..3)
    }
}

fn without_space(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Pairs of a port that pages name and the port that stands for it in this run.
struct Ports(Vec<(String, String)>);

impl Ports {
    fn of(sandbox: &Sandbox) -> Self {
        let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
        let mut ports = vec![
            ("8080".to_owned(), port(sandbox.base())),
            ("9090".to_owned(), port(sandbox.admin())),
            ("8081".to_owned(), port(sandbox.vendor())),
        ];
        // Two gateways with settings of the reader's own, and two receivers.
        for name in ["8180", "9190", "9000", "9001"] {
            ports.push((name.to_owned(), free_port().to_string()));
        }
        Self(ports)
    }

    /// Replaces whole numbers only: 9000 stays in 19000.
    fn replaced(&self, text: &str) -> String {
        let mut replaced = String::new();
        for run in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
            let number = run.trim_end_matches(|c: char| !c.is_ascii_digit());
            match self.0.iter().find(|(name, _)| name == number) {
                Some((name, port)) => replaced += &run.replacen(name, port, 1),
                None => replaced += run,
            }
        }
        replaced
    }

    fn restored(&self, text: &str) -> String {
        Self(self.0.iter().map(|(name, port)| (port.clone(), name.clone())).collect()).replaced(text)
    }
}

/// A method and a path template.
type Operation = (String, String);

/// Operations that a gateway has executed with success, as its metrics report them.
async fn executed(stage: &Stage, sandbox: &Sandbox) -> BTreeSet<Operation> {
    let page = stage.client.get(format!("{}/metrics", sandbox.admin())).send().await.unwrap();
    let page = page.text().await.unwrap();
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let lines =
        page.lines().filter(|line| line.starts_with("alovoice_gateway_http_request_duration_seconds_count{"));
    let good = lines.filter(|line| label(line, "status").starts_with('2'));
    good.map(|line| (label(line, "method").to_lowercase(), label(line, "route"))).collect()
}

/// Runs a page, and returns the operations that it executed.
async fn run(page: Page) -> Result<BTreeSet<Operation>, String> {
    let examples = examples(&page.text);
    if examples.is_empty() {
        return Ok(BTreeSet::new());
    }
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    let ports = Ports::of(&sandbox);
    let mut script = sandbox.variables() + PREAMBLE;
    for Example { script: block, .. } in &examples {
        let block = ports.replaced(block).replace(WAIT, LONGEST_WAIT);
        script += &format!("{block}\necho\nprintf '{END_OF_BLOCK}' | tee /dev/stderr\n");
    }
    let folder = TempDir::new().unwrap();
    let programs = TempDir::new().unwrap();
    symlink(BINARY, programs.path().join("alovoice-gateway")).unwrap();
    symlink(tools().join("python"), folder.path().join("venv")).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = bash();
    shell.args(["-c", &script]).current_dir(folder.path()).env("PATH", path).env("no_proxy", "*");
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
    let output = within("the end of a page", output).await.unwrap();
    let executed = executed(&stage, &sandbox).await;
    sandbox.process.stop().await;

    let text = |bytes: &[u8]| ports.restored(&String::from_utf8_lossy(bytes)).replace(LONGEST_WAIT, WAIT);
    let (outputs, errors) = (text(&output.stdout), text(&output.stderr));
    let (outputs, errors): (Vec<_>, Vec<_>) =
        (outputs.split(END_OF_BLOCK).collect(), errors.split(END_OF_BLOCK).collect());
    if outputs.len() != examples.len() + 1 {
        return Err(format!("{}: the shell ended early:\n{}", page.path, errors.concat()));
    }
    for (example, (output, errors)) in examples.iter().zip(outputs.iter().zip(errors)) {
        example.check(output, errors).map_err(|report| format!("{}:\n{report}", page.path))?;
    }
    Ok(executed)
}

/// Needs `tests/tools`, curl, jq and openssl.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_all_pages_work_and_show_every_operation() {
    let runs = pages()
        .into_iter()
        .filter(|page| page.path != "docs/operating.md")
        .map(|page| tokio::spawn(run(page)));
    let (mut executed, mut reports) = (BTreeSet::new(), Vec::new());
    for run in runs.collect::<Vec<_>>() {
        match run.await.unwrap() {
            Ok(operations) => executed.extend(operations),
            Err(report) => reports.push(report),
        }
    }
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));

    let stage = Stage::set_up().await;
    let document = stage.command(&["openapi"]).output().unwrap().stdout;
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let mut missing = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let is_shown = executed.contains(&(method.clone(), path.clone()));
            missing.extend((!is_shown).then(|| format!("{method} {path}")));
        }
    }
    assert!(missing.is_empty(), "no page shows {missing:?}");
}

/// Readers of several pages, and of the commands that the sandbox prints, get 202 for each new submission.
#[test]
fn no_two_pages_submit_the_same_call() {
    let mut seen = vec![("sandbox".to_owned(), "1716207600.1".to_owned())];
    for page in pages().into_iter().filter(|page| page.path != "docs/operating.md") {
        let mut calls = BTreeSet::new();
        for Example { script, .. } in examples(&page.text) {
            let rest = script
                .split("\"call_id\": \"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned());
            calls.extend(rest.filter(|call| !call.contains(' ')));
        }
        for call in calls {
            let earlier = seen.iter().find(|(_, earlier)| *earlier == call);
            assert!(earlier.is_none(), "{} and {earlier:?} submit {call}", page.path);
            seen.push((page.path.clone(), call));
        }
    }
    assert!(seen.len() > 8, "{seen:?}");
}

#[test]
fn the_readme_is_short() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.path == "README.md").unwrap();
    assert!(readme.text.len() <= 10 * 1024, "{} bytes: move details to docs", readme.text.len());
}
