//! Configuration: the reference file, the layers, and what a bad one is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::{io::Write as _, time::Duration};

use fireflow_worker::config::{self, Settings, Start};

fn load(toml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Settings, String> {
    let mut file = tempfile::Builder::new().prefix("worker").suffix(".toml").tempfile().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    match config::load(Some(file.path()), environment, flags) {
        Ok((settings, _)) => Ok(settings),
        Err(error) => Err(without_lines(&error.to_string().replace(file.path().to_str().unwrap(), "worker.toml"))),
    }
}

/// Lines are for a test of their own.
fn without_lines(text: &str) -> String {
    let mut parts = text.split("worker.toml:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = rest.len() < part.len();
        out += "worker.toml";
        out += if numbered { rest } else { ":" };
        out += if numbered { "" } else { part };
    }
    out
}

#[test]
fn a_value_at_fault_is_told_with_its_line() {
    let refusal = |toml: &str| {
        let error = config::load_text(Some(("w.toml".as_ref(), toml)), [], vec![]).unwrap_err();
        error.to_string()
    };
    for (toml, told) in [
        ("[queue]\n# a comment\nconcurrency = 0", "w.toml:3: queue.concurrency: 0 is not allowed"),
        ("[queue]\nname = \"x\"\nconcurency = 3", "w.toml:3: "),
        ("\n\n[quue]\nname = \"x\"", "w.toml:3: "),
        ("[[queue]]\n[[queue]]\nname = \"b\"\nweight = 0", "w.toml:4: queue[1].weight: 0"),
        ("[outbound]\nallow = [\n\"ok.example\",\n\"http://x\"]", "w.toml:4: outbound.allow[1]"),
        ("[worker]\nconcurrency = 6", "w.toml:2: worker.concurrency"),
    ] {
        let error = refusal(toml);
        assert!(error.starts_with(told), "{toml:?} is told {error}");
    }
}

#[test]
fn the_reference_file_holds_the_defaults_and_every_key() {
    let reference = include_str!("../config/worker.toml");
    assert_eq!(load(reference, &[], &[]).unwrap(), Settings::default());

    // Keys without a default are there as comments.
    let uncommented: String = reference
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting)
                if setting
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) =>
            {
                setting
            }
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let full = load(&uncommented, &[], &[]).unwrap();
    assert_eq!(full.worker.id.as_deref(), Some("worker-1"));
    assert!(full.database.flows_url.is_some());
    let keys = |settings: &Settings| {
        let json = serde_json::to_value(settings).unwrap();
        json.as_object()
            .unwrap()
            .iter()
            .map(|(name, section)| (name.clone(), section.as_object().unwrap().len()))
            .collect::<Vec<_>>()
    };
    let toml: serde_json::Map<_, _> = ::config::Config::builder()
        .add_source(::config::File::from_str(&uncommented, ::config::FileFormat::Toml))
        .build()
        .unwrap()
        .try_deserialize()
        .unwrap();
    let written: Vec<_> =
        keys(&full).into_iter().map(|(name, _)| (name.clone(), toml[&name].as_object().unwrap().len())).collect();
    assert_eq!(written, keys(&full), "a key is missing in config/worker.toml");
}

#[test]
fn a_variable_of_endless_depth_is_refused_and_not_recited() {
    let variable = format!("FIREFLOW__{}B", "A__".repeat(30_000));
    let error = load("", &[(variable.as_str(), "1")], &[]).unwrap_err();
    assert!(error.contains("a.a.a.a.a.a.a.a: there is more after it"), "{error:.300}");
    assert!(error.len() < 300);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[queue]\nname = \"file\"\nworker_concurrency = 2\npolling_interval = \"2s\"\n";
    let environment =
        [("FIREFLOW__QUEUE__NAME", "environment"), ("FIREFLOW__QUEUE__WORKER_CONCURRENCY", "3"), ("PATH", "/bin")];
    let settings = load(file, &environment, &[("queue.name", "flag")]).unwrap();
    assert_eq!(settings.queue.first().name, "flag");
    assert_eq!(settings.queue.first().worker_concurrency, 3);
    assert_eq!(settings.queue.first().polling_interval, Duration::from_secs(2));
    assert_eq!(settings.queue.first().concurrency, 100);
}

