//! Output and exit codes of the commands.

use std::process::Output;

use reqwest::StatusCode;
use serde_json::Value;

use crate::peers::run_patiently;
use crate::postgres::server::Server;
use crate::stage::{Stage, send};

/// Runs a command while the servers of the test continue to run.
async fn run(stage: &Stage, arguments: &[&str]) -> Output {
    run_patiently(|| stage.command(arguments)).await
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Settings with a mistake of each kind, and the keys that the error message must name.
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
async fn every_wrong_setting_is_reported() {
    let (stage, keys) = misconfigured().await;
    for arguments in
        [&["serve"] as &[_], &["check"], &["health"], &["token", "--tenant", "acme", "--scope", "x"]]
    {
        let output = run(&stage, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = text(&output.stderr);
        for key in keys {
            assert!(message.contains(key), "{arguments:?} does not name {key}:\n{message}");
        }
        assert!(output.stdout.is_empty());
    }
    assert!(!stage.file().exists());
}

#[tokio::test]
async fn check_reports_what_would_stop_serve() {
    let mut stage = Stage::set_up().await;
    let output = run(&stage, &["check"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!stage.file().exists(), "check must not create the store");

    // No server listens on port 1.
    stage.unset("AUTH__ISSUERS__0__HMAC_SECRET_FILE");
    stage.set("AUTH__ISSUERS__0__ALGORITHMS", "RS256");
    stage.set("AUTH__ISSUERS__0__JWKS_URL", "http://127.0.0.1:1/jwks");
    stage.set("STORE__URL", "sqlite:///no/such/folder/gateway.db");
    let output = run(&stage, &["check"]).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("https://issuer.test"), "{message}");
    assert!(message.contains("/no/such/folder"), "{message}");

    stage.set("TENANTS__ACME__VENDOR_TOKEN_FILE", "/no/such/token");
    stage.set_file("TENANTS__ACME__CALLBACK_SECRET_FILE", "whsec_short");
    let output = run(&stage, &["check"]).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for problem in
        ["/no/such/token", "tenants.acme.callback_secret_file", "https://issuer.test", "/no/such/folder"]
    {
        assert!(message.contains(problem), "check does not report {problem}:\n{message}");
    }
    assert!(!message.contains("whsec_short"));
}

#[tokio::test]
async fn check_finds_a_store_that_serve_cannot_use() {
    let mut stage = Stage::set_up().await;
    let url = stage.store.url();
    // Not even root can create files there.
    stage.set("STORE__URL", "sqlite:///proc/gateway.db");
    let output = run(&stage, &["check"]).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("store: cannot create files in /proc: "), "{message}");

    stage.set("STORE__URL", &url);
    let gateway = stage.serve().await;
    let output = run(&stage, &["check"]).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("is in use by another process"), "{message}");
    // While the gateway uses the same address, as before an upgrade, there is nothing to report.
    let api = gateway.api.socket_addrs(|| None).unwrap()[0];
    stage.set("SERVER__LISTEN", &api.to_string());
    let output = run(&stage, &["check"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    gateway.stop().await;
    let output = run(&stage, &["check"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let left = stage
        .home
        .path()
        .read_dir()
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".check"));
    assert_eq!(left.count(), 0, "check leaves no file");
}

#[tokio::test]
async fn check_reports_every_kind_of_problem_in_one_run() {
    let mut stage = Stage::set_up().await;
    stage.set("VENDOR__BASE_URL", "http://cld.alovoice.uz");
    stage.set("NETWORK__CA_FILE", "/no/such/ca.pem");
    stage.set("ENCRYPTION__KEY_FILE", "/no/such/key");
    // A reserved address (RFC 5737) that no machine has.
    stage.set("SERVER__LISTEN", "192.0.2.1:8080");
    stage.set("STORE__URL", "sqlite:///no/such/folder/gateway.db");
    stage.set("AUTH__ISSUERS__1__ISSUER", "https://other.test");
    stage.set("AUTH__ISSUERS__1__AUDIENCES", "a");
    stage.set("AUTH__ISSUERS__1__ALGORITHMS", "RS256");
    stage.set("AUTH__ISSUERS__1__JWKS_URL", "http://127.0.0.1:1/jwks");
    stage.set("AUTH__ISSUERS__0__HMAC_SECRET_FILE", "/no/such/hmac");
    let output = run(&stage, &["check"]).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for problem in [
        "vendor.base_url: must be an https URL",
        "network.ca_file: cannot read \"/no/such/ca.pem\"",
        "encryption.key_file: cannot read \"/no/such/key\"",
        "auth.issuers[0].hmac_secret_file: cannot read \"/no/such/hmac\"",
        "auth.issuers[1].jwks_url: issuer https://other.test, http://127.0.0.1:1/jwks: ",
        "server.listen: cannot listen on 192.0.2.1:8080: ",
        "store: cannot create files in /no/such/folder: ",
    ] {
        assert!(message.contains(problem), "check does not report {problem}:\n{message}");
    }
    assert_eq!(message.trim_end().lines().count(), 7, "{message}");
}

#[tokio::test]
async fn a_plain_http_vendor_is_a_problem_unless_it_is_on_this_machine_or_allowed() {
    let mut stage = Stage::set_up().await;
    for (base_url, allowed, code) in [
        ("http://vendor.invalid", "false", 2),
        ("http://10.0.0.5:8080", "false", 2),
        ("http://vendor.invalid:8080", "true", 0),
        ("http://localhost:8080", "false", 0),
        ("http://[::1]:8080", "false", 0),
        ("https://vendor.invalid", "false", 0),
    ] {
        stage.set("VENDOR__BASE_URL", base_url);
        stage.set("VENDOR__ALLOW_HTTP", allowed);
        let output = run(&stage, &["check"]).await;
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{base_url}: {message}");
        assert_eq!(message.starts_with("vendor.base_url: "), code == 2, "{base_url}: {message}");
    }
}

#[tokio::test]
async fn variables_of_kubernetes_do_not_stop_the_gateway() {
    let mut stage = Stage::set_up().await;
    for (name, value) in [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT_HTTP", "80"),
        ("PORT", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP_ADDR", "10.0.0.1"),
        ("ADMIN_SERVICE_HOST", "10.0.0.2"),
    ] {
        stage.set(name, value);
    }
    let gateway = stage.serve().await;
    assert_eq!(run(&stage, &["check"]).await.status.code(), Some(1), "the store is in use");
    gateway.stop().await;
    assert_eq!(run(&stage, &["check"]).await.status.code(), Some(0));
    stage.set("STROE__URL", "sqlite://x.db");
    let output = run(&stage, &["check"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[tokio::test]
async fn health_reports_liveness() {
    let mut stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let output = run(&stage, &["health"]).await;
    assert_eq!(output.status.code(), Some(2), "the settings do not contain the port that the system chose");
    assert!(text(&output.stderr).contains("server.admin_listen"), "{}", text(&output.stderr));

    let admin = gateway.admin.socket_addrs(|| None).unwrap()[0];
    stage.set("SERVER__ADMIN_LISTEN", &admin.to_string());
    let output = run(&stage, &["health"]).await;
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "alive\n"),
        "{}",
        text(&output.stderr)
    );
    // The default listens on every address of the machine.
    stage.set("SERVER__ADMIN_LISTEN", &format!("0.0.0.0:{}", admin.port()));
    assert_eq!(run(&stage, &["health"]).await.status.code(), Some(0));

    // A stopped process still accepts connections, but does not answer.
    gateway.process.pause();
    let output = crate::peers::run(stage.command(&["health"]), "").await;
    gateway.process.signal("CONT");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no answer within 2 s"), "{}", text(&output.stderr));

    // The API's port has no probes.
    let api = gateway.api.socket_addrs(|| None).unwrap()[0];
    stage.set("SERVER__ADMIN_LISTEN", &api.to_string());
    let output = run(&stage, &["health"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("answered 404"), "{}", text(&output.stderr));

    gateway.stop().await;
    // No server listens on port 1. Another program could use the port of the gateway by now.
    stage.set("SERVER__ADMIN_LISTEN", "127.0.0.1:1");
    let output = run(&stage, &["health"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the connection was refused"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn the_token_command_prints_only_a_valid_token() {
    let stage = Stage::set_up().await;
    let output = run(&stage, &["token", "--tenant", "acme", "--scope", "analyses:read"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let token = text(&output.stdout).strip_suffix('\n').unwrap();
    assert_eq!(token.split('.').count(), 3);
    assert!(!token.contains(char::is_whitespace));

    let gateway = stage.serve().await;
    let call = gateway.api.join("v1/analyses/known-1").unwrap();
    let answer = send(stage.client.get(call.clone()).bearer_auth(token)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = stage.client.get(call).bearer_auth(&token[..token.len() - 2]).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let submit = stage.client.post(gateway.api.join("v1/analyses").unwrap()).bearer_auth(token);
    assert_eq!(
        submit.send().await.unwrap().status(),
        StatusCode::FORBIDDEN,
        "the token has only the scope analyses:read"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_openapi_command_prints_the_served_document() {
    let stage = Stage::set_up().await;
    let output = run(&stage, &["openapi"]).await;
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
async fn store_copy_moves_a_sqlite_store_to_postgres() {
    let mut stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let before = stage.analysis(&gateway, "known-1").await;
    assert_eq!(before["status"], "completed");
    let database = Server::shared().await.fresh_database().await;
    let from = stage.store.url();
    let copy = ["store", "copy", "--from", &from, "--to", database.url()];

    let output = run(&stage, &copy).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("in use by another process"), "{message}");
    gateway.stop().await;

    let output = run(&stage, &copy).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let message = text(&output.stdout);
    for line in
        ["analyses                  1  ", "results                   1  ", "events                    1  "]
    {
        assert!(message.contains(line), "{line:?}:\n{message}");
    }
    assert!(message.contains("Next: set store.url"), "{message}");
    let output = run(&stage, &copy).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("There is nothing to do"));
    let output = run(&stage, &[&copy[..], &["--verify-only"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let output = run(&stage, &["serve"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("was copied to a PostgreSQL server"));
    stage.set("STORE__URL", database.url());
    let gateway = stage.serve().await;
    assert_eq!(stage.analysis(&gateway, "known-1").await, before);
    gateway.stop().await;

    let change = "UPDATE analyses SET metadata = '{\"ticket\":\"T-2\"}'";
    database.connect().await.batch_execute(change).await.unwrap();
    let output = run(&stage, &[&copy[..], &["--verify-only"]].concat()).await;
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("analyses: 1 rows ("), "{message}");
}

#[tokio::test]
async fn a_failed_store_copy_reports_the_reason_without_the_password() {
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
        let output = run(&stage, &[&["store", "copy", "--from", from, "--to", to], more].concat()).await;
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{to}: {message}");
        assert!(!message.is_empty() && !message.contains("hunter2"), "{message}");
        assert!(output.stdout.is_empty());
    }
}
