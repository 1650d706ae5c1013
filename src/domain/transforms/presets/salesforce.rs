//! Salesforce: a completed task of the type call.

use serde_json::{Map, json};

use super::call_view::CallView;
use super::summary::{plain, text};
use super::{DeliveryMethod, Preset, Rendering, answers, optional};

pub(super) static TASK: Preset = Preset {
    name: "salesforce.task",
    description: "a completed task, for POST /services/data/v62.0/sobjects/Task",
    url: "https://example.my.salesforce.com/services/data/v62.0/sobjects/Task",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[
        optional("salesforce_who_id", "the id of the contact or lead"),
        optional("salesforce_what_id", "the id of the account, opportunity or case"),
        optional("salesforce_owner_id", "the id of the user who owns the task"),
        optional("direction", "inbound or outbound"),
    ],
    limits: "The description is shortened to 32,000 characters. The duration is in whole seconds. A repeat adds the task again.",
    unverified: Some(
        "Whether CallType and CallDurationInSeconds can be set without Salesforce CRM Call Center, to which they belong.",
    ),
    documentation: "https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_task.htm",
    rate: None,
    judge: answers::by_status,
    render: task,
};

fn task(view: &mut CallView<'_>) -> Rendering {
    let mut task = Map::new();
    task.insert("Subject".to_owned(), json!(format!("Call {}", view.call_id())));
    task.insert("Status".to_owned(), json!("Completed"));
    task.insert("TaskSubtype".to_owned(), json!("Call"));
    task.insert("CallDurationInSeconds".to_owned(), json!(view.duration_s()));
    task.insert("Description".to_owned(), json!(text(view, &plain(32_000))));
    if let Some(direction) = view.word("direction", &["inbound", "outbound"]) {
        task.insert(
            "CallType".to_owned(),
            json!(if direction == "inbound" { "Inbound" } else { "Outbound" }),
        );
    }
    for (field, name) in
        [("WhoId", "salesforce_who_id"), ("WhatId", "salesforce_what_id"), ("OwnerId", "salesforce_owner_id")]
    {
        if let Some(id) = view.value(name) {
            task.insert(field.to_owned(), json!(id));
        }
    }
    if let Some(begin_time) = view.begin_time() {
        let date = begin_time.to_string().chars().take(10).collect::<String>();
        task.insert("ActivityDate".to_owned(), json!(date));
    }
    Rendering::Json(task.into())
}
