//! Commands of docs/operating.md, from the installation to the deletion of a tenant, in one shell.
//!
//! Every block of `sh` runs. Only folders, addresses and names of databases are replaced. A function stands for `systemctl`. After a
//! chapter the test checks that calls and webhooks are still there.

use std::path::Path;
use std::process::Command;

use alovoice_gateway::sandbox::stand_in::{VendorOptions, VendorStandIn};
use tempfile::TempDir;

use crate::blocks::{Block, blocks};
use crate::gateway::{bash, within};
use crate::postgres::cluster::free_port;
use crate::postgres::server::Server;
use crate::stage::{BINARY, id};

const HANDBOOK: &str = include_str!("../../docs/operating.md");
const CALL: &str = "1716207617.42";

/// Commands before the first chapter.
const PREAMBLE: &str = r#"
set -euo pipefail
systemctl() {
  case $1 in
    start) alovoice-gateway serve >> "$HOME/log" 2>&1 & GATEWAY=$! ;;
    stop) kill "$GATEWAY"; wait "$GATEWAY" ;;
    restart) systemctl stop; systemctl start ;;
  esac
}
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
curl() { command curl --retry 9 "$@"; }    # a slow machine can give 408 and 503
ask() { curl -s --max-time 70 "$@" -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"; }
completed() { until [ "$(ask "$API/v1/analyses/$1" -H "Prefer: wait=60" | jq -r .status)" = completed ]; do :; done; }
expect() { [ "$2" = "$3" ] || { echo "$1: $2 and not $3" >&2; exit 1; }; }
"#;

/// Commands of the test after a chapter.
fn afterwards(heading: &str) -> &'static str {
    match heading {
        "Install" => {
            r#"TOKEN=$(alovoice-gateway token --tenant acme --scope "analyses:read analyses:write webhooks:manage")
            ask "$API/v1/analyses" -d '{"call_id": "1716207617.42"}' > /dev/null
            completed 1716207617.42
            ask "$API/v1/webhooks" -d '{"url": "http://127.0.0.1:9/", "headers": {"X-Api-Key": "s3cret"}}' > /dev/null"#
        }
        "Upgrade and rollback" | "SQLite: restore" | "From one machine to many" | "PostgreSQL: restore" => {
            r#"expect "a call" "$(ask "$API/v1/analyses/1716207617.42" | jq -r .status)" completed
            expect "webhooks" "$(ask "$API/v1/webhooks" | jq '.webhooks | length')" 1"#
        }
        "SQLite: back up" | "PostgreSQL: back up" => {
            r#"ask "$API/v1/analyses" -d '{"call_id": "since-the-backup"}' > /dev/null
            completed since-the-backup"#
        }
        "Deleting" => {
            r#"expect "calls" "$(ask "$API/v1/analyses" | jq -c .analyses)" "[]"
            expect "webhooks" "$(ask "$API/v1/webhooks" | jq -c .webhooks)" "[]"
            systemctl stop"#
        }
        _ => "",
    }
}

/// Chapters with commands. The chapters about SQLite come before the move to PostgreSQL.
fn chapters() -> Vec<(String, Vec<String>)> {
    let mut chapters: Vec<(String, Vec<String>)> = Vec::new();
    for Block { heading, language, text } in blocks(HANDBOOK) {
        match chapters.last_mut() {
            _ if language != "sh" => {}
            Some((last, scripts)) if *last == heading => scripts.push(text),
            _ => chapters.push((heading, vec![text])),
        }
    }
    let about_sqlite =
        chapters.extract_if(.., |(heading, _)| heading.starts_with("SQLite: ")).collect::<Vec<_>>();
    let place = chapters.iter().position(|(heading, _)| heading == "From one machine to many").unwrap();
    chapters.splice(place..place, about_sqlite);
    chapters
}

/// Lines of the answers that the page shows, without those that have numbers.
fn answers() -> Vec<String> {
    let blocks = blocks(HANDBOOK);
    let pairs = blocks.windows(2).filter(|pair| pair[0].language == "sh" && pair[1].language.is_empty());
    let lines = pairs.flat_map(|pair| pair[1].text.lines().map(str::trim).collect::<Vec<_>>());
    let has_no_number = |line: &&str| !line.is_empty() && !line.contains(|c: char| c.is_ascii_digit());
    lines.filter(has_no_number).map(str::to_owned).collect()
}

