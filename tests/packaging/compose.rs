//! The compose file: parsed, and its commands run as they stand there, on a real database.

use fireflow_worker::config::{self, Settings};
use serde_json::Value as Json;

use super::image::image;
use super::support::TestDatabase;
use super::support::worker::{WorkerProcess, program};
use super::support::yaml;
use super::{HAND_OVER, admin_port, duration, free_port, path, read, texts};

fn compose() -> Json {
    let documents = yaml::documents("compose.yaml", &read("compose.yaml"));
    assert_eq!(documents.len(), 1);
    documents[0].clone()
}

/// The services of the worker's image, by name.
fn ours(compose: &Json) -> Vec<(&String, &Json)> {
    let services = compose["services"].as_object().unwrap();
    services.iter().filter(|(_, service)| service["image"] == "fireflow-worker").collect()
}

/// A text with the defaults of its variables.
fn interpolated(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some((before, rest)) = text.split_once("${") {
        let (variable, after) = rest.split_once('}').unwrap();
        let (_, default) = variable.split_once(":-").unwrap_or_else(|| panic!("{variable} has no default"));
        text = format!("{before}{default}{after}");
    }
    text
}

/// The settings of a service's containers: the image's variables and its own.
fn settings(service: &Json) -> Settings {
    let environment = image().1.environment().into_iter().filter(|(name, _)| name != "FIREFLOW_CONFIG");
    let variables = service["environment"].as_object().unwrap();
    let own = variables.iter().map(|(name, value)| (name.clone(), interpolated(value.as_str().unwrap())));
    let environment: Vec<_> = environment.chain(own).collect();
    config::load(None, environment, Vec::new()).expect("settings that the worker takes").0
}

#[test]
fn every_container_of_the_image_is_closed_and_takes_its_settings() {
    let compose = compose();
    let services = ours(&compose);
    assert_eq!(services.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["migrate", "flows", "worker"]);
    let postgres = &compose["services"]["postgres"]["environment"];
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert!(texts(&service["security_opt"]).contains(&"no-new-privileges:true".to_owned()), "{name}");
        // User, host and database are those of the service beside it, and both have the same password.
        let (user, database) = (postgres["POSTGRES_USER"].as_str().unwrap(), postgres["POSTGRES_DB"].as_str().unwrap());
        assert_eq!(settings(service).database.url, format!("postgres://{user}@postgres:5432/{database}"), "{name}");
        assert!(texts(&service["secrets"]).contains(&"database-password".to_owned()), "{name}");
        assert_eq!(service["environment"]["CREDENTIALS_DIRECTORY"], "/run/secrets", "{name}");
    }
    assert_eq!(postgres["POSTGRES_PASSWORD_FILE"], "/run/secrets/database-password");
    let secrets = compose["secrets"].as_object().unwrap();
    for (name, secret) in secrets {
        let file = interpolated(secret["file"].as_str().unwrap());
        assert_eq!(read(&file).lines().count(), 1, "{name}");
    }
    for service in compose["services"].as_object().unwrap().values() {
        assert!(texts(&service["secrets"]).iter().all(|name| secrets.contains_key(name)), "{service}");
    }
}

#[test]
fn workers_start_after_the_database_the_schemas_and_the_flows() {
    let compose = compose();
    let services = &compose["services"];
    let waits =
        |service: &str, other: &str| services[service]["depends_on"][other]["condition"].as_str().map(str::to_owned);
    assert_eq!(waits("migrate", "postgres").as_deref(), Some("service_healthy"));
    assert_eq!(waits("flows", "migrate").as_deref(), Some("service_completed_successfully"));
    assert_eq!(waits("worker", "flows").as_deref(), Some("service_completed_successfully"));
    assert!(services["postgres"]["healthcheck"]["test"].is_array());
    for once in ["migrate", "flows"] {
        // It ends, and that is not to be taken for a failure.
        assert_eq!(services[once]["restart"], "no");
        assert_eq!(services[once]["healthcheck"]["disable"], true);
    }
}

