//! Recipes of docs/identity-providers.md: a gateway with the settings of a recipe accepts a token with the claims of that recipe.

use alovoice_gateway::config;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::blocks::{blocks, pages};
use crate::gateway::Serving;
use crate::stage::{HMAC_SECRET, Stage};

const PROVIDERS: [&str; 5] =
    ["Keycloak", "Keycloak with roles", "Auth0", "Microsoft Entra ID", "Laravel Passport"];
/// Settings of the stage that a recipe replaces.
const REPLACED: [&str; 6] = [
    "AUTH__ISSUERS__0__ISSUER",
    "AUTH__ISSUERS__0__AUDIENCES",
    "AUTH__ISSUERS__0__ALGORITHMS",
    "AUTH__ISSUERS__0__HMAC_SECRET_FILE",
    "TENANTS__ACME__VENDOR_TOKEN_FILE",
    "TENANTS__ACME__CALLBACK_SECRET_FILE",
];

/// Claims and settings of a recipe.
fn recipe(provider: &str) -> (Value, String) {
    let pages = pages();
    let page = pages.iter().find(|page| page.path == "docs/identity-providers.md").unwrap();
    let blocks = blocks(&page.text);
    let block = |language: &str| {
        let fits = |block: &&crate::blocks::Block| block.heading == provider && block.language == language;
        blocks
            .iter()
            .find(fits)
            .unwrap_or_else(|| panic!("{provider} has no block of {language}"))
            .text
            .clone()
    };
    (serde_json::from_str(&block("json")).unwrap(), block("toml"))
}

#[tokio::test]
async fn a_token_of_each_recipe_is_accepted() {
    for provider in PROVIDERS {
        let (mut claims, settings) = recipe(provider);
        let mut stage = Stage::set_up().await;
        let home = stage.home.path().to_owned();
        let file = home.join("gateway.toml");
        std::fs::write(&file, &settings).unwrap();
        config::load(Some(&file), std::iter::empty()).unwrap_or_else(|error| panic!("{provider}: {error}"));

        // The provider's keys are not at hand: a shared secret signs in their place.
        let secret = home.join("auth__issuers__0__hmac_secret_file").display().to_string();
        let vendor_token = home.join("tenants__acme__vendor_token_file").display().to_string();
        let settings: String = settings
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some(("algorithms", _)) => "algorithms = [\"HS256\"]\n".to_owned(),
                Some(("jwks_url" | "public_key_file", _)) => format!("hmac_secret_file = \"{secret}\"\n"),
                Some(("vendor_token_file", _)) => format!("vendor_token_file = \"{vendor_token}\"\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&file, &settings).unwrap();
        REPLACED.into_iter().for_each(|key| stage.unset(key));
        let gateway =
            Serving::start(stage.command(&["serve", "--config", file.to_str().unwrap()]), &stage.client)
                .await;

        claims["exp"] = json!(4_000_000_000_u64);
        let key = EncodingKey::from_secret(HMAC_SECRET.as_bytes());
        let token = encode(&Header::default(), &claims, &key).unwrap();
        let url = gateway.api.join("v1/analyses").unwrap();
        let list = stage.client.get(url.clone()).bearer_auth(&token).send().await.unwrap();
        assert_eq!(list.status(), 200, "{provider}");
        let call = json!({"call_id": "1716207617.42"}).to_string();
        let submission =
            stage.client.post(url).bearer_auth(&token).header("content-type", "application/json").body(call);
        assert_eq!(submission.send().await.unwrap().status(), 202, "{provider}");
        gateway.stop().await;
    }
}
