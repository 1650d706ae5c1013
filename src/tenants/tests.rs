use std::fs;
use std::path::Path;

use super::*;
use crate::secrets::Reload;

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn defaults() -> DefaultLimits {
    let rate_limit = RateLimitSettings { requests_per_second: 100, burst: 200 };
    DefaultLimits { max_concurrency: 32, rate_limit }
}

fn in_files(vendor_token: &Path, callback_secret: Option<&Path>) -> TenantSettings {
    TenantSettings {
        vendor_token: SecretSource::File(vendor_token.to_owned()),
        callback_secret: callback_secret.map(|path| SecretSource::File(path.to_owned())),
        requests_per_second: None,
        burst: None,
        max_concurrency: None,
        default_region: Region::parse("UZ").unwrap(),
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn load_acme(settings: TenantSettings) -> Result<Tenants, SettingsProblems> {
    Tenants::load(&BTreeMap::from([(acme(), settings)]), &defaults(), |_| None)
}

/// Reads all secret files again and returns the results as text.
fn reload(tenants: &Tenants) -> Vec<String> {
    let secrets = tenants.secrets();
    let results = secrets.iter().filter_map(|secret| {
        let key = secret.key();
        Some(match secret.reload()? {
            Reload::Changed => format!("{key} changed"),
            Reload::Failed(error) => format!("{key}: {error}"),
            Reload::Recovered => format!("{key} recovered"),
        })
    });
    results.collect()
}

#[test]
fn limits_and_secrets_come_from_files_and_variables() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "t0ken\n").unwrap();
    let own = TenantSettings {
        vendor_token: SecretSource::Env("BETA_TOKEN".to_owned()),
        callback_secret: Some(SecretSource::Env("BETA_SECRETS".to_owned())),
        requests_per_second: None,
        burst: Some(2),
        max_concurrency: Some(3),
        default_region: Region::parse("KZ").unwrap(),
    };
    let beta = TenantId::parse("beta").unwrap();
    let settings = BTreeMap::from([(acme(), in_files(&file, None)), (beta.clone(), own)]);
    let tenants = Tenants::load(&settings, &defaults(), |name| match name {
        "BETA_TOKEN" => Some("b3ta".to_owned()),
        "BETA_SECRETS" => Some(format!("{FIRST} {SECOND}")),
        _ => None,
    })
    .unwrap();

    assert_eq!(tenants.all().map(|tenant| tenant.id().as_str()).collect::<Vec<_>>(), ["acme", "beta"]);
    let acme = tenants.get(&acme()).unwrap();
    assert_eq!((acme.vendor_token().expose(), acme.callback_secrets().len()), ("t0ken", 0));
    assert_eq!((acme.max_concurrency(), acme.rate_limit()), (32, &defaults().rate_limit));
    let beta = tenants.get(&beta).unwrap();
    assert_eq!((beta.vendor_token().expose(), beta.callback_secrets().len()), ("b3ta", 2));
    assert_eq!((beta.max_concurrency(), beta.default_region()), (3, Region::parse("KZ").unwrap()));
    assert_eq!(beta.rate_limit(), &RateLimitSettings { requests_per_second: 100, burst: 2 });
    assert!(tenants.get(&TenantId::parse("ACME").unwrap()).is_none());
    assert!(reload(&tenants).is_empty());
    let printed = format!("{tenants:?}");
    assert!(!printed.contains("t0ken") && !printed.contains("b3ta"), "{printed}");
}

#[test]
fn all_unusable_secrets_are_reported_at_once_and_none_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let spaced = dir.path().join("spaced");
    fs::write(&spaced, "s3cr3t t0ken\n").unwrap();
    let large = dir.path().join("large");
    fs::write(&large, "x".repeat(65 * 1024)).unwrap();
    let binary = dir.path().join("binary");
    fs::write(&binary, [0xff]).unwrap();
    let name = |text| TenantId::parse(text).unwrap();
    let mut unset = in_files(&large, Some(&binary));
    unset.callback_secret = Some(SecretSource::Env("S3CR3T".to_owned()));
    let settings = BTreeMap::from([
        (name("a"), in_files(Path::new("/no/such/file"), Some(dir.path()))),
        (name("b"), in_files(&spaced, Some(&spaced))),
        (name("c"), in_files(&large, Some(&binary))),
        (name("d"), in_files(Path::new("s3cr3t"), None)),
        (name("e"), unset),
    ]);
    let problems = Tenants::load(&settings, &defaults(), |_| None).unwrap_err().to_string();

    assert!(!problems.to_lowercase().contains("s3cr3t"), "{problems}");
    let dir = dir.path().display();
    let expected = format!(
        "tenants.a.vendor_token_file: cannot read \"/no/such/file\": No such file or directory (os error 2)
tenants.a.callback_secret_file: \"{dir}\" is not a regular file
tenants.b.vendor_token_file: the secret has white space or a control character in it
tenants.b.callback_secret_file: the secret must be \"whsec_\" followed by base64 of 24 to 64 bytes
tenants.c.vendor_token_file: \"{dir}/large\" is larger than 64 KiB
tenants.c.callback_secret_file: the secret is not valid UTF-8
tenants.d.vendor_token_file: cannot read the file: No such file or directory (os error 2)
tenants.e.vendor_token_file: \"{dir}/large\" is larger than 64 KiB
tenants.e.callback_secret_env: the environment variable with this name is not set"
    );
    assert_eq!(problems, expected);
}

