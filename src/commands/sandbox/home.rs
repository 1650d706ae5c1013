//! The folder of the sandbox and the secrets in it.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;

use crate::auth::DevelopmentToken;
use crate::commands::Failed;
use crate::domain::clock::{Clock, Entropy, SystemClock};
use crate::domain::ids::TenantId;
use crate::domain::secrets::CallbackSecret;

pub(super) const ISSUER: &str = "https://issuer.sandbox.invalid";
pub(super) const AUDIENCE: &str = "alovoice-gateway";
pub(super) const TENANT: &str = "demo";
const SCOPES: &str = "analyses:read analyses:write audio:read webhooks:manage";
const TOKEN_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// Name of the file with the HMAC secret. The next constants name the files with the other secrets.
pub(super) const HMAC_SECRET: &str = "hmac-secret";
pub(super) const VENDOR_TOKEN: &str = "vendor-token";
pub(super) const CALLBACK_SECRET: &str = "callback-secret";
const FORWARD_SECRET: &str = "forward-secret";
pub(super) const ENCRYPTION_KEY: &str = "encryption-key";

/// Folder for the sandbox's files. The sandbox deletes the folder at the end, unless `--data-dir` names it.
pub(super) struct Home {
    pub(super) path: PathBuf,
    temporary: bool,
}

impl Home {
    pub(super) fn open(chosen: Option<PathBuf>) -> io::Result<Self> {
        let temporary = chosen.is_none();
        let unnamed =
            || std::env::temp_dir().join(format!("alovoice-gateway-sandbox-{}", std::process::id()));
        let path = chosen.unwrap_or_else(unnamed);
        fs::create_dir_all(&path)?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary {
            // A failure leaves a small folder among the temporary files, which is harmless.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Secrets of the sandbox. The first start with a folder generates the secrets and stores them in the folder. So a later run
/// with the same `--data-dir` accepts earlier tokens, decrypts earlier data and signs with the same secret.
pub(super) struct Secrets {
    pub(super) vendor_token: String,
    hmac: String,
    pub(super) callback_text: String,
    pub(super) callback: CallbackSecret,
    /// The secret of the webhook of `--forward-to`.
    pub(super) forward: String,
}

impl Secrets {
    pub(super) fn in_folder(folder: &Path, entropy: &dyn Entropy) -> Result<Self, Failed> {
        let random = || {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            STANDARD.encode(bytes)
        };
        let callback_secret = |name| read_or_create(&folder.join(name), || format!("whsec_{}", random()));
        let callback_text = callback_secret(CALLBACK_SECRET)?;
        read_or_create(&folder.join(ENCRYPTION_KEY), random)?;
        Ok(Self {
            vendor_token: read_or_create(&folder.join(VENDOR_TOKEN), || {
                random().replace(['/', '+', '='], "x")
            })?,
            hmac: read_or_create(&folder.join(HMAC_SECRET), random)?,
            callback: CallbackSecret::parse(&callback_text).map_err(Failed::fault)?,
            callback_text,
            forward: callback_secret(FORWARD_SECRET)?,
        })
    }

    pub(super) fn mint(&self) -> Result<String, Failed> {
        let tenant = tenant_id()?;
        let token = DevelopmentToken {
            algorithm: Algorithm::HS256,
            issuer: ISSUER,
            audience: AUDIENCE,
            tenant_claim: "tenant",
            tenant: &tenant,
            scope_claim: "scope",
            scopes: SCOPES,
            subject: Some("sandbox"),
            lifetime: TOKEN_LIFETIME,
        };
        token.mint(self.hmac.as_bytes(), SystemClock.now()).map_err(Failed::fault)
    }
}

pub(super) fn tenant_id() -> Result<TenantId, Failed> {
    TenantId::parse(TENANT).map_err(Failed::fault)
}

/// Reads a file. Creates the file first if it does not exist.
fn read_or_create(path: &Path, make: impl Fn() -> String) -> Result<String, Failed> {
    if !path.exists() {
        fs::write(path, make()).map_err(Failed::fault)?;
    }
    fs::read_to_string(path).map_err(Failed::fault)
}
