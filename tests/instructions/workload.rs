//! The operations whose instructions are counted: a gateway that gets requests over a socket, and a store.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alovoice_gateway::app::{self, Gateway};
use alovoice_gateway::config;
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::lifecycle::{Step, SubmitOutcome};
use alovoice_gateway::http_client::Network;
use alovoice_gateway::store::sqlite::SqliteStore;
use alovoice_gateway::store::{Queue, Store};
use alovoice_gateway::telemetry::Telemetry;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::harness::{
    LEASE, acme, call_id, delivered, obtained, ready, slots, slots_of, store_context, trace, with_callback,
};
use crate::signer::Signer;

/// Environment variable with the folder of the workload.
pub(crate) const HOME: &str = "INSTRUCTIONS_HOME";
/// File in the folder with a line for each count: the name of the operation and how often it ran.
pub(crate) const BATCHES: &str = "batches";
/// Number of batches of each operation of a store. A worker with a timer runs during some batches, so the cheapest batch counts.
const BATCHES_OF_OPERATION: usize = 4;
/// Number of operations of a store in a batch. A claim takes as many pieces of work.
const BATCH: usize = 16;
/// Number of batches of each request to a gateway, and of requests in a batch. A gateway has more timers than a store. On a busy
/// machine, each batch takes longer. So the batches are short, and there are many of them.
const REQUESTS: (usize, usize) = (24, 4);

const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];
const SECRET: &[u8] = b"a shared secret of at least thirty-two bytes";
const AUDIENCE: &str = "alovoice-gateway";

/// Writes a key and a token of each algorithm to the folder. Under callgrind, the generation of an RSA key would take long.
pub(crate) fn write_keys(home: &Path) {
    for algorithm in ALGORITHMS {
        let signer = match algorithm {
            "HS256" => Signer::Hmac(SECRET.to_vec()),
            "RS256" => Signer::rsa(),
            "ES256" => Signer::p256(),
            _ => Signer::ed25519(),
        };
        let key =
            if let Signer::Hmac(secret) = &signer { secret.clone() } else { signer.public_pem().into() };
        fs::write(home.join(format!("{algorithm}.key")), key).unwrap();
        let now = SystemClock.now().as_seconds();
        let claims = json!({
            "iss": format!("https://{algorithm}.test"), "aud": AUDIENCE, "sub": "crm", "tenant": "acme",
            "scope": "analyses:read analyses:write", "iat": now, "exp": now + 3600,
        });
        let token = signer.token(&json!({"alg": algorithm, "typ": "JWT"}), &claims);
        fs::write(home.join(format!("{algorithm}.token")), token).unwrap();
    }
}

/// Callgrind sets its counts to zero when this function is called.
#[inline(never)]
const fn counting_begins() {}

/// Callgrind writes its counts to a file when this function is called.
#[inline(never)]
const fn counting_ends() {}

#[test]
#[ignore = "the other test runs it under callgrind"]
fn run() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let batches = File::create(home.join(BATCHES)).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let workload = Workload { home, batches, runtime };
    workload.use_store();
    workload.use_gateway();
}

struct Workload {
    home: PathBuf,
    batches: File,
    runtime: Runtime,
}

