//! The manifests for Kubernetes. There is no cluster here, and no schema of its objects: what is checked is their syntax, that
//! they fit each other, that they keep to the restricted standard, and that the worker and PostgreSQL take what they say.

use std::collections::BTreeMap;

use fireflow_worker::config::{self, Settings};
use serde_json::Value as Json;

use super::image::image;
use super::support::TestDatabase;
use super::support::client::SqlClient;
use super::support::worker::program;
use super::support::yaml;
use super::{HAND_OVER, path, read, texts};

const FOLDER: &str = "deploy/kubernetes";
const SECRETS: &str = "secrets.example.yaml";

/// Kinds that are used, with the version of each.
const KINDS: [(&str, &str); 9] = [
    ("Kustomization", "kustomize.config.k8s.io/v1beta1"),
    ("Namespace", "v1"),
    ("Secret", "v1"),
    ("Job", "batch/v1"),
    ("Deployment", "apps/v1"),
    ("PodDisruptionBudget", "policy/v1"),
    ("ScaledObject", "keda.sh/v1alpha1"),
    ("TriggerAuthentication", "keda.sh/v1alpha1"),
    ("PodMonitor", "monitoring.coreos.com/v1"),
];

fn files() -> Vec<String> {
    let entries = std::fs::read_dir(path(FOLDER)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".yaml")).collect()
}

/// All objects by kind, secrets apart; there is one of each.
fn objects() -> BTreeMap<String, Json> {
    let mut objects = BTreeMap::new();
    for file in files() {
        for object in yaml::documents(&file, &read(&format!("{FOLDER}/{file}"))) {
            let kind = object["kind"].as_str().unwrap_or_else(|| panic!("{file}: no kind")).to_owned();
            assert!(
                KINDS.iter().any(|(known, version)| *known == kind && object["apiVersion"] == *version),
                "{object}"
            );
            if kind == "Secret" {
                assert_eq!(file, SECRETS);
                continue;
            }
            assert!(objects.insert(kind.clone(), object).is_none(), "{file}: a second {kind}");
        }
    }
    assert_eq!(objects.len(), KINDS.len() - 1);
    objects
}

/// The keys of each secret, with their example values.
fn secrets() -> BTreeMap<String, Json> {
    let documents = yaml::documents(SECRETS, &read(&format!("{FOLDER}/{SECRETS}")));
    documents
        .iter()
        .map(|secret| (secret["metadata"]["name"].as_str().unwrap().into(), secret["stringData"].clone()))
        .collect()
}

/// The settings of the pods: the image's variables and the file of the ConfigMap.
fn settings() -> Settings {
    let environment = image().1.environment();
    config::load(Some(&path(FOLDER).join("worker.toml")), environment, Vec::new()).unwrap().0
}

/// The specification of an object's pods.
fn pod(object: &Json) -> &Json {
    &object["spec"]["template"]["spec"]
}

#[test]
fn everything_is_applied_or_said_to_be_left_out() {
    let objects = objects();
    let kustomization = read(&format!("{FOLDER}/kustomization.yaml"));
    let applied = texts(&objects["Kustomization"]["resources"]);
    for file in files() {
        let apart = file == "kustomization.yaml" || file == SECRETS;
        let optional = kustomization.contains(&format!("# - {file}\n"));
        assert!(apart ^ optional ^ applied.contains(&file), "{file}");
    }
    assert!(applied.iter().all(|file| path(FOLDER).join(file).exists()), "{applied:?}");
    let generator = &objects["Kustomization"]["configMapGenerator"][0];
    assert_eq!(texts(&generator["files"]), ["worker.toml"]);
    let namespace = objects["Kustomization"]["namespace"].as_str();
    assert_eq!(objects["Namespace"]["metadata"]["name"].as_str(), namespace);
    for (kind, object) in objects.iter().filter(|(kind, _)| *kind != "Kustomization") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        assert!(name.starts_with("fireflow"), "{kind} {name:?}");
        let elsewhere = &object["metadata"]["namespace"];
        assert!(elsewhere.is_null() || elsewhere.as_str() == namespace, "{kind}");
    }
}

#[test]
fn pods_keep_to_the_restricted_standard() {
    let (objects, (_, shipped)) = (objects(), image());
    assert_eq!(objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    for kind in ["Deployment", "Job"] {
        let pod = pod(&objects[kind]);
        let context = &pod["securityContext"];
        assert_eq!(
            (&context["runAsNonRoot"], &context["seccompProfile"]["type"]),
            (&true.into(), &"RuntimeDefault".into())
        );
        assert_eq!(format!("{}:{}", context["runAsUser"], context["runAsGroup"]), shipped.the("USER"), "{kind}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{kind}");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[field].is_null(), "{kind}: {field}");
        }
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{kind}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{kind}");
            assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"], "{kind}");
            assert!(container["command"].is_null(), "{kind}: the image's own program");
            let resources = &container["resources"];
            assert!(resources["requests"]["memory"].is_string() && resources["limits"]["memory"].is_string(), "{kind}");
        }
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        assert!(volumes.clone().all(|volume| volume["hostPath"].is_null()), "{kind}");
    }
}

