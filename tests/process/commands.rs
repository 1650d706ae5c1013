//! Output and exit codes of the commands.

use std::process::Output;

use reqwest::StatusCode;
use serde_json::Value;

use crate::postgres::server::Server;
use crate::stage::Stage;

fn run(stage: &Stage, arguments: &[&str]) -> Output {
    stage.command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Settings with a mistake of each kind, and the keys that a person would have to look at.
async fn misconfigured() -> (Stage, [&'static str; 6]) {
    let mut stage = Stage::set_up().await;
    stage.set("SERVER__LISTEN", "everywhere");
    stage.set("VENDOR__POLLING__MIN_INTERVAL", "often");
    stage.set("VENDOR__BASE_ULR", "https://vendor.test");
    stage.set("STORE__URL", "mysql://somewhere");
    stage.set("AUTH__ISSUERS__0__ALGORITHMS", "none");
    stage.unset("TENANTS__ACME__VENDOR_TOKEN_FILE");
    let keys = [
        "server.listen",
        "vendor.polling.min_interval",
        "vendor.base_ulr",
        "store.url",
        "auth.issuers[0].algorithms",
        "tenants.acme",
    ];
    (stage, keys)
}

#[tokio::test]
async fn wrong_settings_are_all_named() {
    let (stage, keys) = misconfigured().await;
    for arguments in
        [&["serve"] as &[_], &["check"], &["health"], &["token", "--tenant", "acme", "--scope", "x"]]
    {
        let output = run(&stage, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        for key in keys {
            assert!(told.contains(key), "{arguments:?} does not name {key}:\n{told}");
        }
        assert!(output.stdout.is_empty());
    }
    assert!(!stage.file().exists());
}

#[tokio::test]
async fn check_reports_every_fault_that_would_stop_serve() {
    let mut stage = Stage::set_up().await;
    let output = run(&stage, &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!stage.file().exists(), "check changes nothing");

    // No process listens on port 1.
    stage.unset("AUTH__ISSUERS__0__HMAC_SECRET_FILE");
    stage.set("AUTH__ISSUERS__0__ALGORITHMS", "RS256");
    stage.set("AUTH__ISSUERS__0__JWKS_URL", "http://127.0.0.1:1/jwks");
    stage.set("STORE__URL", "sqlite:///no/such/folder/gateway.db");
    let output = run(&stage, &["check"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("https://issuer.test"), "{told}");
    assert!(told.contains("/no/such/folder"), "{told}");

    stage.set("TENANTS__ACME__VENDOR_TOKEN_FILE", "/no/such/token");
    stage.set_file("TENANTS__ACME__CALLBACK_SECRET_FILE", "whsec_short");
    let output = run(&stage, &["check"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for what in
        ["/no/such/token", "tenants.acme.callback_secret_file", "https://issuer.test", "/no/such/folder"]
    {
        assert!(told.contains(what), "check does not report {what}:\n{told}");
    }
    assert!(!told.contains("whsec_short"));
}

#[tokio::test]
async fn health_reports_whether_the_gateway_is_alive() {
    let mut stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let asked = run(&stage, &["health"]);
    assert_eq!(asked.status.code(), Some(2), "the settings do not say which port the system picked");
    assert!(text(&asked.stderr).contains("server.admin_listen"), "{}", text(&asked.stderr));

    let admin = gateway.admin.socket_addrs(|| None).unwrap()[0];
    stage.set("SERVER__ADMIN_LISTEN", &admin.to_string());
    let asked = run(&stage, &["health"]);
    assert_eq!((asked.status.code(), text(&asked.stdout)), (Some(0), "alive\n"), "{}", text(&asked.stderr));
    // As the default listens: on every address of the machine.
    stage.set("SERVER__ADMIN_LISTEN", &format!("0.0.0.0:{}", admin.port()));
    assert_eq!(run(&stage, &["health"]).status.code(), Some(0));

    // A stopped process accepts connections and does not answer.
    gateway.process.signal("STOP");
    let asked = run(&stage, &["health"]);
    gateway.process.signal("CONT");
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked.stderr).contains("no answer within 2 s"), "{}", text(&asked.stderr));

    // The API's port has no probes.
    let api = gateway.api.socket_addrs(|| None).unwrap()[0];
    stage.set("SERVER__ADMIN_LISTEN", &api.to_string());
    let asked = run(&stage, &["health"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked.stderr).contains("answered 404"), "{}", text(&asked.stderr));

    stage.set("SERVER__ADMIN_LISTEN", &admin.to_string());
    gateway.stop().await;
    let asked = run(&stage, &["health"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked.stderr).contains("Connection refused"), "{}", text(&asked.stderr));
}

#[tokio::test]
async fn a_token_is_printed_alone_and_accepted() {
    let stage = Stage::set_up().await;
    let output = run(&stage, &["token", "--tenant", "acme", "--scope", "analyses:read"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let token = text(&output.stdout).strip_suffix('\n').unwrap();
    assert_eq!(token.split('.').count(), 3);
    assert!(!token.contains(char::is_whitespace));

    let gateway = stage.serve().await;
    let call = gateway.api.join("v1/analyses/known-1").unwrap();
    let answer = stage.client.get(call.clone()).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = stage.client.get(call).bearer_auth(&token[..token.len() - 2]).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let submit = stage.client.post(gateway.api.join("v1/analyses").unwrap()).bearer_auth(token);
    assert_eq!(submit.send().await.unwrap().status(), StatusCode::FORBIDDEN, "it has one scope");
    gateway.stop().await;
}

#[tokio::test]
async fn the_document_is_the_one_that_is_served() {
    let stage = Stage::set_up().await;
    let output = run(&stage, &["openapi"]);
    assert_eq!(output.status.code(), Some(0));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["paths"]["/v1/analyses"]["post"]["operationId"], "submit_analysis");

    let gateway = stage.serve().await;
    let served = stage.client.get(gateway.api.join("openapi.json").unwrap()).send().await.unwrap();
    let served: Value = serde_json::from_slice(&served.bytes().await.unwrap()).unwrap();
    assert_eq!(served, printed);
    gateway.stop().await;
}

#[tokio::test]
async fn a_store_is_copied_to_postgres_and_used_there() {
    let mut stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let before = stage.analysis(&gateway, "known-1").await;
    assert_eq!(before["status"], "completed");
    let database = Server::shared().await.fresh_database().await;
    let from = stage.store.url();
    let copy = ["store", "copy", "--from", &from, "--to", database.url()];

    let output = run(&stage, &copy);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("in use by another process"), "{told}");
    gateway.stop().await;

    let output = run(&stage, &copy);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    for line in ["analyses             1  ", "results              1  ", "events               1  "] {
        assert!(told.contains(line), "{line:?}:\n{told}");
    }
    assert!(told.contains("Next: set store.url"), "{told}");
    let output = run(&stage, &copy);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("There is nothing to do"));
    let output = run(&stage, &[&copy[..], &["--verify-only"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let output = run(&stage, &["serve"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("was copied to a PostgreSQL server"));
    stage.set("STORE__URL", database.url());
    let gateway = stage.serve().await;
    assert_eq!(stage.analysis(&gateway, "known-1").await, before);
    gateway.stop().await;

    let change = "UPDATE analyses SET metadata = '{\"ticket\":\"T-2\"}'";
    database.connect().await.batch_execute(change).await.unwrap();
    let output = run(&stage, &[&copy[..], &["--verify-only"]].concat());
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("analyses: 1 rows ("), "{told}");
}

#[tokio::test]
async fn a_failed_copy_reports_the_reason_and_no_password() {
    let stage = Stage::set_up().await;
    stage.serve().await.stop().await;
    let from = stage.store.url();
    let server = "postgres://gateway:hunter2@127.0.0.1:1/gateway";
    for (from, to, more, code) in [
        (&*from, server, &[] as &[_], 1),
        ("sqlite:///no/such/file.db", server, &[], 1),
        (server, server, &[], 2),
        (&from, &from, &[], 2),
        (&from, "postgres://gateway:hunter2@127.0.0.1:1/gateway#x", &[], 2),
        (&from, "postgres://gateway:hunter2@127.0.0.1:port/gateway", &[], 2),
        (&from, "postgres://gateway:hunter2@127.0.0.1:1/gateway?colour=red", &[], 2),
        (&from, "postgres://gateway:hunter2@127.0.0.1:1/gateway?sslmode=maybe", &[], 2),
        (&from, server, &["--password-file", "/no/such/password"], 2),
    ] {
        let output = run(&stage, &[&["store", "copy", "--from", from, "--to", to], more].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{to}: {told}");
        assert!(!told.is_empty() && !told.contains("hunter2"), "{told}");
        assert!(output.stdout.is_empty());
    }
}