#[test]
fn several_queues_are_listed_in_the_file_and_changed_there() {
    let file = "[worker]\nconcurrency = 6\n[[queue]]\nname = \"a\"\nweight = 3\n[[queue]]\nname = \"b\"\nworker_concurrency = 9\n";
    let settings = load(file, &[], &[]).unwrap();
    let queues: Vec<_> = settings.queue.iter().map(|queue| (queue.name.as_str(), queue.weight)).collect();
    assert_eq!(queues, [("a", 3), ("b", 1)]);
    assert_eq!((settings.queue.worker_concurrency(), settings.worker.concurrency), (14, Some(6)));
    for (environment, flags, source) in [
        (&[("FIREFLOW__QUEUE__NAME", "c")] as &[_], &[] as &[_], "variable FIREFLOW__QUEUE__NAME: queue.name"),
        (&[], &[("queue.name", "c")], "command line: queue.name"),
    ] {
        let error = load(file, environment, flags).unwrap_err();
        assert!(error.contains(source) && error.contains("[[queue]] 2 times"), "{error}");
    }
}

#[test]
fn database_url_is_taken_from_the_variables_that_the_server_uses() {
    let one = load("", &[("DATABASE_URL", "postgres://one/db")], &[]).unwrap();
    assert_eq!((one.database.url.as_str(), one.database.flows_url.as_deref()), ("postgres://one/db", None));
    let two = load(
        "",
        &[("DATABASE_URL", "postgres://main/db"), ("DATABASE_URL_EXECUTIONS", "postgres://executions/db")],
        &[],
    )
    .unwrap();
    assert_eq!(two.database.url, "postgres://executions/db");
    assert_eq!(two.database.flows_url.as_deref(), Some("postgres://main/db"));
    let explicit =
        load("", &[("DATABASE_URL", "postgres://one/db"), ("FIREFLOW__DATABASE__URL", "postgres://two/db")], &[])
            .unwrap();
    assert_eq!(explicit.database.url, "postgres://two/db");
}

#[test]
fn values_are_written_as_people_write_them() {
    let settings =
        load("[worker]\nlease = \"1m 30s\"\n[execution]\nmax_input = \"2MiB\"\nstart = \"signal\"\n", &[], &[])
            .unwrap();
    assert_eq!(settings.worker.lease, Duration::from_secs(90));
    assert_eq!(settings.execution.max_input.as_u64(), 2 << 20);
    assert_eq!(settings.execution.start, Start::Signal);
    let settings = load("", &[("FIREFLOW__QUEUE__RATE_LIMIT", "3 per 1m 30s")], &[]).unwrap();
    let rate = settings.queue.first().rate_limit.unwrap();
    assert_eq!((rate.max, rate.period), (3, Duration::from_secs(90)));
    assert_eq!(rate.to_string(), "3 per 1m 30s");
}

#[test]
fn lists_come_from_variables_too_and_names_keep_their_case() {
    let environment =
        [("FIREFLOW__OUTBOUND__DENY", "10.0.0.0/8, *.example.com:80"), ("FIREFLOW__SECRETS__ENVIRONMENT", "API_TOKEN")];
    let settings = load("[secrets.hosts]\nAPI_TOKEN = [\"a.example\"]\n", &environment, &[]).unwrap();
    let deny: Vec<_> = settings.outbound.deny.iter().map(ToString::to_string).collect();
    assert_eq!(deny, ["10.0.0.0/8", "*.example.com:80"]);
    assert_eq!(settings.secrets.environment, ["API_TOKEN"]);
    assert_eq!(settings.secrets.hosts["API_TOKEN"][0].to_string(), "a.example");
    let proxied = load("[outbound]\nproxy = \"http://user:hush@proxy.example\"", &[], &[]).unwrap();
    assert!(!format!("{proxied:?}").contains("hush"));
}

