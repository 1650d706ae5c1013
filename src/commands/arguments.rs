//! Command-line arguments, parsed by clap. A wrong argument ends the program with exit code 2.

mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(super) use self::store::{CopyArgs, StoreCommand, UrlText};
use crate::config::units::{HumanDuration, InvalidDuration};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::ids::TenantId;

macro_rules! settings_help {
    () => {
        "\
Settings:
  An environment variable sets or overrides each key of the file. Its name is
  GATEWAY_ and the levels of the key, separated by two underscores.
    GATEWAY_STORE__URL                      url in [store]
    GATEWAY_AUTH__ISSUERS__0__JWKS_URL      jwks_url of the first issuer
    GATEWAY_TENANTS__ACME__VENDOR_TOKEN_ENV vendor_token_env in [tenants.acme]

Exit codes:
  0  success
  1  an error at run time
  2  wrong usage or settings"
    };
}

const SETTINGS_HELP: &str = settings_help!();
const TOKEN_HELP: &str = concat!(
    "\
Example:
  curl -H \"Authorization: Bearer $(alovoice-gateway token --tenant acme --scope analyses:read)\" \\
    http://127.0.0.1:8080/v1/analyses/1716207617.42

",
    settings_help!()
);

/// REST API in front of AloVoice speech analytics: submits each call once, announces the finished analysis and serves it.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "alovoice-gateway", version, propagate_version = true, after_help = SETTINGS_HELP)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the program.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM or Ctrl-C, then drain.
    ///
    /// On SIGTERM, /readyz reports that the gateway is not ready. The gateway finishes the requests in flight, releases its
    /// leases and exits with 0, within `server.shutdown_grace`.
    #[command(after_help = SETTINGS_HELP)]
    Serve(ConfigArgs),

    /// Run a gateway for trials on this machine, without settings or accounts.
    ///
    /// One process runs the gateway, a stand-in for AloVoice, a development issuer and a receiver of callbacks. The command
    /// prints the address of the Swagger UI, a token and curl commands. Do not use it in production: its analyses are not real.
    Sandbox(SandboxArgs),

    /// Create a development token, signed with the secret of an HMAC issuer in the settings.
    ///
    /// Prints only the token, so that a shell can insert it into another command.
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),

    /// Print the OpenAPI document.
    Openapi,

    /// Check the settings, the secrets, the store and the keys of the issuers.
    ///
    /// Reports all problems at once and changes nothing. Exits with 0 if `serve` would start, with 2 if settings or files
    /// are wrong, and with 1 if there are only other problems, such as an unreachable store or issuer.
    ///
    /// With --token, the command instead explains step by step whether the gateway would accept a token and which operations
    /// the token allows. It does not print the token. Exits with 0 if the token would be accepted, with 1 if not.
    #[command(after_help = SETTINGS_HELP)]
    Check(CheckArgs),

    /// Check whether the gateway with these settings is alive on this machine.
    ///
    /// This command is for health checks in images without a shell or curl. It requests /livez at
    /// `server.admin_listen`, and exits with 0 if the answer is 200 within two seconds, else with 1.
    #[command(after_help = SETTINGS_HELP)]
    Health(ConfigArgs),

    /// Copy a store, encrypt its secrets with a new key, or confirm its clock.
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCommand),
}

/// Location of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// TOML file with the settings. Without it, only environment variables and defaults apply.
    #[arg(long, value_name = "FILE", env = "GATEWAY_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckArgs {
    /// File with a token to explain, or - for standard input.
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,

    /// Location of the settings.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Arguments of `sandbox`. With port 0 the operating system chooses a free port.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SandboxArgs {
    /// Address of the API.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Address of metrics and probes.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,

    /// Address of the stand-in for AloVoice.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub vendor_listen: SocketAddr,

    /// Directory for the data. Without it, the sandbox deletes its data at the end.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Also deliver every event to your own receiver.
    ///
    /// The receiver gets the requests of a webhook, signed with the secret that the sandbox prints as FORWARD_SECRET. The
    /// receiver may be on this machine or in a private network. The sandbox prints a line for each attempt.
    #[arg(long, value_name = "URL", value_parser = CallbackUrl::parse)]
    pub forward_to: Option<CallbackUrl>,
}

