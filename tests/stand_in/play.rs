//! A stand-in with a client, and short names for the answers that the client sees.

use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::sandbox::stand_in::{VendorOptions, VendorStandIn};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use url::Url;

pub(crate) struct Play {
    pub(crate) vendor: VendorStandIn,
    pub(crate) client: Client,
}

impl Play {
    pub(crate) async fn start() -> Self {
        Self::start_with(VendorOptions::default()).await
    }

    pub(crate) async fn start_with(options: VendorOptions) -> Self {
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { vendor: VendorStandIn::start(options).await.unwrap(), client }
    }

    pub(crate) fn url(&self, method: &str, call_id: &str) -> Url {
        self.vendor.base_url().join(&format!("{method}/{}/{call_id}", VendorOptions::TOKEN)).unwrap()
    }

    pub(crate) async fn get(&self, method: &str, call_id: &str) -> Response {
        self.client.get(self.url(method, call_id)).send().await.unwrap()
    }

    /// Submits a call and returns the form of the answer.
    pub(crate) async fn submit(&self, call_id: &str) -> String {
        form(self.client.get(self.url("callsendai", call_id)).send().await).await
    }

    /// Polls a call and returns the form of the answer.
    pub(crate) async fn poll(&self, call_id: &str) -> String {
        form(self.client.get(self.url("callgetairesult", call_id)).send().await).await
    }

    /// The member `answer` of a method's JSON.
    pub(crate) async fn answer(&self, method: &str, call_id: &str) -> Value {
        let body = self.get(method, call_id).await.bytes().await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["answer"].take()
    }

    /// The member `answer` of a known result.
    pub(crate) async fn finished(&self, call_id: &str) -> Value {
        self.answer("callgetairesult", &format!("known-{call_id}")).await
    }

    /// Opens a connection and writes a request to it.
    pub(crate) async fn raw(&self, method: &str, call_id: &str) -> TcpStream {
        let base = self.vendor.base_url();
        let mut stream = TcpStream::connect(base.socket_addrs(|| None).unwrap()[0]).await.unwrap();
        let path = self.url(method, call_id).path().to_owned();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: vendor\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }
}

pub(crate) fn id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

/// Describes an answer in a few words.
async fn form(sent: reqwest::Result<Response>) -> String {
    let Ok(response) = sent else { return "reset".to_owned() };
    let status = response.status().as_u16();
    let retry_after = if response.headers().contains_key("retry-after") { " retry-after" } else { "" };
    let is_html =
        response.headers().get("content-type").is_some_and(|kind| kind.to_str().unwrap().contains("html"));
    let Ok(body) = response.bytes().await else { return format!("{status} cut short") };
    let content = match serde_json::from_slice::<Value>(&body) {
        _ if body.is_empty() => "nothing",
        _ if is_html => "html",
        Ok(json) => content_of(&json),
        Err(_) => "garbage",
    };
    format!("{status} {content}{retry_after}")
}

fn content_of(json: &Value) -> &'static str {
    let is_empty = |name: &str| json["answer"][name] == serde_json::json!([]);
    match json.get("answer") {
        None if json.get("error").is_some() => "error",
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::String(_)) => "string",
        Some(answer) if answer.get("stalk").is_none() => "head",
        Some(_) if is_empty("stalk") && is_empty("tags") => "empty",
        Some(_) if is_empty("tags") => "untagged",
        Some(_) => "finished",
    }
}
