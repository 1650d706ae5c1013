//! Arguments of the `store` commands.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::ConfigArgs;
use crate::config::{InvalidStoreUrl, StoreUrl};

const COPY_HELP: &str = "\
Example:
  alovoice-gateway store copy --from sqlite://alovoice-gateway.db \\
    --to postgres://gateway@db.internal/gateway?sslmode=verify-full --password-file /run/secrets/db

Exit codes:
  0  file and database are identical
  1  an error at run time, or a difference; run the same command again to resume the copy
  2  wrong usage";

const RESEAL_HELP: &str = "\
Example, after each gateway has loaded a key file that has the new key before the old one:
  alovoice-gateway store reseal --config gateway.toml && alovoice-gateway store reseal --check --config gateway.toml

Exit codes:
  0  every record is encrypted with the first key: you can remove the other keys from the file
  1  some records need another key (--check), no configured key decrypts a record, or an error at run time
  2  wrong usage or settings";

const CONFIRM_CLOCK_HELP: &str = "\
Example, on a machine whose clock is right:
  date -u && alovoice-gateway store confirm-clock --config gateway.toml

Exit codes:
  0  the time is confirmed
  1  an error at run time, or no gateway has used the store yet
  2  wrong usage or settings";

/// Commands on a whole store.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum StoreCommand {
    /// Copy a SQLite file to a PostgreSQL database, to move from one machine to several.
    ///
    /// Stop the gateway first. The database must be empty, or contain an interrupted copy of the same file, which is
    /// then resumed. At the end the command compares file and database row by row. After that, gateways start on the
    /// database but not on the file. The command deletes nothing from the file, but it migrates the schema if an
    /// older version wrote the file.
    #[command(after_help = COPY_HELP)]
    Copy(CopyArgs),

    /// Encrypt all stored secrets again with the first key of `encryption.key_file`, so that you can remove the other
    /// keys.
    ///
    /// Gateways may run at the same time if each of them has already loaded the new first key. The command encrypts the secrets,
    /// headers and URLs of webhooks, the URLs of callbacks, and the stored answers, in small batches. If a record changes at the
    /// same time, the command tries again. The command lists the records that no configured key decrypts, and does not change
    /// them. After an interruption, run the command again.
    #[command(after_help = RESEAL_HELP)]
    Reseal(ResealArgs),

    /// Confirm that the clock of this machine is right, after the gateway has reported `clock in doubt`.
    ///
    /// Each gateway that uses the store then accepts this time at once, and retention continues. The clock that the gateway
    /// follows must show the same time: the clock of its machine, or with PostgreSQL the clock of the database server. The
    /// confirmation is valid for 15 minutes.
    #[command(name = "confirm-clock", after_help = CONFIRM_CLOCK_HELP)]
    ConfirmClock(ConfigArgs),
}

/// Arguments of `store reseal`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ResealArgs {
    /// Change nothing; only report which keys are in use.
    #[arg(long)]
    pub check: bool,

    /// Location of the settings.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Arguments of `store copy`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CopyArgs {
    /// SQLite file: sqlite://relative/path or sqlite:///absolute/path.
    #[arg(long, value_name = "URL")]
    pub from: UrlText,

    /// PostgreSQL database: postgres://user@host:5432/database, with the same parameters as `store.url`.
    #[arg(long, value_name = "URL")]
    pub to: UrlText,

    /// File with the password of the database. Other users of this machine can see a password in the URL.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Copy nothing; only compare file and database.
    ///
    /// File and database are identical only until a gateway starts on the database.
    #[arg(long)]
    pub verify_only: bool,
}

/// Unparsed URL, which may hold a password. Clap must not parse it, because its error messages repeat invalid values.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlText(String);

impl UrlText {
    /// Parses the URL.
    ///
    /// # Errors
    /// Returns an error if the URL is invalid. The error does not contain the URL.
    pub fn parse(&self) -> Result<StoreUrl, InvalidStoreUrl> {
        self.0.parse()
    }
}

impl FromStr for UrlText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for UrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UrlText(…)")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;

    #[test]
    fn a_password_in_a_url_appears_in_no_output() {
        let line = "store copy --from sqlite://x.db --to postgres://gateway:hunter2@db/gateway";
        let parse =
            |line: &str| Cli::try_parse_from(std::iter::once("alovoice-gateway").chain(line.split(' ')));
        let command = parse(line).unwrap();
        assert!(!format!("{command:?}").contains("hunter2"));
        let refused = parse(&format!("{line} --verify")).unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
