//! Other servers: HAProxy, Envoy and nginx, with one worker on the first core.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::cluster::free_port;
use crate::process::{Process, pinned};
use crate::signer::Signer;

/// A running server with its configuration.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) process: Process,
    _home: TempDir,
}

/// Starts HAProxy with the checks of a token that HAProxy can make, and a cache in front of the origin.
pub(crate) fn haproxy(signer: &Signer, origin: u16) -> Server {
    let (home, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
    let key = match signer.algorithm() {
        "HS256" => format!("\"{}\"", signer.verification_key),
        _ => {
            let path = home.path().join("issuer.pem");
            fs::write(&path, &signer.verification_key).expect("a file");
            format!("\"{}\"", path.display())
        }
    };
    let (algorithm, issuer, audience) = (signer.algorithm(), Signer::ISSUER, Signer::AUDIENCE);
    let configuration = format!(
        "global\n  nbthread 1\n  maxconn 2000\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n\
         cache answers\n  total-max-size 64\n  max-object-size 1000000\n  max-age 3600\n\
         frontend api\n  bind 127.0.0.1:{port}\n\
         \x20 http-request set-var(txn.token) http_auth_bearer\n\
         \x20 http-request set-var(txn.algorithm) http_auth_bearer,jwt_header_query('$.alg')\n\
         \x20 http-request set-var(txn.issuer) http_auth_bearer,jwt_payload_query('$.iss')\n\
         \x20 http-request set-var(txn.audience) http_auth_bearer,jwt_payload_query('$.aud')\n\
         \x20 http-request set-var(txn.expiry) http_auth_bearer,jwt_payload_query('$.exp','int')\n\
         \x20 http-request set-var(txn.now) date()\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.algorithm) -m str {algorithm} }}\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.issuer) -m str {issuer} }}\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.audience) -m str {audience} }}\n\
         \x20 http-request deny deny_status 401 if {{ var(txn.expiry),sub(txn.now) -m int lt 0 }}\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.algorithm,{key}) -m int 1 }}\n\
         \x20 http-request del-header authorization\n\
         \x20 http-request cache-use answers\n\
         \x20 http-response cache-store answers\n\
         \x20 default_backend origin\n\
         backend origin\n  server origin 127.0.0.1:{origin}\n"
    );
    let file = home.path().join("haproxy.cfg");
    fs::write(&file, configuration).expect("a file");
    let mut command = pinned("haproxy");
    command.args(["-db", "-q", "-f"]).arg(file);
    server(command, port, "v1/analyses/known-1", home)
}

/// Starts Envoy with the same checks of a token, a cache of verified tokens, and a cache in front of the origin.
pub(crate) fn envoy(signer: &Signer, origin: u16) -> Server {
    let (home, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
    let filter = |name: &str, kind: &str, mut settings: Value| {
        settings["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.{kind}"));
        json!({"name": name, "typed_config": settings})
    };
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let tokens = json!({
        "providers": {"issuer": {"issuer": Signer::ISSUER, "audiences": [Signer::AUDIENCE],
            "local_jwks": {"inline_string": signer.key_set()}, "jwt_cache_config": {"jwt_cache_size": 1000}}},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
    });
    let memory = "type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig";
    let cache = json!({"typed_config": {"@type": memory}});
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
    let http = json!({
        "stat_prefix": "api",
        "route_config": {"virtual_hosts": [{"name": "api", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            filter("envoy.filters.http.jwt_authn", "http.jwt_authn.v3.JwtAuthentication", tokens),
            filter("envoy.filters.http.cache", "http.cache.v3.CacheConfig", cache),
            filter("envoy.filters.http.router", "http.router.v3.Router", json!({})),
        ],
    });
    let connections = filter(
        "envoy.filters.network.http_connection_manager",
        "network.http_connection_manager.v3.HttpConnectionManager",
        http,
    );
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address(origin)}}]}]);
    let configuration = json!({"static_resources": {
        "listeners": [{"address": address(port), "filter_chains": [{"filters": [connections]}]}],
        "clusters": [{"name": "origin", "load_assignment": {"cluster_name": "origin", "endpoints": endpoints}}],
    }});
    let file = home.path().join("envoy.json");
    fs::write(&file, configuration.to_string()).expect("a file");
    let mut command = pinned("envoy");
    command.args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error", "-c"]).arg(file);
    server(command, port, "v1/analyses/known-1", home)
}

/// Starts nginx, which serves a file.
pub(crate) fn nginx(file: &Path) -> Server {
    let (home, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
    let folder = home.path().display();
    fs::copy(file, home.path().join("answer.json")).expect("a file");
    let user = if fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0) {
        "user root;"
    } else {
        ""
    };
    let configuration = format!(
        "daemon off; master_process off; {user} pid {folder}/pid; error_log stderr crit;\n\
         events {{ worker_connections 2000; }}\n\
         http {{ access_log off; open_file_cache max=10; types {{ application/json json; }} keepalive_requests 1000000000;\n\
         \x20 client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n\
         \x20 uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
         \x20 server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    );
    let path = home.path().join("nginx.conf");
    fs::write(&path, configuration).expect("a file");
    let mut command = pinned("nginx");
    command.args(["-e", "stderr", "-c"]).arg(path);
    server(command, port, "answer.json", home)
}

fn server(command: std::process::Command, port: u16, path: &str, home: TempDir) -> Server {
    let process = Process::serving(command, port);
    Server { url: format!("http://127.0.0.1:{port}/{path}"), process, _home: home }
}
