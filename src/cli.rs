//! The commands and their arguments. What they do is wired elsewhere; wrong usage ends here with exit code 2.

mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::store::{CopyArgs, ResealArgs, StoreCommand, UrlText};
use crate::config::units::{HumanDuration, InvalidDuration};
use crate::domain::ids::TenantId;

macro_rules! settings_help {
    () => {
        "\
Settings:
  Each key can be given, or overridden, by an environment variable: GATEWAY_ and
  the key's levels, parted by two underscores.
    GATEWAY_STORE__URL                      url in [store]
    GATEWAY_AUTH__ISSUERS__0__JWKS_URL      jwks_url of the first issuer
    GATEWAY_TENANTS__ACME__VENDOR_TOKEN_ENV vendor_token_env in [tenants.acme]

Exit codes:
  0  success
  1  a fault at run time
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

/// One REST API in front of AloVoice speech analytics: submit a call once, know when its analysis is ready, get it clean.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "alovoice-gateway", version, propagate_version = true, after_help = SETTINGS_HELP)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the gateway can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM or Ctrl-C, then drain.
    ///
    /// On SIGTERM the gateway says at /readyz that it is not ready, finishes the requests under way, gives its leases back and
    /// exits with 0, all within `server.shutdown_grace`.
    #[command(after_help = SETTINGS_HELP)]
    Serve(ConfigArgs),

    /// Try everything on this machine, without settings or accounts.
    ///
    /// Runs gateway, vendor stand-in and a development issuer in one process. Prints the Swagger UI's address, a token and curl lines
    /// that work as they are. Not for production: its tokens and its vendor are made up.
    Sandbox(SandboxArgs),

    /// Mint a development token, signed by an HMAC issuer of the settings.
    ///
    /// Prints the token and nothing else, so that it can be used in place.
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),

    /// Print the OpenAPI document of the API.
    Openapi,

    /// Say everything that is wrong with the settings, the secrets, the store and the issuers.
    ///
    /// Changes nothing. Exits with 0 if `serve` would start, with 2 if the settings are wrong.
    #[command(after_help = SETTINGS_HELP)]
    Check(ConfigArgs),

    /// Ask the gateway that runs here with the same settings whether it is alive.
    ///
    /// For health checks where there is no shell and no curl: asks /livez at `server.admin_listen` and exits with 0 if it answers 200
    /// within two seconds, with 1 if not.
    #[command(after_help = SETTINGS_HELP)]
    Health(ConfigArgs),

    /// Do something to a whole store.
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCommand),
}

/// Where the settings are.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// The settings, a TOML file; without it the environment and the defaults alone count.
    #[arg(long, value_name = "FILE", env = "GATEWAY_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Arguments of `sandbox`. With port 0 the system picks a free port.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SandboxArgs {
    /// The API's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The address of metrics and probes.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,

    /// The vendor stand-in's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub vendor_listen: SocketAddr,

    /// Where to keep the data between runs; without it they go when the sandbox ends.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Arguments of `token`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TokenArgs {
    /// The tenant that the token is for.
    #[arg(long, value_name = "TENANT", value_parser = TenantId::parse)]
    pub tenant: TenantId,

    /// The scopes, parted by spaces: analyses:read, analyses:write, audio:read, webhooks:manage.
    #[arg(long, value_name = "SCOPES")]
    pub scope: String,

    /// Who the token says is calling.
    #[arg(long, value_name = "SUBJECT", default_value = "development")]
    pub subject: String,

    /// How long the token holds, such as 15m or 8h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    pub expires_in: Duration,

    /// Which issuer signs; needed only if the settings have several with an HMAC secret.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,

    /// Where the settings are.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Why a token cannot hold that long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidLifetime {
    #[error(transparent)]
    Syntax(#[from] InvalidDuration),
    /// A token's times are whole seconds, and a development token has no business living for years.
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
    use super::*;
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let arguments = std::iter::once("alovoice-gateway").chain(line.split_whitespace());
        Cli::try_parse_from(arguments).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_holds_together() {
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
        assert_eq!(sandbox.data_dir, None);
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
            "openapi now",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
        assert_eq!(parse("--version").unwrap_err().exit_code(), 0);
        assert_eq!(parse("help token").unwrap_err().exit_code(), 0);
    }
}