/// Arguments of `token`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TokenArgs {
    /// Tenant of the token.
    #[arg(long, value_name = "TENANT", value_parser = TenantId::parse)]
    pub tenant: TenantId,

    /// Scopes, separated by spaces: analyses:read, analyses:write, audio:read, webhooks:manage.
    #[arg(long, value_name = "SCOPES")]
    pub scope: String,

    /// Subject of the token (`sub`).
    #[arg(long, value_name = "SUBJECT", default_value = "development")]
    pub subject: String,

    /// Lifetime of the token, such as 15m or 8h. At most 365d.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    pub expires_in: Duration,

    /// Issuer of the token. Needed only if several issuers in the settings have an HMAC secret.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,

    /// Location of the settings.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Reason why a lifetime of a token is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidLifetime {
    #[error(transparent)]
    Syntax(#[from] InvalidDuration),
    /// The lifetime is shorter than a second or longer than 365 days. Times in a token are whole seconds, and a development token
    /// should not live for years.
    #[error("must be from 1s to 365d")]
    OutOfBounds,
}

fn lifetime(text: &str) -> Result<Duration, InvalidLifetime> {
    let HumanDuration(duration) = text.parse()?;
    let bounds = Duration::from_secs(1)..=Duration::from_hours(365 * 24);
    if bounds.contains(&duration) { Ok(duration) } else { Err(InvalidLifetime::OutOfBounds) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let arguments = std::iter::once("alovoice-gateway").chain(line.split_whitespace());
        Cli::try_parse_from(arguments).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_of_the_arguments_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_their_defaults() {
        let config = Some(PathBuf::from("gateway.toml"));
        assert_eq!(parse("openapi").unwrap(), Command::Openapi);
        assert_eq!(
            parse("serve --config gateway.toml").unwrap(),
            Command::Serve(ConfigArgs { config: config.clone() })
        );
        assert_eq!(parse("health --config gateway.toml").unwrap(), Command::Health(ConfigArgs { config }));
        let Command::Sandbox(sandbox) = parse("sandbox --listen [::1]:0").unwrap() else { panic!() };
        assert_eq!(sandbox.listen, "[::1]:0".parse().unwrap());
        assert_eq!(sandbox.vendor_listen, "127.0.0.1:8081".parse().unwrap());
        assert_eq!((sandbox.data_dir, sandbox.forward_to), (None, None));
        let Command::Sandbox(sandbox) = parse("sandbox --forward-to http://localhost:3000/hook").unwrap()
        else {
            panic!()
        };
        assert_eq!(sandbox.forward_to.unwrap().as_str(), "http://localhost:3000/hook");
    }

    #[test]
    fn a_token_needs_a_tenant_and_scopes() {
        let Command::Token(token) = parse("token --tenant acme --scope analyses:read").unwrap() else {
            panic!()
        };
        assert_eq!(token.tenant.as_str(), "acme");
        assert_eq!((token.expires_in, token.issuer), (Duration::from_hours(1), None));
        for (line, kind) in [
            ("token --tenant acme", ErrorKind::MissingRequiredArgument),
            ("token --tenant a/b --scope x", ErrorKind::ValueValidation),
            ("token --tenant acme --scope x --expires-in 0s", ErrorKind::ValueValidation),
            ("token --tenant acme --scope x --expires-in 1y", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        for line in [
            "",
            "run",
            "store",
            "store copy --from sqlite://x",
            "serve --confg x",
            "sandbox --listen here",
            "sandbox --forward-to localhost:3000",
            "openapi now",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
        assert_eq!(parse("--version").unwrap_err().exit_code(), 0);
        assert_eq!(parse("help token").unwrap_err().exit_code(), 0);
    }
}
