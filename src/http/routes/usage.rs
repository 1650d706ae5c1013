//! The operation on usage.

use super::Access::Token;
use super::Scope::AnalysesRead;
use super::route_table;
use crate::http::usage::{UsageDays, UsageReport};

route_table! { "usage":
    /// Get the usage by day
    ///
    /// Everything counts on the day, in UTC, on which it happened. Deleting a call does not change the numbers. They are kept
    /// for two years.
    ///
    /// With SQLite the numbers are exact. With PostgreSQL each replica writes its numbers every few seconds, so recent ones
    /// may be late, and a replica that crashes may lose or repeat that much.
    get "/v1/usage" => usage::get_usage, Token(AnalysesRead);
    {
        params(UsageDays),
        responses((status = 200, description = "The usage of each day.", body = UsageReport))
    }
}