#[test]
fn pods_drain_in_time_and_are_probed_where_the_worker_listens() {
    let (objects, settings) = (objects(), settings());
    let pod = pod(&objects["Deployment"]);
    let grace = std::time::Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    for drain in [settings.worker.drain_timeout, Settings::default().worker.drain_timeout] {
        assert!(grace >= drain + HAND_OVER, "{grace:?} for a drain of {drain:?}");
    }
    let container = &pod["containers"][0];
    let port = &container["ports"][0];
    assert_eq!(settings.admin.listen.to_string(), format!("0.0.0.0:{}", port["containerPort"]));
    for (probe, asked) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&asked.into(), &port["name"]), "{probe}");
    }
    let endpoint = &objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["port"], &endpoint["path"]), (&port["name"], &"/metrics".into()));
}

#[test]
fn names_and_labels_fit_each_other() {
    let objects = objects();
    let deployment = &objects["Deployment"];
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let spread = &pod(deployment)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"];
    for (what, selector) in [
        ("deployment", &deployment["spec"]["selector"]["matchLabels"]),
        ("spread", spread),
        ("disruption", &objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]),
        ("monitor", &objects["PodMonitor"]["spec"]["selector"]["matchLabels"]),
    ] {
        assert_eq!(selector, labels, "{what}");
        assert_ne!(selector, &objects["Job"]["spec"]["template"]["metadata"]["labels"], "{what} takes the job's pods");
    }
    let scaled = &objects["ScaledObject"]["spec"];
    assert_eq!(scaled["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    let trigger = &scaled["triggers"][0];
    assert_eq!(trigger["authenticationRef"]["name"], objects["TriggerAuthentication"]["metadata"]["name"]);
    // The configuration is mounted where the image looks for it.
    let (_, file) = image().1.environment().into_iter().find(|(name, _)| name == "FIREFLOW_CONFIG").unwrap();
    let generated = &objects["Kustomization"]["configMapGenerator"][0]["name"];
    // By the job as well, or it would migrate what the workers don't use.
    for kind in ["Deployment", "Job"] {
        let mount = &pod(&objects[kind])["containers"][0]["volumeMounts"][0];
        assert_eq!(format!("{}/worker.toml", mount["mountPath"].as_str().unwrap_or_default()), file, "{kind}");
        let volume = &pod(&objects[kind])["volumes"][0];
        assert_eq!(mount["name"], volume["name"], "{kind}");
        assert_eq!(&volume["configMap"]["name"], generated, "{kind}");
    }
    let image = &objects["Kustomization"]["images"][0];
    assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"));
    for kind in ["Deployment", "Job"] {
        assert_eq!(pod(&objects[kind])["containers"][0]["image"], image["name"], "{kind}");
    }
}

#[tokio::test]
async fn variables_are_the_worker_s_and_secrets_are_files() {
    let (objects, secrets) = (objects(), secrets());
    for kind in ["Deployment", "Job"] {
        let pod = pod(&objects[kind]);
        let container = &pod["containers"][0];
        let mut environment = Vec::new();
        for variable in container["env"].as_array().unwrap() {
            let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value = if field == "metadata.name" {
                "fireflow-worker-5d8f7c9b4-x2x7q"
            } else {
                variable["value"].as_str().unwrap()
            };
            environment.push((variable["name"].as_str().unwrap().to_owned(), value.to_owned()));
        }
        let (_, folder) = environment.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY").expect("secrets");
        let mount = container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["mountPath"] == **folder);
        let volume = &mount.expect("it is mounted")["name"];
        let volume = pod["volumes"].as_array().unwrap().iter().find(|other| other["name"] == *volume).unwrap();
        let secret = volume["secret"]["secretName"].as_str().unwrap();
        // By its group, which is that of the image's user.
        assert_eq!(
            (&volume["secret"]["defaultMode"], &pod["securityContext"]["fsGroup"]),
            (&440.into(), &10001.into())
        );
        let url = secrets[secret]["database-url"].as_str().unwrap();
        url.parse::<fireflow_worker::postgres::DatabaseUrl>().unwrap();
        assert!(url.contains("sslmode=verify-full"), "{kind}");

        environment.retain(|(name, _)| name.starts_with("FIREFLOW__"));
        let (settings, _) = config::load(None, environment, Vec::new()).unwrap();
        assert_eq!(settings.worker.id.is_some(), kind == "Deployment", "every worker has an id of its own");
        let arguments = texts(&container["args"]);
        let known = program("").args(&arguments).arg("--help").output().await.unwrap();
        assert!(known.status.success(), "{arguments:?}");
    }
    let connection = &objects["TriggerAuthentication"]["spec"]["secretTargetRef"][0];
    let token = &objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"];
    for reference in [connection, token] {
        let (name, key) = (reference["name"].as_str().unwrap(), reference["key"].as_str().unwrap());
        assert!(secrets[name][key].is_string(), "no {key} in {name}");
    }
    assert_eq!(token["name"], pod(&objects["Deployment"])["volumes"][1]["secret"]["secretName"]);
}

