//! Secrets from variables and files: which there are, where they may go, and what changes.

use std::fs;

use super::*;

fn settings(toml: &str) -> Settings {
    ::config::Config::builder()
        .add_source(::config::File::from_str(toml, ::config::FileFormat::Toml))
        .build()
        .unwrap()
        .try_deserialize()
        .unwrap()
}

fn secrets(toml: &str, environment: &[(&str, &str)]) -> Secrets {
    Secrets::new(&settings(toml), environment.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

fn resolve(secrets: &Secrets, text: &str, url: &str) -> Result<String, String> {
    let url = Url::parse(url).unwrap();
    secrets.text(text, Form::Plain, &url).map(Cow::into_owned).map_err(|error| error.to_string())
}

const HERE: &str = "https://api.example.com/";

#[test]
fn nothing_can_be_referred_to_unless_it_is_configured() {
    let environment = [
        ("API_TOKEN", "token-value"),
        ("FLOW_A", "a-value-1"),
        ("FLOW_", "other-value"),
        ("PATH", "/usr/bin:/bin"),
        ("DATABASE_URL", "postgres://user:pass@host/db"),
        ("FIREFLOW__DATABASE__URL", "postgres://x:y@z/db"),
        ("PGPASSWORD", "pass-of-the-worker"),
        ("SHORT", "1234567"),
    ];
    let none = secrets("", &environment);
    assert!(resolve(&none, "secret://API_TOKEN", HERE).unwrap_err().contains("no secret API_TOKEN"));
    assert_eq!(resolve(&none, "no reference", HERE).unwrap(), "no reference");
    let some =
        secrets("environment = [\"API_TOKEN\", \"FLOW_*\", \"D*\", \"FIREFLOW__*\", \"PG*\", \"SHORT\"]", &environment);
    assert_eq!(resolve(&some, "Bearer secret://API_TOKEN!", HERE).unwrap(), "Bearer token-value!");
    assert_eq!(resolve(&some, "secret://FLOW_A secret://FLOW_", HERE).unwrap(), "a-value-1 other-value");
    for name in ["PATH", "DATABASE_URL", "FIREFLOW__DATABASE__URL", "PGPASSWORD", "NEVER"] {
        let error = resolve(&some, &format!("x secret://{name}"), HERE).unwrap_err();
        assert!(error.contains(&format!("no secret {name}")), "{error}");
    }
    let error = resolve(&some, "secret://SHORT", HERE).unwrap_err();
    assert!(error.contains("SHORT") && error.contains("7 bytes") && !error.contains("1234567"), "{error}");
    assert_eq!(some.redactor().text("token-value 1234567"), "[secret API_TOKEN] 1234567");
}

#[test]
fn a_secret_goes_only_to_its_hosts() {
    let toml =
        "environment = [\"A\", \"B\"]\n[hosts]\nA = [\"api.example.com:443\", \"*.internal.example\", \"10.0.0.1\"]";
    let secrets = secrets(toml, &[("A", "value-of-a"), ("B", "value-of-b")]);
    for url in [
        HERE,
        "https://API.example.com./x",
        "http://a.internal.example",
        "http://10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
    ] {
        assert_eq!(resolve(&secrets, "secret://A", url).unwrap(), "value-of-a", "{url}");
    }
    for url in
        ["http://api.example.com/", "https://example.com/", "https://api.example.com.evil.example/", "http://10.0.0.2/"]
    {
        let error = resolve(&secrets, "secret://A", url).unwrap_err();
        assert!(error.contains("secret A may not be sent to") && !error.contains("value"), "{error}");
        assert_eq!(resolve(&secrets, "secret://B", url).unwrap(), "value-of-b");
    }
}

#[test]
fn values_in_urls_stay_in_their_place() {
    let secrets = secrets("environment = [\"A\"]", &[("A", "a/../b&c=d#e %2f")]);
    let url = Url::parse("https://h.example/x/secret://A/y?k=secret://A&n=1").unwrap();
    let resolved = secrets.url(&url).unwrap();
    let value = "a%2F..%2Fb%26c%3Dd%23e%20%252f";
    assert_eq!(resolved.as_str(), format!("https://h.example/x/{value}/y?k={value}&n=1"));
    let plain = Url::parse("https://h.example/x?y#z").unwrap();
    assert_eq!(secrets.url(&plain).unwrap(), plain);
}

#[test]
fn a_file_that_the_worker_is_configured_by_is_no_secret_under_any_name() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (inside, outside) = (folder.path().join("OURS"), elsewhere.path().join("token"));
    fs::write(&inside, "password-of-the-worker").unwrap();
    fs::write(&outside, "token-of-the-worker").unwrap();
    std::os::unix::fs::symlink(&outside, folder.path().join("LINK")).unwrap();
    fs::write(folder.path().join("FREE"), "value-for-flows").unwrap();
    let secrets = Secrets::default();
    secrets.reserve(vec![inside, outside, elsewhere.path().join("missing")]);
    secrets.change(&settings(&format!("folder = {:?}", folder.path())), []);
    for name in ["OURS", "LINK"] {
        let error = resolve(&secrets, &format!("secret://{name}"), HERE).unwrap_err();
        assert!(error.contains("no secret"), "{error}");
    }
    assert_eq!(resolve(&secrets, "secret://FREE", HERE).unwrap(), "value-for-flows");
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("TOKEN"), "first-value\r\n").unwrap();
    fs::write(file("tok.en"), "dotted-value").unwrap();
    fs::write(file("SHORT"), "1234567\n").unwrap();
    fs::write(file("LONG"), "x".repeat(MOST + 1)).unwrap();
    fs::write(file("LONGEST"), format!("{}\n", "x".repeat(MOST))).unwrap();
    fs::write(file("BYTES"), b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe").unwrap();
    fs::create_dir(file("FOLDER")).unwrap();
    fs::write(file("database-password"), "pass-of-the-worker").unwrap();
    fs::write(file("trace-headers"), "x-api-key: of-the-worker").unwrap();
    let toml = format!("folder = {:?}\nenvironment = [\"TOKEN\", \"OTHER\"]", folder.path());
    let secrets = secrets(&toml, &[("TOKEN", "from-environment"), ("OTHER", "other-value")]);
    assert_eq!(resolve(&secrets, "secret://TOKEN|secret://OTHER", HERE).unwrap(), "first-value|other-value");
    assert_eq!(resolve(&secrets, "secret://LONGEST", HERE).unwrap().len(), MOST);
    for (name, words) in [
        ("SHORT", "7 bytes"),
        ("LONG", "larger than"),
        ("BYTES", "no text"),
        ("FOLDER", "no secret"),
        ("database-password", "no secret"),
        ("trace-headers", "no secret"),
        ("tok", "no secret"),
    ] {
        let error = resolve(&secrets, &format!("secret://{name}"), HERE).unwrap_err();
        assert!(error.contains(words) && error.contains(name), "{error}");
    }

    // Replaced by another file, as systems do; and one that is new.
    fs::write(file(".new"), "second-value").unwrap();
    fs::rename(file(".new"), file("TOKEN")).unwrap();
    fs::write(file("LATER"), "later-value").unwrap();
    secrets.refresh().await;
    assert_eq!(resolve(&secrets, "secret://TOKEN secret://LATER", HERE).unwrap(), "second-value later-value");
    let text = secrets.redactor().text("first-value second-value later-value other-value").into_owned();
    assert_eq!(text, "[secret TOKEN] [secret TOKEN] [secret LATER] [secret OTHER]");

    fs::remove_file(file("TOKEN")).unwrap();
    secrets.refresh().await;
    assert_eq!(resolve(&secrets, "secret://TOKEN", HERE).unwrap(), "from-environment");
    folder.close().unwrap();
    secrets.refresh().await;
    assert!(resolve(&secrets, "secret://LATER", HERE).unwrap_err().contains("folder can't be read"));
    assert_eq!(secrets.redactor().text("later-value"), "[secret LATER]");
}

#[test]
fn all_together_are_limited() {
    let names: Vec<String> = (0..20).map(|number| format!("S{number:02}")).collect();
    let values: Vec<String> = names.iter().map(|name| name.repeat(MOST / 3)).collect();
    let environment: Vec<_> = names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let secrets = secrets("environment = [\"S*\"]", &environment);
    assert!(resolve(&secrets, "secret://S00", HERE).is_ok());
    assert!(resolve(&secrets, "secret://S19", HERE).unwrap_err().contains("together"));
    assert!(!format!("{secrets:?}").contains("S00"));
}

#[test]
fn what_may_be_referred_to_changes_and_what_was_stays_hidden() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("FILE"), "value-in-file").unwrap();
    let variables = [("OLD", "old-value-1"), ("NEW", "new-value-1")];
    let variables = || variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let secrets = Secrets::default();
    let (clone, redactor) = (secrets.clone(), secrets.redactor());
    assert!(resolve(&clone, "secret://OLD", HERE).is_err());
    let with_folder = format!("environment = [\"OLD\"]\nfolder = {:?}", folder.path());
    secrets.change(&settings(&with_folder), variables());
    assert_eq!(resolve(&clone, "secret://OLD secret://FILE", HERE).unwrap(), "old-value-1 value-in-file");
    secrets.change(&settings("environment = [\"NEW\"]\n[hosts]\nNEW = [\"other.example\"]"), variables());
    for name in ["OLD", "FILE"] {
        let error = resolve(&clone, &format!("secret://{name}"), HERE).unwrap_err();
        assert!(error.contains(&format!("no secret {name}")), "{error}");
    }
    assert!(resolve(&clone, "secret://NEW", HERE).unwrap_err().contains("may not be sent"));
    assert_eq!(
        redactor.text("old-value-1 value-in-file new-value-1"),
        "[secret OLD] [secret FILE] [secret NEW]",
        "by whoever has the redactor since before"
    );
}