#[test]
fn a_bad_file_is_told_where_it_is_bad_and_what_is_allowed() {
    for (toml, parts) in [
        ("[queue\nname = 1", &["worker.toml", "not valid TOML", "line 1"] as &[&str]),
        ("[queue]\nconcurency = 3", &["worker.toml: queue", "did you mean `concurrency`"]),
        ("[quue]\nname = \"x\"", &["worker.toml", "did you mean `queue`"]),
        ("[queue]\nwobble = 3", &["worker.toml: queue", "unknown key", "polling_interval"]),
        ("[queue]\nconcurrency = \"many\"", &["worker.toml: queue.concurrency", "\"many\"", "u32"]),
        ("[queue]\nconcurrency = -1", &["worker.toml: queue.concurrency", "-1"]),
        ("[queue]\nconcurrency = 0", &["worker.toml: queue.concurrency: 0 is not allowed; 1 to 100000"]),
        (
            "[queue]\nconcurrency = 3\nworker_concurrency = 4",
            &["worker.toml: queue.worker_concurrency: 4 is more than queue.concurrency (3", "1 to 3"],
        ),
        ("[queue]\nworker_concurrency = 200", &["worker.toml: queue.worker_concurrency", "queue.concurrency (100"]),
        ("[queue]\npolling_interval = 5", &["worker.toml: queue.polling_interval", "in quotes"]),
        ("[queue]\npolling_interval = \"5 parsecs\"", &["worker.toml: queue.polling_interval", "5 parsecs"]),
        ("[queue]\npolling_interval = \"0s\"", &["queue.polling_interval: \"0s\" is not allowed; \"1ms\" to \"10m\""]),
        ("[queue]\nrate_limit = 10", &["worker.toml: queue.rate_limit", "string"]),
        ("[queue]\nrate_limit = \"10/s\"", &["worker.toml: queue.rate_limit: \"10/s\"", "100 per 1m"]),
        ("[queue]\nrate_limit = \"10 per 0s\"", &["queue.rate_limit", "100 per 1m"]),
        ("[queue]\nrate_limit = \"0 per 1s\"", &["queue.rate_limit: 0 is not allowed; 1 to 1000000"]),
        ("[queue]\nlimits = \"mine\"", &["worker.toml: queue.limits", "registered", "configured"]),
        ("[queue]\nname = \"  \"", &["worker.toml: queue.name", "not blank"]),
        ("[worker]\nlease = \"1s\"", &["worker.lease: \"1s\" is not allowed; \"2s\" to \"1h\""]),
        ("[worker]\nid = \"local\"", &["worker.id", "name of your own"]),
        ("[worker]\napplication_name = \"Fire Flow\"", &["worker.application_name", "a-z, 0-9, _ and -"]),
        ("[database]\nschema = \"db;drop\"", &["database.schema", "a-z, 0-9 and _"]),
        ("[execution]\nstart = \"later\"", &["worker.toml: execution.start", "later", "immediate", "signal"]),
        ("[execution]\nmax_input = \"16 potatoes\"", &["worker.toml: execution.max_input"]),
        (
            "[outbound]\nallow = [\"ok.example\", \"http://x\"]",
            &["worker.toml: outbound.allow[1]", "\"http://x\" names no hosts"],
        ),
        ("[outbound]\ndeny = \"all\"", &["worker.toml: outbound.deny", "sequence"]),
        ("[outbound]\nproxy = \"user:hush@proxy\"", &["worker.toml: outbound.proxy", "http://"]),
        ("[outbound]\ntimeout = \"25h\"", &["outbound.timeout", "\"24h\""]),
        ("[recovery]\nmax_crashes = 1", &["recovery.max_crashes: 1 is not allowed; 2 to 1000000"]),
        ("[recovery]\nadopt_executors = [\"\"]", &["recovery.adopt_executors: \"\" is not allowed"]),
        (
            "[worker]\nid = \"w1\"\n[recovery]\nadopt_executors = [\"local\", \"w1\"]",
            &["worker.toml: recovery.adopt_executors: \"w1\" is this worker itself"],
        ),
        ("[outbound]\nmax_redirects = 101", &["outbound.max_redirects: 101 is not allowed; 0 to 100"]),
        ("[outbound]\nmax_response = \"2GiB\"", &["worker.toml: outbound.max_response: 2147483648"]),
        ("[secrets]\nenvironment = [\"*\"]", &["worker.toml: secrets.environment: \"*\" is not allowed"]),
        ("[secrets]\nenvironment = [\"A B\"]", &["secrets.environment: \"A B\" is not allowed"]),
        ("[secrets.hosts]\nA = [\"a.example\"]", &["secrets.hosts: there are no secrets to send"]),
        ("[secrets]\nfolder = \"/x\"\n[secrets.hosts]\n\"A.B\" = []", &["secrets.hosts.A.B", "letters, digits"]),
        ("[log]\nlevel = \"fireflow=loud\"", &["worker.toml: log.level", "trace"]),
        ("[admin]\nlisten = \"here\"", &["worker.toml: admin.listen"]),
        ("queue = 3", &["worker.toml: queue", "[[queue]]"]),
        ("queue = []", &["worker.toml: queue", "the list is empty"]),
        (
            "[[queue]]\nname = \"a\"\n[[queue]]\nname = \"a\"",
            &["worker.toml: queue[1].name: \"a\" is queue[0] already"],
        ),
        ("[[queue]]\n[[queue]]\nname = \"b\"\nconcurrency = 0", &["queue[1].concurrency: 0 is not allowed"]),
        ("[[queue]]\n[[queue]]\nnme = \"b\"", &["worker.toml: queue[1]", "did you mean `name`"]),
        ("[[queue]]\n[[queue]]\nname = \"_dbos_internal_queue\"", &["queue[1].name", "served anyway"]),
        ("[[queue]]\nname = \"a\"\nweight = 0\n[[queue]]", &["queue[0].weight: 0 is not allowed; 1 to 1000"]),
        (
            "[worker]\nconcurrency = 1\n[[queue]]\n[[queue]]\nname = \"b\"",
            &["worker.concurrency: 1 is not allowed; 2 to 10"],
        ),
        ("[worker]\nconcurrency = 6", &["worker.toml: worker.concurrency: 6 is not allowed; 1 to 5"]),
    ] {
        let error = load(toml, &[], &[]).expect_err(toml);
        for part in parts {
            assert!(error.contains(part), "{toml:?} is told:\n{error}\nwithout: {part}");
        }
    }
}

