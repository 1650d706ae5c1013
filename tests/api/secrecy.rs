//! Types that hold a secret do not reveal it in `Debug` output or in error messages.

use std::fmt::Debug;

use alovoice_gateway::auth::{DevelopmentToken, Verifier, bearer};
use alovoice_gateway::domain::clock::{SystemClock, SystemEntropy};
use alovoice_gateway::domain::ids::{TenantId, WebhookId};
use alovoice_gateway::domain::sealing::SealingKeys;
use alovoice_gateway::domain::secrets::CallbackSecret;
use alovoice_gateway::domain::vendor_token::VendorToken;
use alovoice_gateway::domain::webhooks::{CustomHeaders, HeaderName, SealedSecrets, WebhookSealer};
use alovoice_gateway::http_client::Network;
use alovoice_gateway::secrets::Encryption;
use alovoice_gateway::{app, config};

use crate::stage::{ACME_SECRET, ENCRYPTION_KEY, HMAC, Stage, VENDOR_TOKENS, development_token, token};

const PASSWORD: &str = "canary-of-the-database";
const HEADER: &str = "canary-of-a-header";

/// Collected `Debug` output, in the compact and in the pretty format, and error messages.
#[derive(Default)]
struct Printed(Vec<String>);

impl Printed {
    fn debug(&mut self, thing: &impl Debug) {
        self.0.extend([format!("{thing:?}"), format!("{thing:#?}")]);
    }

    fn error(&mut self, error: &impl std::error::Error) {
        self.debug(error);
        self.0.push(error.to_string());
    }
}

#[tokio::test]
async fn debug_output_and_errors_contain_no_secret() {
    let stage = Stage::start().await;
    let url = format!("postgres://gateway:{PASSWORD}@127.0.0.1/gateway?application_name={PASSWORD}");
    let settings = stage.settings_with(&[("STORE__URL", &url)]).unwrap();
    let mut printed = Printed::default();
    printed.debug(&settings);
    let tenants = app::tenants(&settings, &|_| None).unwrap();
    let encryption = Encryption::load(&settings.encryption).unwrap();
    printed.debug(&tenants);
    printed.debug(&encryption);
    printed.debug(&encryption.keys());
    for tenant in tenants.all() {
        printed.debug(tenant);
        printed.debug(&tenant.vendor_token());
        printed.debug(&tenant.callback_secrets());
    }
    let secret = CallbackSecret::parse(ACME_SECRET).unwrap();
    printed.debug(&secret);
    printed.debug(&secret.to_text());
    let mut headers = CustomHeaders::default();
    headers.set(HeaderName::parse("authorization").unwrap(), HEADER).unwrap();
    printed.debug(&headers);
    let keys = SealingKeys::parse(ENCRYPTION_KEY).unwrap();
    let acme = TenantId::parse("acme").unwrap();
    let webhook = WebhookId::parse("whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e").unwrap();
    let vault = WebhookSealer::new(&keys, &acme, webhook);
    let sealed = SealedSecrets {
        secret: vault.seal_secret(&secret, &SystemEntropy),
        previous_secret: None,
        headers: vault.seal_headers(&headers, &SystemEntropy),
    };
    printed.debug(&keys);
    printed.debug(&sealed);
    print_errors_about_secrets(&stage, &mut printed).await;

    let signing = ACME_SECRET.strip_prefix("whsec_").unwrap();
    let secrets = VENDOR_TOKENS.into_iter().chain([HMAC, ENCRYPTION_KEY, signing, PASSWORD, HEADER]);
    for secret in secrets {
        let shown = printed.0.iter().find(|text| text.contains(secret));
        assert!(shown.is_none(), "{secret} in {shown:?}");
    }
    assert!(printed.0.len() > 40 && printed.0.iter().all(|text| !text.is_empty()));
}

/// Collects the errors about invalid secrets and tokens.
async fn print_errors_about_secrets(stage: &Stage, printed: &mut Printed) {
    for url in [format!("postgres://u:{PASSWORD}@h:port/d"), format!("mysql://u:{PASSWORD}@h/d")] {
        printed.error(&stage.settings_with(&[("STORE__URL", &url)]).unwrap_err());
    }
    let misplaced = stage.settings_with(&[("TENANTS__ACME__VENDOR_TOKEN_FILE", VENDOR_TOKENS[0])]).unwrap();
    printed.error(&app::tenants(&misplaced, &|_| None).unwrap_err());
    printed.error(&VendorToken::parse(&format!("{} {}", VENDOR_TOKENS[0], VENDOR_TOKENS[1])).unwrap_err());
    printed.error(&CallbackSecret::parse(&format!("{ACME_SECRET}!")).unwrap_err());
    printed.error(&SealingKeys::parse(&format!("{ENCRYPTION_KEY}!")).unwrap_err());
    let mut headers = CustomHeaders::default();
    let name = HeaderName::parse("authorization").unwrap();
    printed.error(&headers.set(name, &format!("{HEADER}\r\n")).unwrap_err());

    // The shared secret of an issuer is too short for its algorithm.
    stage.write("short", &HMAC[..31]);
    let short = stage.home.path().join("short");
    let settings =
        stage.settings_with(&[("AUTH__ISSUERS__0__HMAC_SECRET_FILE", short.to_str().unwrap())]).unwrap();
    let network = Network::new(&settings.network).unwrap();
    let verifier = Verifier::new(&settings.auth, &network, std::sync::Arc::new(SystemClock), |_| ());
    printed.error(&verifier.err().unwrap());
    let tenant = TenantId::parse("acme").unwrap();
    let minting =
        DevelopmentToken { algorithm: jsonwebtoken::Algorithm::HS512, ..development_token(&tenant, "") };
    let now = alovoice_gateway::domain::clock::Clock::now(&SystemClock);
    printed.error(&minting.mint(HMAC.as_bytes(), now).unwrap_err());

    // A refused token, a malformed header, and the caller of a valid token.
    let good = token("acme", "analyses:read");
    let settings = stage.settings_with(&[]).unwrap();
    let verifier = Verifier::new(&settings.auth, &network, std::sync::Arc::new(SystemClock), |_| ()).unwrap();
    let caller = verifier.verify(&good).await.unwrap();
    let refused = verifier.verify(&good[..good.len() - 2]).await.unwrap_err();
    let malformed = bearer([format!("Bearer {good}, {good}").as_bytes()]).unwrap_err();
    let mut of_tokens = Printed::default();
    of_tokens.debug(&caller);
    of_tokens.error(&refused);
    of_tokens.error(&malformed);
    for part in good.split('.') {
        assert!(of_tokens.0.iter().all(|text| !text.contains(part)), "{:?}", of_tokens.0);
    }
    printed.0.extend(of_tokens.0);
}

#[test]
fn the_value_of_a_misspelt_setting_is_not_repeated() {
    let url = format!("postgres://u:{PASSWORD}@h/d");
    let problems = config::load(None, std::iter::once(("GATEWAY_STORE__URI".to_owned(), url))).unwrap_err();
    let message = format!("{problems} {problems:?}");
    assert!(message.contains("store.uri") && !message.contains(PASSWORD), "{message}");
}