#[test]
fn a_changed_file_is_in_force_after_the_next_read() {
    let dir = tempfile::tempdir().unwrap();
    let (token, secrets) = (dir.path().join("token"), dir.path().join("secrets"));
    fs::write(&token, "old").unwrap();
    fs::write(&secrets, FIRST).unwrap();
    let tenants = load_acme(in_files(&token, Some(&secrets))).unwrap();
    let tenant = tenants.get(&acme()).unwrap();

    fs::write(&token, "new\n").unwrap();
    fs::write(&secrets, format!("{SECOND}\n{FIRST}\n")).unwrap();
    assert_eq!(tenant.vendor_token().expose(), "old");
    assert_eq!(
        reload(&tenants),
        ["tenants.acme.vendor_token_file changed", "tenants.acme.callback_secret_file changed"]
    );
    assert_eq!(tenant.vendor_token().expose(), "new");
    let second = CallbackSecret::parse(SECOND).unwrap();
    assert_eq!(tenant.callback_secrets()[0].expose(), second.expose());
    assert_eq!(tenant.callback_secrets().len(), 2);

    fs::write(&token, "new").unwrap();
    assert!(reload(&tenants).is_empty(), "a trailing line break is not a change");
}

#[test]
fn an_unusable_file_keeps_the_previous_secret_and_each_reason_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "old").unwrap();
    let tenants = load_acme(in_files(&token, None)).unwrap();
    let tenant = tenants.get(&acme()).unwrap();

    fs::write(&token, "").unwrap();
    assert_eq!(reload(&tenants), ["tenants.acme.vendor_token_file: the secret is empty"]);
    assert!(reload(&tenants).is_empty(), "the same reason is not reported again");
    fs::remove_file(&token).unwrap();
    assert_eq!(reload(&tenants).len(), 1, "a new reason is reported");
    assert_eq!(tenant.vendor_token().expose(), "old");
    fs::write(&token, "old").unwrap();
    assert_eq!(reload(&tenants), ["tenants.acme.vendor_token_file recovered"]);
    fs::write(&token, "").unwrap();
    assert_eq!(reload(&tenants), ["tenants.acme.vendor_token_file: the secret is empty"]);
    fs::write(&token, "new").unwrap();
    assert_eq!(reload(&tenants), ["tenants.acme.vendor_token_file changed"]);
    assert_eq!(tenant.vendor_token().expose(), "new");
}

#[test]
fn invisible_characters_in_secrets_are_refused_and_a_byte_order_mark_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (token, secrets) = (dir.path().join("token"), dir.path().join("secrets"));
    fs::write(&token, "\u{feff}t0ken\r\n").unwrap();
    fs::write(&secrets, format!("\u{feff}{FIRST}\r\n{SECOND}\r\n")).unwrap();
    let tenants = load_acme(in_files(&token, Some(&secrets))).unwrap();
    let tenant = tenants.get(&acme()).unwrap();
    assert_eq!((tenant.vendor_token().expose(), tenant.callback_secrets().len()), ("t0ken", 2));

    fs::write(&token, "t0\u{200b}ken").unwrap();
    fs::write(&secrets, format!("{FIRST}\u{200e}")).unwrap();
    let position = FIRST.len() + 1;
    let expected = [
        "tenants.acme.vendor_token_file: the secret has the invisible character U+200B at position 3"
            .to_owned(),
        format!(
            "tenants.acme.callback_secret_file: the secret has the invisible character U+200E at position {position}"
        ),
    ];
    assert_eq!(reload(&tenants), expected);
    let utf16: Vec<u8> = "\u{feff}t0ken".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&token, utf16).unwrap();
    let encoded = "tenants.acme.vendor_token_file: the secret is encoded in UTF-16: save the file as UTF-8";
    assert_eq!(reload(&tenants), [encoded]);
    assert_eq!(tenant.vendor_token().expose(), "t0ken");
}

/// Kubernetes mounts `token → ..data/token` and `..data → ..one`, and swaps `..data` by a rename.
#[cfg(unix)]
#[test]
fn a_swapped_symlink_is_a_change() {
    use std::os::unix::fs::symlink;

    let dir = tempfile::tempdir().unwrap();
    for (version, token) in [("..one", "old"), ("..two", "new")] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("token"), token).unwrap();
    }
    symlink("..one", dir.path().join("..data")).unwrap();
    symlink("..data/token", dir.path().join("token")).unwrap();
    let tenants = load_acme(in_files(&dir.path().join("token"), None)).unwrap();

    symlink("..two", dir.path().join("..data_tmp")).unwrap();
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    assert_eq!(reload(&tenants), ["tenants.acme.vendor_token_file changed"]);
    assert_eq!(tenants.get(&acme()).unwrap().vendor_token().expose(), "new");
}