#[test]
fn several_wrong_values_are_told_at_once_and_each_by_its_source() {
    let error =
        load("[queue]\nconcurrency = 0\n", &[("FIREFLOW__WORKER__LEASE", "1ms")], &[("database.pool_size", "1")])
            .unwrap_err();
    for part in [
        "worker.toml: queue.concurrency",
        "variable FIREFLOW__WORKER__LEASE: worker.lease",
        "command line: database.pool_size",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = load("", &[("FIREFLOW__QUEUE__CONCURRENCY", "lots")], &[]).unwrap_err();
    assert!(error.contains("variable FIREFLOW__QUEUE__CONCURRENCY: queue.concurrency"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = config::load(Some("no/such/worker.toml".as_ref()), [], vec![]).unwrap_err().to_string();
    assert!(error.contains("no/such/worker.toml") && error.contains("can't read"), "{error}");
}

#[test]
fn a_share_may_be_a_variable() {
    for (text, expected) in [("0.25", 0.25), ("1", 1.0), (" 0 ", 0.0)] {
        let settings = load("", &[("FIREFLOW__TRACE__SAMPLE_RATIO", text)], &[]).unwrap();
        assert_eq!(settings.trace.sample_ratio, expected);
    }
    for text in ["half", "NaN", "1.5"] {
        let error = load("", &[("FIREFLOW__TRACE__SAMPLE_RATIO", text)], &[]).unwrap_err();
        assert!(error.contains("variable FIREFLOW__TRACE__SAMPLE_RATIO: trace.sample_ratio"), "{text}: {error}");
    }
}

#[test]
fn the_worker_s_own_files_are_known() {
    let settings = load(
        "[database]\nurl = \"postgres://h/db?sslcert=%2Fc.pem&sslkey=%2Fk%20.pem&passfile=/p\"\npassword_file = \"/w\"\n\
         [admin]\ntoken_file = \"/t\"\n[trace]\nheaders_file = \"/h\"\n",
        &[],
        &[],
    );
    let files = settings.unwrap().files();
    assert_eq!(files, ["/k .pem", "/p", "/w", "/t", "/h"].map(std::path::PathBuf::from));
}

#[test]
fn urls_and_the_token_may_be_credentials_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let directory = [("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())];
    let file = "[database]\nurl = \"postgres://file/db\"\n";
    assert_eq!(load(file, &directory, &[]).unwrap().database.url, "postgres://file/db", "there is no credential yet");
    std::fs::write(folder.path().join("database-url"), "postgres://credential/db\n").unwrap();
    std::fs::write(folder.path().join("flows-database-url"), "postgres://flows/db").unwrap();
    std::fs::write(folder.path().join("admin-token"), "0123456789abcdef").unwrap();
    std::fs::write(folder.path().join("trace-headers"), "x-api-key: hush").unwrap();
    let settings = load(file, &directory, &[]).unwrap();
    assert_eq!(settings.database.url, "postgres://credential/db");
    assert_eq!(settings.database.flows_url.as_deref(), Some("postgres://flows/db"));
    assert_eq!(settings.admin.token_file, Some(folder.path().join("admin-token")));
    assert_eq!(settings.trace.headers_file, Some(folder.path().join("trace-headers")));
    let own = settings.files();
    assert!(own.contains(&folder.path().join("trace-headers")) && own.contains(&folder.path().join("admin-token")));
    let both = [directory[0], ("DATABASE_URL", "postgres://environment/db")];
    assert_eq!(load(file, &both, &[]).unwrap().database.url, "postgres://environment/db");
    let named = load("[admin]\ntoken_file = \"/mine\"\n", &directory, &[]).unwrap();
    assert_eq!(named.admin.token_file, Some("/mine".into()));

    std::fs::write(folder.path().join("database-url"), "postgres://u:verysecret@h:port/db").unwrap();
    let error = load("", &directory, &[]).unwrap_err();
    assert!(error.contains("credential database-url: database.url") && !error.contains("verysecret"), "{error}");
    std::fs::write(folder.path().join("database-url"), "verysecret\nverysecret\n").unwrap();
    let error = load("", &directory, &[]).unwrap_err();
    assert!(error.contains("/database-url: can't read") && error.contains("more than one line"), "{error}");
    assert!(!error.contains("verysecret"), "{error}");
}

#[test]
fn a_file_beyond_all_measure_and_one_that_is_no_text_are_refused() {
    let comment = format!("# {}\n", "x".repeat(1024 * 1024));
    let error = load(&comment, &[], &[]).unwrap_err();
    assert!(error.contains("worker.toml: can't read the configuration: it is longer than 1048576 bytes"), "{error}");
    let error = config::load(Some(std::path::Path::new("/dev/zero")), [], vec![]).unwrap_err().to_string();
    assert!(error.contains("/dev/zero: can't read the configuration"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"[queue]\nname = \"\xff\"\n").unwrap();
    let error = config::load(Some(file.path()), [], vec![]).unwrap_err().to_string();
    assert!(error.contains("no text in UTF-8"), "{error}");
}
