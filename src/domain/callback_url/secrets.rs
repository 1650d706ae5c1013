//! Secrets in the URL of a callback, and their removal from texts.
//!
//! Many receivers expect a secret in the URL. Bitrix24 (`/rest/1/SECRET/`), Slack and Telegram expect the secret in the path.
//! Other receivers expect the secret in the query. The gateway does not know all receivers. So it treats each part that does
//! not look public as a secret: the query, and each segment of the path that is not a word, a number or a version. The secrets
//! of some receivers may look like a word, but the gateway knows the place of these secrets.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::domain::echo::Echo;

/// Text that replaces a secret of a URL where the URL is shown.
pub(super) const MASK: &str = "***";

/// Text that replaces a secret of a URL in the answer of a receiver.
const ERASED: &str = "[url]";

/// Minimum size in bytes of a secret that is erased from answers. Shorter texts occur everywhere, and are easy to guess.
const SHORTEST: usize = 4;

/// A part of a URL that is either public or secret as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UrlPiece<'a> {
    pub(super) text: &'a str,
    pub(super) is_secret: bool,
}

/// Splits a path and its query into public and secret parts. The path may have placeholders in braces.
pub(super) fn pieces(path_and_query: &str) -> Vec<UrlPiece<'_>> {
    let public = |text| UrlPiece { text, is_secret: false };
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let (mut pieces, mut before) = (Vec::new(), Vec::new());
    for segment in path.split('/') {
        if !before.is_empty() {
            pieces.push(public("/"));
        }
        let is_place = is_place_of_secret(&before);
        let mut rest = segment;
        while !rest.is_empty() {
            let begin = rest.find('{').unwrap_or(rest.len());
            let (text, placeholder) = rest.split_at(begin);
            let (name, behind) =
                placeholder.split_at(placeholder.find('}').map_or(placeholder.len(), |end| end + 1));
            pieces.push(UrlPiece { text, is_secret: !text.is_empty() && (is_place || !looks_public(text)) });
            pieces.push(public(name));
            rest = behind;
        }
        before.push(segment);
    }
    if path.len() < path_and_query.len() {
        pieces.extend([public("?"), UrlPiece { text: query, is_secret: !query.is_empty() }]);
    }
    pieces
}

/// Whether the segment after the segments `before` is a secret because of its place, even if it looks like a word. Bitrix24
/// (`/rest/USER/SECRET/METHOD`) and Slack (`/services/TEAM/BOT/SECRET`) have such secrets in the URLs of incoming webhooks.
fn is_place_of_secret(before: &[&str]) -> bool {
    match before {
        [.., "rest", user] => !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit()),
        [.., "services", team, bot] => team.starts_with('T') && bot.starts_with('B'),
        _ => false,
    }
}

