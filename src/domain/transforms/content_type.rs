//! The content type of a body.

/// The content type of a template's output. The type decides how values are escaped, and whether the output must be JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyType(String);

impl BodyType {
    /// Parses a content type without parameters. The default is `application/json`.
    ///
    /// # Errors
    /// The error is a text that names the allowed types.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self("application/json".to_owned())) };
        let essence = text.trim().to_ascii_lowercase();
        let is_token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
        };
        let is_known = match essence.split_once('/') {
            Some(("application", "json" | "xml" | "x-www-form-urlencoded")) => true,
            Some(("application", suffix)) => suffix.ends_with("+json") || suffix.ends_with("+xml"),
            Some(("text", _)) => true,
            _ => false,
        };
        if is_known
            && essence.len() <= 64
            && essence.split('/').count() == 2
            && essence.split('/').all(is_token)
        {
            Ok(Self(essence))
        } else {
            Err("must be application/json, application/…+json, application/xml, application/x-www-form-urlencoded or text/…, \
                 without parameters"
                .to_owned())
        }
    }

    /// Whether the output must be JSON.
    pub fn is_json(&self) -> bool {
        self.0 == "application/json" || self.0.ends_with("+json")
    }

    /// Whether the output is markup, in which `<` and `&` are escaped.
    pub fn is_markup(&self) -> bool {
        ["text/html", "text/xml", "application/xml"].contains(&self.0.as_str()) || self.0.ends_with("+xml")
    }

    /// Whether the output is a form, in which values are percent-encoded.
    pub fn is_form(&self) -> bool {
        self.0 == "application/x-www-form-urlencoded"
    }

    /// Returns the value of the header `Content-Type`.
    pub fn header(&self) -> String {
        if self.0.starts_with("text/") { format!("{}; charset=utf-8", self.0) } else { self.0.clone() }
    }
}
