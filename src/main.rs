//! The program: arguments in, exit code out. Everything else is the library's.

use std::io::Write;
use std::process::ExitCode;

use alovoice_gateway::cli::Cli;
use alovoice_gateway::commands::{self, Failed};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let (text, code) = match commands::run(Cli::parse()).await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::Fault(text)) => (text, 1),
        Err(Failed::Usage(text)) => (text, 2),
    };
    // An error is ignored: if standard error is closed, there is no other place to report it.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
