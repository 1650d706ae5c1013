//! Operations on recordings.

use super::route_table;
use crate::auth::Scope::AudioRead;
use crate::http::audio::{AudioResponses, Range};
use crate::http::audio_links::{AudioLinkResource, CreateAudioLink};
use crate::http::operations::Access::{Link, Token};
use crate::http::shared_problems::{EncryptionNotConfigured, LinkProblems, NoResult};

route_table! { "analyses":
    /// Get the recording of a call
    ///
    /// Streams the recording from AloVoice. The gateway passes range and conditional requests on to AloVoice.
    get "/v1/analyses/{call_id}/audio" => audio::get_audio, Token(AudioRead);
    {
        params(Range),
        responses(AudioResponses, NoResult)
    }

    /// Create a link to the recording of a call
    ///
    /// Use a link for players and CRMs that cannot send a token. Anyone with the link can hear the recording until the link
    /// expires, so treat it as a secret. You cannot revoke a single link, but it stops working if you delete the analysis.
    /// Requests with a link count against the rate limit of the tenant.
    post "/v1/analyses/{call_id}/audio-link" => audio_links::create_audio_link, Token(AudioRead), once OneCall;
    {
        request_body = Option<CreateAudioLink>,
        responses(
            (status = 201, description = "The link is created.", body = AudioLinkResource,
                headers(("Location" = String, description = "The link to the recording."))),
            NoResult, EncryptionNotConfigured,
        )
    }

    /// Get a recording by its link
    ///
    /// Works like `get_audio`, but needs no token. For example, any page can use the link in `<audio src>`. Players seek with
    /// range requests.
    get "/v1/audio/{link}" => audio_links::get_linked_audio, Link;
    {
        params(Range),
        responses(AudioResponses, LinkProblems)
    }
}