/// Whether a part of a path consists of words, numbers and versions, such as `crm.timeline.comment.add`, `2026-09` or `v62.0`.
fn looks_public(text: &str) -> bool {
    text.split(['.', '_', '-', '~']).all(|word| {
        let (letters, digits) = word.split_at(word.bytes().take_while(u8::is_ascii_alphabetic).count());
        // A random text has digits between its letters, or many capital letters.
        let capitals = letters.bytes().filter(u8::is_ascii_uppercase).count();
        let most_digits = if letters.is_empty() { 12 } else { 2 };
        letters.len() <= 20
            && capitals <= 3
            && digits.len() <= most_digits
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Replaces secrets in the answer of a receiver, including the start of a secret at the end of a truncated answer. The result is
/// never longer than the answer.
pub(super) fn erase(pieces: &[UrlPiece<'_>], answer: &[u8]) -> Vec<u8> {
    let mut shown = answer.to_vec();
    for secret in pieces.iter().filter(|piece| piece.is_secret).flat_map(|piece| spellings(piece.text)) {
        if secret.len() < SHORTEST {
            continue;
        }
        if let Some(erased) = Echo::of(&secret, ERASED).erased_from(&shown) {
            shown = erased;
        }
        let starts = (SHORTEST..secret.len()).rev();
        if let Some(start) =
            starts.map(|length| &secret.as_bytes()[..length]).find(|start| shown.ends_with(start))
        {
            shown.truncate(shown.len() - start.len());
            shown.extend_from_slice(ERASED.as_bytes());
        }
    }
    shown.truncate(answer.len());
    shown
}

/// Returns the spellings of a secret part: the text in the URL, the decoded text, and each decoded value of a query. The
/// longest spelling comes first.
fn spellings(text: &str) -> Vec<Cow<'_, str>> {
    let mut spellings = vec![Cow::Borrowed(text), percent_decode_str(text).decode_utf8_lossy()];
    let values = form_urlencoded::parse(text.as_bytes());
    spellings.extend(values.map(|(name, value)| if value.is_empty() { name } else { value }));
    spellings.dedup();
    spellings
}

#[cfg(test)]
mod tests {
    use crate::domain::callback_url::CallbackUrl;

    fn masked(url: &str) -> String {
        let url = CallbackUrl::parse(url).unwrap();
        let masked = url.masked();
        assert_eq!(masked.masked(), masked);
        assert_eq!(url.has_secret(), masked != url);
        masked.as_str().to_owned()
    }

    #[test]
    fn secrets_of_known_receivers_are_masked() {
        for (url, shown) in [
            (
                "https://a.bitrix24.ru/rest/1/secret/crm.deal.add",
                "https://a.bitrix24.ru/rest/1/***/crm.deal.add",
            ),
            (
                "https://a.uz/b24/rest/15/a1b2c3d4/crm.deal.add.json",
                "https://a.uz/b24/rest/15/***/crm.deal.add.json",
            ),
            (
                "https://hooks.slack.com/services/T000/B000/secret",
                "https://hooks.slack.com/services/***/***/***",
            ),
            (
                "https://api.telegram.org/bot123456:AAF-x/sendMessage",
                "https://api.telegram.org/***/sendMessage",
            ),
            (
                "https://discord.com/api/webhooks/1234567890123456/aB3xY9_d-E7",
                "https://discord.com/api/webhooks/***/***",
            ),
            ("https://a.uz/hook?token=s3cret&x=1", "https://a.uz/hook?***"),
            ("https://a.uz/?word", "https://a.uz/?***"),
            ("https://hook.eu1.make.com/x7f3abq9", "https://hook.eu1.make.com/***"),
            ("https://a.uz/018f95f4-cd28-7c5b-9a6f-3b1f8f0a1d2e/x", "https://a.uz/***/x"),
            ("https://a.uz/QkVhUtRsPwLmNoXy", "https://a.uz/***"),
            ("https://a.uz/%73ecret", "https://a.uz/***"),
            (
                "https://a.uz/k3y-{crm.ticket}.json/{crm.s3cret}",
                "https://a.uz/***{crm.ticket}.json/{crm.s3cret}",
            ),
        ] {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn public_urls_are_shown_unchanged() {
        for url in [
            "https://a.uz/",
            "http://127.0.0.1:9000/hooks/alovoice",
            "https://a.uz/hooks/ok~1/call-42/",
            "https://a.zendesk.com/api/v2/tickets/{crm.zendesk_ticket_id}",
            "https://a.atlassian.net/rest/api/3/issue/{crm.jira_issue_key}/comment",
            "https://api.hubapi.com/crm/extensions/calling/2026-09/transcripts",
            "https://a.my.salesforce.com/services/data/v62.0/sobjects/Task",
            "https://a.uz/rest/servicedeskapi/request/{crm.a}{crm.b}/comment",
            "https://a.uz/telephony.call.attachTranscription",
            "https://a.uz/?",
        ] {
            assert_eq!(masked(url), url);
        }
    }

    #[test]
    fn a_masked_url_is_not_accepted_as_a_url() {
        for url in
            ["https://a.uz/rest/1/***/x", "https://a.uz/?***", "https://a.uz/a?key=***", "https://a.uz/*\t**"]
        {
            let error = CallbackUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains("stands for a secret"), "{url} {error}");
        }
    }

    #[test]
    fn secrets_are_erased_from_answers() {
        let url = CallbackUrl::parse("https://a.uz/rest/1/s3cr3t%2Fkey/m?token=tok%3Den&x=1").unwrap();
        let erased = |answer: &str| String::from_utf8(url.erased_from(answer.as_bytes())).unwrap();
        assert_eq!(erased("Cannot POST /rest/1/s3cr3t%2Fkey/m, sorry"), "Cannot POST /rest/1/[url]/m, sorry");
        assert_eq!(erased(r#"{"key": "s3cr3t\/key"}"#), r#"{"key": "[url]"}"#);
        assert_eq!(erased("token=tok%3Den&amp;x=1 unknown"), "[url] unknown");
        assert_eq!(erased("the token tok=en, x=1"), "the token [url], x=1");
        assert_eq!(erased("cut off: s3cr3t"), "cut off: [url]");
    }
}
