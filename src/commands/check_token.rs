//! `check --token`: explains step by step whether the gateway would accept a token.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Failed, print};
use crate::auth::{Caller, Refresh, RefreshOutcome, Scope, TokenCheck, Verifier, bearer};
use crate::config::Settings;
use crate::domain::clock::SystemClock;
use crate::domain::ids::TenantId;
use crate::http::operations::Access;
use crate::http::routes::operations;
use crate::http_client::Network;

/// Maximum number of bytes that are read. A token has at most 8 KiB.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) async fn run(settings: &Settings, file: &Path) -> Result<(), Failed> {
    let text =
        read(file).map_err(|error| Failed::usage(format!("cannot read {}: {error}", file.display())))?;
    let faults = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&faults);
    let observer = move |refresh: &Refresh| {
        if let RefreshOutcome::Failed(error) = &refresh.outcome
            && let Ok(mut faults) = sink.lock()
        {
            faults.push(error.to_string());
        }
    };
    let network = Network::new(&settings.network).map_err(Failed::usage)?;
    let verifier =
        Verifier::new(&settings.auth, &network, Arc::new(SystemClock), observer).map_err(Failed::usage)?;
    let authorization = with_scheme(&text);
    let token = bearer([authorization.as_bytes()]).map_err(refused)?;
    for step in verifier.explain(token).await {
        print_step(&step)?;
    }
    for fault in faults.lock().iter().flat_map(|faults| faults.iter()) {
        print(&format!("        keys       {fault}"))?;
    }
    let caller = verifier.verify(token).await.map_err(refused)?;
    authorize(settings, &caller)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(MAX_BYTES).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Returns the value of an `Authorization` header with the token. `text` is the token alone, the value of the header,
/// or the whole header line.
fn with_scheme(text: &str) -> String {
    // An editor may begin the file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = match text.split_once(':') {
        Some((name, value)) if name.trim_end().eq_ignore_ascii_case("authorization") => value.trim(),
        _ => text,
    };
    match text.split_once(char::is_whitespace) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => format!("Bearer {}", token.trim()),
        _ => format!("Bearer {text}"),
    }
}

/// Checks the tenant and the scopes of a verified token, and prints the operations that the scopes allow.
fn authorize(settings: &Settings, caller: &Caller) -> Result<(), Failed> {
    let is_configured = settings.tenants.contains_key(&caller.tenant);
    let known: Vec<_> = settings.tenants.keys().map(TenantId::as_str).collect();
    let detail = if is_configured {
        format!("{} is configured", caller.tenant)
    } else {
        format!("{} is not configured; the settings have {}", caller.tenant, known.join(", "))
    };
    print_step(&TokenCheck { name: "configured", passed: is_configured, detail })?;
    let (granted, missing): (Vec<_>, Vec<_>) =
        Scope::ALL.into_iter().partition(|scope| caller.scopes.contains(scope.as_str()));
    for scope in &granted {
        print_step(&TokenCheck { name: "allows", passed: true, detail: operations_of(*scope) })?;
    }
    for scope in &missing {
        print(&format!("-       lacks      {}", operations_of(*scope)))?;
    }
    match (is_configured, granted.is_empty()) {
        (false, _) => Err(refused("its tenant is not configured (403 unknown_tenant)")),
        (true, true) => Err(refused("it has no scope of this API (403 insufficient_scope)")),
        (true, false) => print("the token would be accepted"),
    }
}

/// Describes a scope by the operations that need it.
fn operations_of(scope: Scope) -> String {
    let needing = operations().filter(|operation| operation.access == Access::Token(scope));
    let names: Vec<_> = needing.map(|operation| operation.id).collect();
    format!("{}: {}", scope.as_str(), names.join(", "))
}

fn print_step(step: &TokenCheck) -> Result<(), Failed> {
    let verdict = if step.passed { "ok" } else { "FAILED" };
    print(&format!("{verdict:<7} {:<10} {}", step.name, step.detail))
}

fn refused(reason: impl std::fmt::Display) -> Failed {
    Failed::fault(format!("the token would be refused: {reason}"))
}