impl Workload {
    /// Runs batches of an operation and counts each of them.
    fn count(&self, name: &str, (batches, batch): (usize, usize), mut operation: impl FnMut()) {
        for _ in 0..batches {
            counting_begins();
            (0..batch).for_each(|_| operation());
            counting_ends();
            writeln!(&self.batches, "{name} {batch}").unwrap();
        }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The life of calls in a store: claims of analyses, answers of the vendor, claims of deliveries and their outcomes.
    fn use_store(&self) {
        let (context, clock) = store_context();
        let store: &dyn Store = &SqliteStore::open(&self.home.join("store.db"), context).unwrap();
        let claim = |queue| {
            let slots = vec![slots_of(acme(), BATCH)];
            self.wait(store.claim_work_across_tenants(queue, slots, LEASE)).unwrap().claimed
        };
        let call = |call: usize| with_callback(&call.to_string(), &format!("https://{call}.example/"));
        let calls = (0..BATCHES_OF_OPERATION * BATCH).map(call).collect();
        self.wait(store.submit_all(&acme(), calls)).unwrap();
        for claimed in (0..BATCHES_OF_OPERATION).flat_map(|_| claim(Queue::Submits)) {
            let accepted = Arc::new(Step::Submitted(SubmitOutcome::Accepted));
            self.wait(store.apply(claimed.lease, accepted)).unwrap();
        }
        clock.advance(LEASE);

        let mut analyses = Vec::new();
        self.count("claim_analyses", (BATCHES_OF_OPERATION, 1), || analyses.extend(claim(Queue::Polls)));
        let mut leases = analyses.iter().map(|claimed| claimed.lease);
        self.count("apply", (BATCHES_OF_OPERATION, BATCH), || {
            let answer = Arc::new(ready("salom"));
            self.wait(store.apply(leases.next().unwrap(), answer)).unwrap();
        });
        let mut deliveries = Vec::new();
        self.count("claim_deliveries", (BATCHES_OF_OPERATION, 1), || {
            let claim = store.claim_deliveries_across_tenants(slots(BATCH, usize::MAX, BATCH), LEASE);
            deliveries.extend(self.wait(claim).unwrap().claimed);
        });
        let mut leases = deliveries.iter().map(|claimed| claimed.lease);
        self.count("finish_attempt", (BATCHES_OF_OPERATION, BATCH), || {
            self.wait(store.finish_attempt(leases.next().unwrap(), delivered())).unwrap();
        });
    }

    /// Requests to a gateway: cached reads with each algorithm, and submits.
    fn use_gateway(&self) {
        // The vendor accepts connections and never answers, so the submit of the first call blocks the only place of the tenant.
        let vendor = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = self.wait(self.start(&vendor));
        let mut answer = obtained("salom, bu qo‘ng‘iroq sifatni nazorat qilish uchun yozib olinadi");
        answer.result.transcript = vec![answer.result.transcript[0].clone(); 8];
        let store = gateway.store();
        assert!(self.wait(store.adopt(&acme(), &call_id("finished"), trace(), answer)).unwrap());

        let client = TcpStream::connect(gateway.api().socket_addrs(|| None).unwrap()[0]).unwrap();
        let token = |algorithm| fs::read_to_string(self.home.join(format!("{algorithm}.token"))).unwrap();
        for algorithm in ALGORITHMS {
            let request = format!(
                "GET /v1/analyses/finished HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n\r\n",
                token(algorithm)
            );
            let get = || assert_eq!(exchange(&client, &request), 200);
            (0..BATCH).for_each(|_| get());
            self.count(&format!("get_{}", algorithm.to_lowercase()), REQUESTS, get);
        }
        let (token, calls) = (token("HS256"), Cell::new(100));
        let submit = || {
            let call = calls.replace(calls.get() + 1);
            let body = format!(r#"{{"call_id":"{call}","callback":{{"url":"https://crm.example/{call}"}}}}"#);
            let request = format!(
                "POST /v1/analyses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            assert_eq!(exchange(&client, &request), 202);
        };
        (0..BATCH).for_each(|_| submit());
        self.count("submit", REQUESTS, submit);
    }

    /// Starts a gateway with its logs on standard error.
    async fn start(&self, vendor: &TcpListener) -> Gateway {
        let path = |name: &str| self.home.join(name).display().to_string();
        fs::write(path("vendor-token"), "vendor-token-of-acme").unwrap();
        fs::write(path("callback-secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let settings = [
            ("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
            ("SERVER__ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("VENDOR__BASE_URL", format!("http://{}", vendor.local_addr().unwrap())),
            ("VENDOR__REQUEST_TIMEOUT", "5m".to_owned()),
            ("VENDOR__MAX_CONCURRENCY", "1".to_owned()),
            ("STORE__URL", format!("sqlite://{}", path("gateway.db"))),
            ("RATE_LIMIT__REQUESTS_PER_SECOND", "1000000".to_owned()),
            ("RATE_LIMIT__BURST", "1000000".to_owned()),
            ("TENANTS__ACME__VENDOR_TOKEN_FILE", path("vendor-token")),
            ("TENANTS__ACME__CALLBACK_SECRET_FILE", path("callback-secret")),
        ];
        let issuers = ALGORITHMS.iter().enumerate().flat_map(|(index, algorithm)| {
            let source = if *algorithm == "HS256" { "HMAC_SECRET_FILE" } else { "PUBLIC_KEY_FILE" };
            [
                ("ISSUER", format!("https://{algorithm}.test")),
                ("AUDIENCES", AUDIENCE.to_owned()),
                ("ALGORITHMS", (*algorithm).to_owned()),
                (source, path(&format!("{algorithm}.key"))),
            ]
            .map(|(key, value)| (format!("GATEWAY_AUTH__ISSUERS__{index}__{key}"), value))
        });
        let settings = settings.into_iter().map(|(key, value)| (format!("GATEWAY_{key}"), value));
        let settings = config::load(None, settings.chain(issuers)).unwrap();
        let network = Network::new(&settings.network).unwrap();
        let telemetry = Telemetry::start(&settings, &network).unwrap();
        app::start(&settings, &|_| None, &network, telemetry).await.unwrap()
    }
}

/// Sends a request, reads the answer and returns its status. An HTTP client would need more instructions than the gateway.
fn exchange(mut client: &TcpStream, request: &str) -> u16 {
    client.write_all(request.as_bytes()).unwrap();
    let (mut buffer, mut length) = ([0; 8 << 10], 0);
    loop {
        length += client.read(&mut buffer[length..]).unwrap();
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = answer.parse(&buffer[..length]).unwrap() else { continue };
        let header = answer.headers.iter().find(|header| header.name == "content-length").unwrap();
        let body: usize = str::from_utf8(header.value).unwrap().parse().unwrap();
        if length == head + body {
            return answer.code.unwrap();
        }
    }
}
