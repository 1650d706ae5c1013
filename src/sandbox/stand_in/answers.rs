//! The vendor's JSON answers, as documented and as changed by a [`Behaviour`].

use serde_json::{Value, json};
use url::Url;

use super::behaviour::Behaviour;
use super::dialogues::Party;
use super::talk::{Talk, hex_id};
use crate::domain::ids::CallId;

/// Builds the answers about one call.
pub(super) struct Answers<'a> {
    pub(super) call_id: &'a CallId,
    pub(super) behaviour: Behaviour,
    /// URL of a recording on another host.
    pub(super) foreign_audio: &'a Url,
}

impl Answers<'_> {
    /// Returns the answer to a submit. The `aicallid` of this answer differs from the `aicallid` of the result, as in the
    /// vendor's examples.
    pub(super) fn submitted(&self) -> Value {
        let mut answer = self.head("submit");
        change_numbers(&mut answer, self.behaviour);
        json!({ "answer": answer })
    }

    /// Returns the answer before the result is ready.
    pub(super) fn unfinished(&self) -> Value {
        match self.behaviour {
            Behaviour::NotReadyNull => json!({ "answer": null }),
            Behaviour::NotReadyMissing => json!({}),
            Behaviour::NotReadyString => json!({ "answer": "not ready" }),
            Behaviour::NotReadyEmpty => {
                let mut answer = self.head("result");
                answer["stalk"] = json!([]);
                answer["tags"] = json!([]);
                json!({ "answer": answer })
            }
            _ => json!({ "answer": self.head("result") }),
        }
    }

    /// Returns an answer with the result. `answers_before` is the number of earlier answers with the result.
    pub(super) fn finished(&self, answers_before: u32) -> Value {
        let talk = Talk::of(self.call_id);
        let mut stalk = stalk_of(&talk);
        let mut tags = tags_of(&talk);
        match self.behaviour {
            Behaviour::Silent => {
                stalk.clear();
                tags.clear();
            }
            Behaviour::TagsLate if answers_before == 0 => tags.clear(),
            Behaviour::TagsMore if answers_before == 0 => tags.truncate(1),
            Behaviour::TagsLost if answers_before > 0 => tags.clear(),
            Behaviour::TurnsLost if answers_before > 0 => stalk.truncate(1),
            Behaviour::Emptied if answers_before > 0 => {
                stalk.clear();
                tags.clear();
            }
            Behaviour::Changed if answers_before > 0 => stalk[0]["text"] = json!("alo eshitaman"),
            Behaviour::DirectionOther => change_directions(&mut stalk),
            Behaviour::Unordered => {
                stalk[1]["begin"] = stalk[0]["begin"].clone();
                stalk.reverse();
            }
            Behaviour::MissingFields => {
                remove_fields(&mut stalk, &["fragment_id", "begin", "end", "direction", "text"]);
                remove_fields(&mut tags, &["value", "tag_type", "visible", "name"]);
            }
            Behaviour::TagTypes => add_unknown_values(&mut stalk, &mut tags),
            _ => {}
        }
        let mut answer = self.head("result");
        answer["stalk"] = Value::Array(stalk);
        answer["tags"] = Value::Array(tags);
        if self.behaviour == Behaviour::TagTypes {
            answer["score"] = json!({ "total": 87.5 });
        }
        change_numbers(&mut answer, self.behaviour);
        json!({ "answer": answer })
    }

    fn head(&self, method: &str) -> Value {
        let stereoaudio = match self.behaviour {
            Behaviour::AudioElsewhere => self.foreign_audio.to_string(),
            _ => format!("/stereo/{}", self.call_id.path_segment()),
        };
        json!({
            "begin_time": Talk::of(self.call_id).begin_time,
            "aicallid": hex_id(self.call_id, method),
            "stereoaudio": stereoaudio,
        })
    }
}

fn stalk_of(talk: &Talk) -> Vec<Value> {
    let turns = talk.turns.iter().map(|turn| {
        json!({
            "begin": turn.begin_ms,
            "end": turn.end_ms,
            "direction": match turn.party { Party::Operator => "operator", Party::Client => "client" },
            "text": turn.text,
            "fragment_id": turn.fragment_id,
        })
    });
    turns.collect()
}

fn tags_of(talk: &Talk) -> Vec<Value> {
    let tags = talk.tags.iter().map(|tag| {
        let mut json = json!({ "name": tag.name, "value": tag.value, "visible": null, "tag_type": "rule" });
        if let Some((index, match_text)) = tag.location {
            let turn = &talk.turns[index];
            json["begin"] = json!(turn.begin_ms);
            json["end"] = json!(turn.end_ms);
            json["match_text"] = json!(match_text);
            json["fragment_id"] = json!(turn.fragment_id);
        }
        json
    });
    tags.collect()
}

/// Replaces numbers in an answer by strings of digits, if the behaviour requires it.
fn change_numbers(answer: &mut Value, behaviour: Behaviour) {
    match behaviour {
        Behaviour::BeginTimeString => quote(&mut answer["begin_time"]),
        Behaviour::NumbersAsStrings => quote(answer),
        _ => {}
    }
}

fn quote(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(quote),
        Value::Object(fields) => fields.values_mut().for_each(quote),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn change_directions(stalk: &mut [Value]) {
    for (turn, direction) in stalk.iter_mut().skip(1).zip([json!("robot"), json!(""), json!(null), json!(2)])
    {
        turn["direction"] = direction;
    }
}

/// Removes the first field from the first item, the second field from the second item, and so on.
fn remove_fields(items: &mut [Value], names: &[&str]) {
    for (item, name) in items.iter_mut().zip(names.iter().cycle()) {
        if let Some(fields) = item.as_object_mut() {
            fields.remove(*name);
        }
    }
}

fn add_unknown_values(stalk: &mut [Value], tags: &mut Vec<Value>) {
    for turn in stalk {
        turn["emotion"] = json!("neutral");
    }
    for (tag, value) in tags.iter_mut().zip([json!(3), json!(true), json!(null), json!(["a", { "b": 1 }])]) {
        tag["value"] = value;
        tag["weight"] = json!(0.5);
    }
    let kinds = ["neural", "", "script"]
        .map(|kind| json!({ "name": "Тон", "value": { "level": 2 }, "visible": true, "tag_type": kind }));
    tags.extend(kinds);
    tags.push(json!({ "name": "Без вида", "value": "", "visible": null, "tag_type": null }));
}
