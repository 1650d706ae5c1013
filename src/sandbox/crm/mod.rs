//! Stand-ins for CRMs and help desks. They check requests by the documented rules of each receiver, keep the entries that the
//! requests add, and answer like the receiver.
//!
//! The paths are those of the receivers below `/crm/{name}/`, for example `/crm/zendesk/api/v2/tickets/1`. The stand-ins share
//! no code with the presets, so that the stand-ins detect a mistake in a preset.

mod amocrm;
mod bitrix24;
mod hubspot;
mod jira;
mod zendesk;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use self::bitrix24::LeakyBucket;
use super::receiver::Received;

/// An entry in the card of a call, a contact or a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrmEntry {
    /// Name of the stand-in, such as `zendesk`.
    pub crm: &'static str,
    /// The id of the card, for example the number of a ticket.
    pub card: String,
    /// Text of the entry.
    pub text: String,
}

/// The stand-ins of all CRMs, with the entries that they received.
#[derive(Debug, Default)]
pub struct CrmStandIns {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<CrmEntry>,
    bitrix24: LeakyBucket,
    /// The ids of the calls that Bitrix24 has already reported as unfinished. Bitrix24 does so once for each call.
    unfinished: Vec<String>,
}

/// A request to a stand-in.
struct CrmRequest<'a> {
    method: &'a str,
    /// Segments of the path after `/crm/{name}`, as they were sent.
    path: Vec<&'a str>,
    body: Value,
    is_authorized: bool,
    received: &'a Received,
}

/// Status and JSON body of an answer.
type CrmAnswer = (u16, Value);

impl CrmStandIns {
    /// Beginning of the paths of all stand-ins.
    pub const PATH: &str = "/crm/";
    /// Maximum number of entries that are kept. Newer entries replace the oldest ones.
    const MAX_ENTRIES: usize = 10_000;

    /// Answers a request, if its path belongs to a stand-in.
    pub fn answer(&self, received: &Received) -> Option<(u16, String)> {
        let (name, path) = received.path.strip_prefix(Self::PATH)?.split_once('/')?;
        let request = CrmRequest {
            method: &received.method,
            path: path.split('/').collect(),
            body: serde_json::from_slice(&received.body).unwrap_or_default(),
            is_authorized: received.header("authorization").is_some_and(|value| !value.trim().is_empty()),
            received,
        };
        let mut state = self.state();
        let answer = match name {
            "bitrix24" => bitrix24::answer(&request, &mut state),
            "amocrm" => amocrm::answer(&request, &mut state.entries),
            "zendesk" => zendesk::answer(&request, &mut state.entries),
            "jira" => jira::answer(&request, &mut state.entries),
            "hubspot" => hubspot::answer(&request, &mut state.entries),
            _ => return None,
        };
        let surplus = state.entries.len().saturating_sub(Self::MAX_ENTRIES);
        state.entries.drain(..surplus);
        let (status, body) = answer.unwrap_or_else(|refusal| refusal);
        Some((status, body.to_string()))
    }

    /// Returns the entries so far, in the order of their requests.
    pub fn entries(&self) -> Vec<CrmEntry> {
        self.state().entries.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CrmRequest<'_> {
    /// Checks that the request has credentials.
    fn authorized(&self) -> Result<(), CrmAnswer> {
        if self.is_authorized { Ok(()) } else { Err((401, json!({"title": "Unauthorized", "status": 401}))) }
    }
}

/// Returns a text that is not empty.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.trim().is_empty())
}

/// Returns a whole number that is not negative.
fn count(value: &Value) -> Option<u64> {
    value.as_u64()
}