/// Folders, addresses and the database that replace those of the page.
struct Places {
    home: TempDir,
    api: String,
    admin: String,
    server: String,
    database: String,
}

impl Places {
    fn make(server: &Server) -> Self {
        let home = TempDir::new().unwrap();
        for folder in ["etc", "lib", "backups", "bin"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(BINARY, home.path().join("bin/alovoice-gateway")).unwrap();
        std::fs::write(home.path().join("etc/db.password"), "none is asked for\n").unwrap();
        let [api, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let database = format!("operating_{}", server.port());
        Self { home, api, admin, server: format!("127.0.0.1:{}", server.port()), database }
    }

    fn replaced(&self, text: &str) -> String {
        let folder = |name: &str| self.home.path().join(name).display().to_string();
        [
            ("/etc/alovoice-gateway", folder("etc")),
            ("/var/lib/alovoice-gateway", folder("lib")),
            ("/var/backups/alovoice-gateway", folder("backups")),
            ("127.0.0.1:8080", self.api.clone()),
            ("127.0.0.1:9090", self.admin.clone()),
            ("db.internal/gateway", format!("{}/{}", self.server, self.database)),
            ("DATABASE gateway_", format!("DATABASE {}_", self.database)),
            ("db.internal", self.server.clone()),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, &to))
    }

    fn script(&self) -> String {
        let mut script = PREAMBLE.to_owned();
        for (heading, blocks) in chapters() {
            script += &format!("echo; echo '== {heading}'\n");
            script += &self.replaced(&blocks.join("\n"));
            script += &format!("\n{}\n", afterwards(&heading));
        }
        script + "echo; echo '== The end'\n"
    }

    fn shell(&self, vendor: &VendorStandIn, psql: &Path) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = bash();
        shell.args(["-c", &self.script()]).current_dir(self.home.path()).env_clear();
        let programs = psql.parent().unwrap_or(psql).display();
        shell.env("PATH", format!("{}/bin:{programs}:{path}", self.home.path().display()));
        shell.env("HOME", self.home.path()).env("no_proxy", "*").env("API", format!("http://{}", self.api));
        for (key, value) in [
            ("SERVER__LISTEN", self.api.as_str()),
            ("SERVER__SHUTDOWN_GRACE", "5m"),
            ("VENDOR__BASE_URL", vendor.base_url().as_str()),
            ("VENDOR__POLLING__FIRST_AFTER", "10ms"),
            ("VENDOR__POLLING__MIN_INTERVAL", "10ms"),
            ("CALLBACKS__ALLOW_HTTP", "true"),
            ("CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8"),
        ] {
            shell.env(format!("GATEWAY_{key}"), value);
        }
        shell
    }
}

/// Needs sqlite3, jq, curl, and PostgreSQL's psql, pg_dump and pg_restore.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_for_operators_work_from_top_to_bottom() {
    let server = Server::shared().await;
    let places = Places::make(server);
    let administration = crate::postgres::database::connect(&server.url("postgres")).await.unwrap();
    administration.batch_execute(&format!("CREATE DATABASE {}", places.database)).await.unwrap();
    let tokens = ["the-token-from-your-vendor", "the-new-token-from-your-vendor"].map(str::to_owned);
    let vendor = VendorOptions { tokens: tokens.to_vec(), ..VendorOptions::default() };
    let vendor = VendorStandIn::start(vendor).await.unwrap();
    let mut shell = places.shell(&vendor, &server.program("psql"));
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
    let output = within("the end of the page", output).await.unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let log = std::fs::read_to_string(places.home.path().join("log")).unwrap_or_default();
    assert!(output.status.success() && told.contains("== The end"), "{told}\n{log}");
    let missing: Vec<_> = answers().into_iter().filter(|line| !told.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "the page shows {missing:?}, and the output is {told}");
    // Each restore brings back a backup from before this call was submitted.
    assert_eq!(vendor.accepted_submits(&id("since-the-backup")), 2, "once before each restore");
    assert_eq!(vendor.accepted_submits(&id(CALL)), 1);
}
