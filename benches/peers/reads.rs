//! A finished analysis from the cache, against a proxy with a cache that verifies tokens, a bare handler and a file server.

use std::io::Write;

use alovoice_gateway::sandbox::stand_in::Ready;

use crate::bare::Handler;
use crate::gateway::{self, NO_AUDIT_LOG, Options};
use crate::load::Load;
use crate::report::{Report, Side};
use crate::servers;
use crate::signer::Signer;
use tokio::runtime::Runtime;

const PATH: &str = "analyses/known-1";

pub(crate) fn measure(report: &mut Report, runtime: &Runtime) {
    let mut first = None;
    for algorithm in Signer::ALGORITHMS {
        let signer = Signer::new(algorithm);
        let options = |settings| Options {
            signer: &signer,
            postgres: None,
            processing: Ready::AfterPolls(2),
            settings,
        };
        let start = |settings| {
            let gateway = runtime.block_on(gateway::start(options(settings)));
            let body = runtime.block_on(gateway.get_and_hold(PATH));
            (gateway, body)
        };
        let (gateway, body) = start(&[]);
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(body.as_bytes()).expect("a temporary file takes a body");
        let handler = Handler::start(file.path());
        let ours = Load::get(&gateway.url(PATH), Some(&gateway.token)).on(&gateway.process);
        let what = format!("a cached analysis of {} bytes, {}", body.len(), signer.algorithm());
        let mut peers = Vec::new();
        let (haproxy, envoy);
        if signer.algorithm() != "EdDSA" {
            haproxy = servers::haproxy(&signer, handler.port);
            let theirs = Load::get(&haproxy.url, Some(&gateway.token)).on(&haproxy.process);
            peers.push((Side("HAProxy, `jwt_verify` and `cache`", Box::new(move || theirs.run())), 1.3));
            envoy = servers::envoy(&signer, handler.port);
            let theirs = Load::get(&envoy.url, Some(&gateway.token)).on(&envoy.process);
            peers.push((Side("Envoy, `jwt_authn` and `cache`", Box::new(move || theirs.run())), 0.0));
        }
        let nginx;
        let quiet;
        if let Some((_, before)) = &first {
            let before: &Load = before;
            peers.push((Side("the gateway with HS256", Box::new(|| before.run())), 0.95));
        } else {
            let bare = Load::get(&handler.url, None).on(&handler.process);
            peers.push((Side("a bare actix-web handler", Box::new(move || bare.run())), 0.7));
            nginx = servers::nginx(file.path());
            let static_file = Load::get(&nginx.url, None).on(&nginx.process);
            peers.push((Side("nginx, a static file", Box::new(move || static_file.run())), 0.0));
            (quiet, _) = start(&[NO_AUDIT_LOG]);
            let quiet = Load::get(&quiet.url(PATH), Some(&quiet.token)).on(&quiet.process);
            peers.push((Side("the gateway without the audit log", Box::new(move || quiet.run())), 0.0));
        }
        let load = ours.clone();
        report.compare(&what, Side("", Box::new(move || load.run())), peers);
        if first.is_none() {
            first = Some((gateway, ours));
        }
    }
    report.comparisons("Reads");
}
