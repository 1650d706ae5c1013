//! The commands on a store.

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
  0  the database holds what the file holds
  1  a fault at run time, or a difference; the same command goes on where it stopped
  2  wrong usage";

const RESEAL_HELP: &str = "\
Example, when each gateway has the file with the new key before the old one:
  alovoice-gateway store reseal --config gateway.toml && alovoice-gateway store reseal --check --config gateway.toml

Exit codes:
  0  the first key sealed everything: the others can be taken out of the file
  1  another key sealed something still (--check), none opens something, or a fault at run time
  2  wrong usage or settings";

/// What can be done to a store.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum StoreCommand {
    /// Copy everything from a SQLite file to a PostgreSQL server: the way from one machine to many.
    ///
    /// Stop the gateway first. The database must be empty, or hold what an interrupted copy of the same file left: then it goes on
    /// from there. At the end both sides are read again and compared, row by row; only then may gateways start on the database, and
    /// none on the file any more. Nothing is deleted from the file; if an older version wrote it, its schema is brought up to date.
    #[command(after_help = COPY_HELP)]
    Copy(CopyArgs),

    /// Seal with the first key of `encryption.key_file` what the others sealed: so that those can be retired.
    ///
    /// Works beside running gateways, once each of them has taken up the new first key. Secrets and headers of webhooks and kept
    /// answers are sealed anew, a few at a time; what is changed meanwhile is taken again. What none of the keys opens is
    /// named and stays as it is. Interrupted, it goes on when it is run again.
    #[command(after_help = RESEAL_HELP)]
    Reseal(ResealArgs),
}

/// Arguments of `store reseal`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ResealArgs {
    /// Change nothing: tell which keys sealed what.
    #[arg(long)]
    pub check: bool,

    /// Where the settings are.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Arguments of `store copy`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CopyArgs {
    /// The file: sqlite://relative/path or sqlite:///absolute/path.
    #[arg(long, value_name = "URL")]
    pub from: UrlText,

    /// The database: postgres://user@host:5432/database, with sslmode and so on as in `store.url`.
    #[arg(long, value_name = "URL")]
    pub to: UrlText,

    /// A file with the database's password. Other users of this machine can read one in the URL.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Copy nothing: compare what is there.
    ///
    /// Only a database that no gateway has worked on since can be what the file is.
    #[arg(long)]
    pub verify_only: bool,
}

/// A URL as it was given, which may hold a password: neither shown nor judged here, for clap repeats what it refuses.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlText(String);

impl UrlText {
    /// The store that it names.
    ///
    /// # Errors
    /// If it names none; without the text.
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
    fn a_password_in_a_url_is_not_shown() {
        let line = "store copy --from sqlite://x.db --to postgres://gateway:hunter2@db/gateway";
        let parse =
            |line: &str| Cli::try_parse_from(std::iter::once("alovoice-gateway").chain(line.split(' ')));
        let command = parse(line).unwrap();
        assert!(!format!("{command:?}").contains("hunter2"));
        let refused = parse(&format!("{line} --verify")).unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
