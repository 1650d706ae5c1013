//! A caller of the API and the responses it gets.

use std::io::Read;
use std::time::Instant;

use bytes::Bytes;
use flate2::read::GzDecoder;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Client, Method};
use serde_json::Value;
use url::Url;

use crate::contract;
use crate::patience::PATIENCE;

#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) http: Client,
    pub(crate) api: Url,
    pub(crate) authorization: Option<String>,
    /// Whether the caller repeats a request that was answered with 503.
    retries: bool,
}

/// A complete HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Caller {
    pub(crate) fn new(http: Client, api: Url, token: &str) -> Self {
        Self { http, api, authorization: Some(format!("Bearer {token}")), retries: true }
    }

    /// The same caller without a token.
    pub(crate) fn anonymous(&self) -> Self {
        Self { authorization: None, ..self.clone() }
    }

    /// The same caller with this `Authorization` header.
    pub(crate) fn presenting(&self, authorization: &str) -> Self {
        Self { authorization: Some(authorization.to_owned()), ..self.clone() }
    }

    /// The same caller, which does not repeat requests that are answered with 503.
    pub(crate) fn without_retries(&self) -> Self {
        Self { retries: false, ..self.clone() }
    }

    /// Sends a request, and repeats it while the gateway answers 503, as it does if the machine is too busy. `path` may have a query. Each
    /// response is checked against the OpenAPI document.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let (body, began) = (body.into(), Instant::now());
        loop {
            let answer = self.send_once(method.clone(), path, headers, body.clone()).await;
            if answer.status != 503 || !self.retries || began.elapsed() > PATIENCE {
                return answer;
            }
        }
    }

    async fn send_once(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
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

    /// Posts a JSON body and accepts any status.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[(CONTENT_TYPE.as_str(), "application/json")], body.to_string()).await
    }

    /// Patches with a JSON body and accepts any status.
    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, &[(CONTENT_TYPE.as_str(), "application/json")], body.to_string()).await
    }

    pub(crate) async fn analysis(&self, call_id: &str) -> Answer {
        self.get(&format!("/v1/analyses/{call_id}")).await
    }

    pub(crate) async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, "/v1/analyses", headers, body).await
    }

    /// Submits an analysis and accepts any status.
    pub(crate) async fn submit(&self, submission: Value) -> Answer {
        self.post_with(&[(CONTENT_TYPE.as_str(), "application/json")], submission.to_string()).await
    }

    /// Submits an analysis that the gateway must accept and that is not finished yet.
    pub(crate) async fn submitted(&self, submission: Value) -> Value {
        let answer = self.submit(submission).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    }

    /// Waits until the analysis is completed or failed.
    pub(crate) async fn outcome(&self, call_id: &str) -> Value {
        let (path, began) = (format!("/v1/analyses/{call_id}"), Instant::now());
        loop {
            let analysis = self.get_with(&path, &[("prefer", "wait=60")]).await.json();
            if analysis["status"] == "completed" || analysis["status"] == "failed" {
                return analysis;
            }
            assert!(began.elapsed() < PATIENCE, "the analysis is not finished: {analysis}");
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.content()).unwrap()
    }

    /// The body without its content coding.
    pub(crate) fn content(&self) -> Vec<u8> {
        if !self.has("content-encoding") {
            return self.body.to_vec();
        }
        assert_eq!(self.header("content-encoding"), "gzip");
        let mut content = Vec::new();
        GzDecoder::new(self.body.as_ref()).read_to_end(&mut content).unwrap();
        content
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of the header of this name, which must occur once.
    pub(crate) fn header(&self, name: &'static str) -> &str {
        let mut values = self.headers.get_all(HeaderName::from_static(name)).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            panic!("expected one header {name} in {:?}", self.headers)
        };
        value.to_str().unwrap()
    }

    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.headers.contains_key(name)
    }

    /// Checks that the response is a problem with this status and code and every required member. Returns the body.
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

    /// The pointers in the `errors` of an `invalid_request` problem.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let errors = self.problem(422, "invalid_request")["errors"].take();
        errors.as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}
