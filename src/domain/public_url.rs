//! Links to the resources of this service.

use std::sync::Arc;

use url::Url;

use super::ids::CallId;

/// The public URL of this service. All links begin with this URL. If no public URL is configured, links are paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicUrl(Arc<str>);

impl PublicUrl {
    /// Creates the public URL from the setting, which may have a path.
    pub fn new(url: Option<&Url>) -> Self {
        Self(url.map_or("", |url| url.as_str().trim_end_matches('/')).into())
    }

    /// Returns the URL without a final slash. Returns an empty string if no public URL is configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the URL is an `https` URL.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Returns the link to a path of this service. The path begins with a slash.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Returns the link to the analysis of a call.
    pub fn analysis(&self, call_id: &CallId) -> String {
        self.link(&format!("/v1/analyses/{}", call_id.path_segment()))
    }

    /// Returns the link to the recording of a call.
    pub fn recording(&self, call_id: &CallId) -> String {
        self.link(&format!("/v1/analyses/{}/audio", call_id.path_segment()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_with_the_public_url() {
        let call_id = CallId::parse("1716207617.42").unwrap();
        for (url, base) in [
            (None, ""),
            (Some("https://calls.example.uz"), "https://calls.example.uz"),
            (Some("https://calls.example.uz/alovoice"), "https://calls.example.uz/alovoice"),
            (Some("http://calls.example.uz:8080/a/b/"), "http://calls.example.uz:8080/a/b"),
        ] {
            let public = PublicUrl::new(url.map(|url| Url::parse(url).unwrap()).as_ref());
            assert_eq!(public.as_str(), base);
            assert_eq!(public.is_https(), base.starts_with("https"));
            assert_eq!(public.link("/problems/internal"), format!("{base}/problems/internal"));
            assert_eq!(public.analysis(&call_id), format!("{base}/v1/analyses/1716207617.42"));
            assert_eq!(public.recording(&call_id), format!("{base}/v1/analyses/1716207617.42/audio"));
        }
    }
}
