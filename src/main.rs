//! The program: parses the arguments, runs a command of the library and returns the exit code.

use std::io::Write;
use std::process::ExitCode;

use alovoice_gateway::commands::{self, Cli, Failed};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let (text, code) = match commands::run(Cli::parse()).await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::Fault(text)) => (text, 1),
        Err(Failed::Usage(text)) => (text, 2),
    };
    // If standard error is closed, the exit code still reports the failure.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