#[test]
fn the_worker_can_be_scaled_and_gets_its_time_to_drain() {
    let compose = compose();
    let worker = &compose["services"]["worker"];
    let settings = settings(worker);
    let stop = duration(worker["stop_grace_period"].as_str().unwrap());
    assert!(stop >= settings.worker.drain_timeout + HAND_OVER, "{stop:?}");
    assert!(stop >= Settings::default().worker.drain_timeout + HAND_OVER, "{stop:?}");
    assert!(worker["stop_signal"].is_null(), "the image's is right");
    // One name, id or port for all would let only one of them run.
    assert!(worker["container_name"].is_null() && worker["hostname"].is_null() && settings.worker.id.is_none());
    let ports = texts(&worker["ports"]);
    let [port] = ports.as_slice() else { panic!("{ports:?}") };
    let parts: Vec<&str> = port.split(':').collect();
    let [address, outside, inside] = parts.as_slice() else { panic!("{port}") };
    assert_eq!((*address, *inside), ("127.0.0.1", admin_port(&settings).as_str()));
    let (first, last) = outside.split_once('-').expect("a range");
    assert!(last.parse::<u16>().unwrap() - first.parse::<u16>().unwrap() >= 2, "{outside}");
}

/// The arguments that a service gives to the image, with the folder that it mounts where that is here.
fn arguments(service: &Json) -> Vec<String> {
    let mut arguments = match &service["command"] {
        Json::Null => image().1.command("CMD"),
        command => texts(command),
    };
    for volume in service["volumes"].as_array().into_iter().flatten() {
        let parts: Vec<&str> = volume.as_str().unwrap().split(':').collect();
        let [from, to, "ro"] = parts.as_slice() else { panic!("{volume}") };
        for argument in arguments.iter_mut().filter(|argument| *argument == to) {
            *argument = path(from.trim_start_matches("./")).display().to_string();
        }
    }
    arguments
}

#[tokio::test]
async fn its_commands_make_the_schemas_store_the_flows_and_serve_them() {
    let (compose, database) = (compose(), TestDatabase::new().await);
    let services = &compose["services"];
    // Twice, as `docker compose up` does it again.
    for _ in 0..2 {
        for once in ["migrate", "flows"] {
            let arguments = arguments(&services[once]);
            let output = program(&database.url()).args(&arguments).output().await.unwrap();
            assert!(output.status.success(), "{once} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let stored: Vec<String> = {
        let client = database.client().await;
        let rows = client.query("SELECT id FROM fireflow_flows WHERE version = 1 ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(stored.len(), std::fs::read_dir(path("examples/flows")).unwrap().count(), "{stored:?}");

    let worker = &services["worker"];
    assert_eq!(arguments(worker), ["run"]);
    let listen = format!("0.0.0.0:{}", free_port());
    let check = texts(&worker["healthcheck"]["test"]);
    let entry = image().1.command("ENTRYPOINT");
    assert_eq!((check[0].as_str(), &check[1]), ("CMD", &entry[0]), "no shell, and the image's program");
    let healthy = async || {
        let mut command = program(&database.url());
        command.args(&check[2..]).env("FIREFLOW__ADMIN__LISTEN", &listen).output().await.unwrap().status.success()
    };
    assert!(!healthy().await);
    let settings = [("admin.enabled", "true"), ("admin.listen", listen.as_str())];
    let serving = WorkerProcess::start(&database.url(), "composed", &settings).await;
    assert!(healthy().await);
    let enqueued = program(&database.url()).args(["enqueue", "hello-world", "--input", "name=Ada", "--wait"]).output();
    let enqueued = enqueued.await.unwrap();
    assert!(enqueued.status.success(), "{}", String::from_utf8_lossy(&enqueued.stderr));
    assert!(serving.stop().await.success());
}
