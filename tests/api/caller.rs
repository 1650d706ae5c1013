//! A caller of the API, and what it is answered.

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Client, Method};
use serde_json::Value;
use url::Url;

use crate::contract;

#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) http: Client,
    pub(crate) api: Url,
    pub(crate) authorization: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Caller {
    pub(crate) fn new(http: Client, api: Url, token: &str) -> Self {
        Self { http, api, authorization: Some(format!("Bearer {token}")) }
    }

    /// The same without a token.
    pub(crate) fn anonymous(&self) -> Self {
        Self { authorization: None, ..self.clone() }
    }

    /// The same with this `Authorization`.
    pub(crate) fn presenting(&self, authorization: &str) -> Self {
        Self { authorization: Some(authorization.to_owned()), ..self.clone() }
    }

    /// Any request; `path` may have a query.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = self.api.join(path).unwrap();
        let route = url.path().to_owned();
        let mut request = self.http.request(method.clone(), url).body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, body: response.bytes().await.unwrap() };
        contract::check(&method, &route, &answer);
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    /// A JSON body, whatever the outcome.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[(CONTENT_TYPE.as_str(), "application/json")], body.to_string()).await
    }

    /// A JSON body, whatever the outcome.
    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, &[(CONTENT_TYPE.as_str(), "application/json")], body.to_string()).await
    }

    pub(crate) async fn analysis(&self, call_id: &str) -> Answer {
        self.get(&format!("/v1/analyses/{call_id}")).await
    }

    pub(crate) async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
        self.send(Method::POST, "/v1/analyses", headers, body).await
    }

    /// Whatever the outcome.
    pub(crate) async fn submit(&self, submission: Value) -> Answer {
        self.post_with(&[(CONTENT_TYPE.as_str(), "application/json")], submission.to_string()).await
    }

    /// A submission that is taken, and has an outcome to come.
    pub(crate) async fn submitted(&self, submission: Value) -> Value {
        let answer = self.submit(submission).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    }

    /// Waits for the outcome.
    pub(crate) async fn outcome(&self, call_id: &str) -> Value {
        let path = format!("/v1/analyses/{call_id}");
        let analysis = self.get_with(&path, &[("prefer", "wait=60")]).await.json();
        assert!(
            analysis["status"] == "completed" || analysis["status"] == "failed",
            "there is an outcome: {analysis}"
        );
        analysis
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The one header of this name.
    pub(crate) fn header(&self, name: &'static str) -> &str {
        let mut values = self.headers.get_all(HeaderName::from_static(name)).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            panic!("there is one {name} in {:?}", self.headers)
        };
        value.to_str().unwrap()
    }

    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.headers.contains_key(name)
    }

    /// A problem of this kind, with all that every problem has; the whole body.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["type"], format!("/problems/{code}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for text in ["title", "detail"] {
            assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {problem}");
        }
        problem
    }

    /// The pointers of a problem's `errors`.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let errors = self.problem(422, "invalid_request")["errors"].take();
        errors.as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}