#[test]
fn as_many_workers_are_wanted_as_may_run_something() {
    let (objects, settings) = (objects(), settings());
    let queue = settings.queue.iter().next().unwrap();
    let scaled = &objects["ScaledObject"]["spec"];
    let metadata = &scaled["triggers"][0]["metadata"];
    assert_eq!(metadata["targetQueryValue"], queue.worker_concurrency.to_string());
    let most = scaled["maxReplicaCount"].as_u64().unwrap() * u64::from(queue.worker_concurrency);
    assert_eq!(most, u64::from(queue.concurrency));
    let query = metadata["query"].as_str().unwrap();
    assert!(query.contains(&format!("queue_name = '{}'", queue.name)), "{query}");
    let (_, limit) = query.split_once("LIMIT ").expect("a limit");
    assert!(limit.starts_with(&format!("{most})")), "{query}");
    // Delays, deadlines and dead workers need somebody.
    assert!(scaled["minReplicaCount"].as_u64().unwrap() >= 1);
}

/// The statements in the comments at the head of a manifest.
fn statements(file: &str) -> Vec<String> {
    let text = read(&format!("{FOLDER}/{file}"));
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let sql = lines.filter_map(|line| line.strip_prefix("#   ")).filter(|line| line.ends_with(';'));
    sql.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_scaler_s_query_counts_what_waits_and_runs_with_its_grants_alone() {
    let objects = objects();
    let query = objects["ScaledObject"]["spec"]["triggers"][0]["metadata"]["query"].as_str().unwrap().to_owned();
    // The newest layout of the system schema, and the oldest one that a worker serves.
    for oldest in [false, true] {
        let database = TestDatabase::new().await;
        let client = SqlClient::open(&database).await;
        if oldest {
            client.sql().batch_execute(include_str!("../schema/level_100.sql")).await.unwrap();
        }
        let role = format!("scaler_{}", uuid::Uuid::new_v4().simple());
        let statements = statements("scaledobject.yaml");
        assert_eq!(statements.len(), 3, "{statements:?}");
        for sql in statements {
            client.sql().batch_execute(&sql.replace("scaler", &role).replace("'...'", "'scales'")).await.unwrap();
        }
        let insert = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name)
                      SELECT $1::text || n, $1::text, 'executeFireFlow', $2 FROM generate_series(1, $3) n";
        for (status, queue, count) in [
            ("ENQUEUED", "fireflow-executions", 7),
            ("PENDING", "fireflow-executions", 3),
            ("DELAYED", "fireflow-executions", 4),
            ("SUCCESS", "fireflow-executions", 5),
        ] {
            client.execute(insert, &[&status, &queue, &count]).await;
        }
        let others =
            "UPDATE dbos.workflow_status SET queue_name = 'other' WHERE workflow_uuid IN ('ENQUEUED1', 'PENDING1')";
        assert_eq!(client.execute(others, &[]).await, 2);

        let mut settings: tokio_postgres::Config = database.url().parse().unwrap();
        settings.user(&role).password("scales");
        let (scaler, connection) = settings.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection); // ends with its client
        let counted = async || scaler.query_one(&query, &[]).await.unwrap().get::<_, i64>(0);
        assert_eq!(counted().await, 8);
        assert!(scaler.execute("DELETE FROM dbos.workflow_status", &[]).await.is_err());
        // However long the backlog is, as many as there can be workers for; and along the index of the claims.
        client.execute("UPDATE dbos.workflow_status SET queue_name = 'fireflow-executions'", &[]).await;
        let more = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name)
                    SELECT 'more-' || n, 'ENQUEUED', 'executeFireFlow', 'fireflow-executions' FROM generate_series(1, 500) n";
        client.execute(more, &[]).await;
        assert_eq!(counted().await, 100);
        scaler.batch_execute("SET enable_seqscan = off").await.unwrap();
        let plan = scaler.query(&format!("EXPLAIN {query}"), &[]).await.unwrap();
        let plan: String = plan.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
        assert!(plan.contains("idx_workflow_status_in_flight"), "{plan}");
        drop(scaler);
        client.sql().batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    }
}
