//! The OpenAPI document checked by linters, a fuzzer and generated clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{PROJECT, run, text, tool};
use crate::sandbox::Sandbox;
use crate::stage::Stage;

fn output_text(output: &Output) -> String {
    [text(&output.stdout), text(&output.stderr)].concat()
}

/// Creates a working folder with copies of these project files and a link to the installed npm packages.
fn working_folder(stage: &Stage, files: &[&str]) -> PathBuf {
    let folder = stage.home.path().join("working_folder");
    fs::create_dir(&folder).unwrap();
    for file in files {
        let name = Path::new(file).file_name().unwrap();
        fs::copy(Path::new(PROJECT).join(file), folder.join(name)).unwrap();
    }
    let packages = tool("document/node_modules");
    std::os::unix::fs::symlink(packages, folder.join("node_modules")).unwrap();
    folder
}

/// A program of an npm package in a working folder, with telemetry and update checks off.
fn npm(stage: &Stage, folder: &Path, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool("node"));
    command
        .arg(tool("document/node_modules").join(script))
        .args(arguments)
        .current_dir(folder)
        .env("HOME", stage.home.path())
        .env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    command
}

/// Writes the document, and a faulty copy in which each linter must find a fault.
fn documents(stage: &Stage, folder: &Path) {
    let document = stage.command(&["openapi"]).output().unwrap().stdout;
    let mut faulty: Value = serde_json::from_slice(&document).unwrap();
    fs::write(folder.join("openapi.json"), document).unwrap();
    faulty["components"]["schemas"]["Callback"]["properties"]["url"]
        .as_object_mut()
        .unwrap()
        .remove("maxLength");
    faulty["paths"]["/v1/usage"]["get"]["responses"]["200"]["content"]["application/json"]["example"] =
        json!({"days": 1});
    fs::write(folder.join("faulty.json"), faulty.to_string()).unwrap();
}

#[tokio::test]
async fn spectral_with_the_rules_of_owasp_finds_nothing() {
    let stage = Stage::set_up().await;
    let folder = working_folder(&stage, &[".spectral.yaml"]);
    documents(&stage, &folder);
    let lint = |file| {
        npm(&stage, &folder, "@stoplight/spectral-cli/dist/index.js", &["lint", "--fail-severity=hint", file])
    };
    let output = run(lint("openapi.json"), "").await;
    assert!(output.status.success(), "{}", output_text(&output));
    let output = run(lint("faulty.json"), "").await;
    assert!(
        !output.status.success() && output_text(&output).contains("owasp:api4:2023-string-limit"),
        "{}",
        output_text(&output)
    );
}

#[tokio::test]
async fn redocly_finds_nothing() {
    let stage = Stage::set_up().await;
    let folder = working_folder(&stage, &["redocly.yaml"]);
    documents(&stage, &folder);
    let lint = |file| npm(&stage, &folder, "@redocly/cli/bin/cli.js", &["lint", file]);
    let output = run(lint("openapi.json"), "").await;
    assert!(output.status.success() && output_text(&output).contains("Woohoo"), "{}", output_text(&output));
    let output = run(lint("faulty.json"), "").await;
    assert!(
        !output.status.success() && output_text(&output).contains("no-invalid-media-type-examples"),
        "{}",
        output_text(&output)
    );
}

