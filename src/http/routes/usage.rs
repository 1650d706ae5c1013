//! The operation on usage.

use super::route_table;
use crate::auth::Scope::AnalysesRead;
use crate::http::operations::Access::Token;
use crate::http::usage::{UsageDays, UsageReport};

route_table! { "usage":
    /// Get the usage by day
    ///
    /// Each count covers one day in UTC. Deleting a call does not change the counts. The gateway keeps the counts for two
    /// years.
    ///
    /// With `group_by`, the answer also has the usage of the period by agent or by queue. The answer has at most 1,000 agents
    /// or queues: those with the most submissions.
    ///
    /// With SQLite the counts are exact. With PostgreSQL each replica adds its counts to the database every few seconds. The
    /// latest counts may be missing, and a replica that crashes may lose or repeat a few seconds of counts.
    get "/v1/usage" => usage::get_usage, Token(AnalysesRead);
    {
        params(UsageDays),
        responses((status = 200, description = "The usage of each day.", body = UsageReport))
    }
}
