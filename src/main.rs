//! The program: parses the arguments, runs a command of the library and returns the exit code.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use alovoice_gateway::commands::{self, Cli, Failed};
use clap::Parser;
use tokio::runtime::Runtime;

/// Maximum time for which the process waits for its threads before it ends. All work has ended by then, but a name lookup may
/// still run: it cannot be cancelled, and takes minutes if the name servers do not answer.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(Failed::Fault(format!("cannot start the runtime: {error}")))),
    };
    let result = runtime.block_on(commands::run(Cli::parse()));
    runtime.shutdown_timeout(LOOKUP_PATIENCE);
    report(result)
}

/// Prints the reason of a failure, and returns the exit code.
fn report(result: Result<(), Failed>) -> ExitCode {
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::Fault(text)) => (text, 1),
        Err(Failed::Usage(text)) => (text, 2),
    };
    // If standard error is closed, the exit code still reports the failure.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