#[tokio::test]
async fn schemathesis_finds_nothing() {
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    let mut schemathesis = Command::new(tool("schemathesis/bin/schemathesis"));
    schemathesis
        .arg("--config-file")
        .arg(Path::new(PROJECT).join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", sandbox.base())])
        .args(["-H", &format!("Authorization: Bearer {}", sandbox.token())])
        // All checks run, except those that the configuration disables: `--checks all` would enable them again. The rate stays
        // below the tenant's limit, and the seed makes every run equal.
        .args(["--rate-limit", "90/s", "--seed", "1", "--max-examples", "20"])
        .args(["--continue-on-failure", "--request-timeout", "70", "--no-color"])
        .current_dir(stage.home.path())
        .env("HOME", stage.home.path())
        .env("SCHEMATHESIS_TELEMETRY", "off");
    let output = run(schemathesis, "").await;
    assert!(output.status.success(), "{}", output_text(&output));
    let operations = operation_count(&stage);
    assert!(output_text(&output).contains(&format!("Tested: {operations}")), "{}", output_text(&output));
    sandbox.process.stop().await;
}

/// Number of operations in the document.
fn operation_count(stage: &Stage) -> usize {
    let document: Value =
        serde_json::from_slice(&stage.command(&["openapi"]).output().unwrap().stdout).unwrap();
    document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum()
}

/// Checks the output of a generated client.
fn check_client_output(output: &Output) {
    assert!(output.status.success(), "{}", output_text(output));
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(job["submitted"], json!([202, "queued"]), "{job}");
    assert_eq!((&job["status"], &job["metadata"]), (&json!("completed"), &json!({"ticket": "T-1"})), "{job}");
    assert_eq!(job["call"], json!(["+998901234567", {"lead": "42"}]), "{job}");
    assert!(job["talk_ms"].as_i64().is_some_and(|ms| ms > 0), "{job}");
    assert!(job["turns"][0][1].as_str().is_some_and(|words| !words.is_empty()), "{job}");
    assert_eq!(job["refused"], "not_found", "{job}");
    let text = job["text"].as_str().unwrap();
    assert!(text.starts_with("[0:00:01] ") && text.contains(job["turns"][0][1].as_str().unwrap()), "{job}");
    assert_eq!(job["webhook"], json!([true, true]), "{job}");
    assert_eq!(job["test"], json!(["webhook.test", true, "operator"]), "{job}");
    let turns = job["turns"].as_array().unwrap().len();
    assert_eq!(job["event"], json!(["analysis.completed", "1716207617.42", turns]), "{job}");
}

#[tokio::test]
async fn a_python_client_of_openapi_generator_submits_reads_and_receives_a_call() {
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    let folder = stage.home.path().join("working_folder");
    fs::create_dir(&folder).unwrap();
    documents(&stage, &folder);
    let mut generator = Command::new(tool("java"));
    let jar = fs::read_dir(tool("schemathesis/lib")).unwrap().next().unwrap().unwrap().path();
    generator
        .arg("-jar")
        .arg(jar.join("site-packages/openapi_generator_cli/openapi-generator.jar"))
        .args(["generate", "-g", "python", "-i", "openapi.json", "-o", "client"])
        .args(["--additional-properties", "packageName=alovoice"])
        .current_dir(&folder);
    let output = run(generator, "").await;
    assert!(output.status.success(), "{}", output_text(&output));

    let python = || {
        let mut python = Command::new(tool("schemathesis/bin/python"));
        python.current_dir(&folder);
        python
    };
    let mut compiler = python();
    compiler.args(["-W", "error", "-m", "compileall", "-q", "client"]);
    let output = run(compiler, "").await;
    assert!(output.status.success(), "{}", output_text(&output));

    let mut job = python();
    job.arg(Path::new(PROJECT).join("tests/document/client.py"));
    job.args(["client", sandbox.base(), sandbox.token(), "1716207617.42"]);
    check_client_output(&run(job, "").await);
    sandbox.process.stop().await;
}

#[tokio::test]
async fn a_typescript_client_of_openapi_typescript_submits_reads_and_receives_a_call() {
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    let folder = working_folder(&stage, &["tests/document/client.ts", "tests/document/package.json"]);
    documents(&stage, &folder);
    let generator =
        npm(&stage, &folder, "openapi-typescript/bin/cli.js", &["openapi.json", "-o", "api.d.ts"]);
    let output = run(generator, "").await;
    assert!(output.status.success(), "{}", output_text(&output));

    let strict =
        ["--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--types", "node"];
    let target = ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "client.ts"];
    let output = run(npm(&stage, &folder, "typescript/bin/tsc", &[&strict[..], &target].concat()), "").await;
    assert!(output.status.success(), "{}", output_text(&output));

    let mut job = Command::new(tool("node"));
    job.current_dir(&folder).arg("client.js").args([sandbox.base(), sandbox.token(), "1716207617.42"]);
    check_client_output(&run(job, "").await);
    sandbox.process.stop().await;
}
