//! Workloads without a control endpoint: configuration and identity from files.

use crate::{endpoints, eventually, reason, started};
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::{Readiness, Settings, StartError, Workload};
use std::{fs, path::Path};

#[tokio::test]
async fn configuration_from_files_is_in_force_when_the_start_returns() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), entry("10.0.0.1")).unwrap();
    let workload = Workload::start(settings(directory.path())).await.unwrap();
    assert_eq!(
        (workload.readiness(), endpoints(&workload)),
        (Readiness::Ready, vec!["10.0.0.1:8080".to_owned()])
    );
    assert!(!workload.in_force().unwrap().version.is_empty());
}

#[tokio::test]
async fn one_broken_object_at_the_start_does_not_keep_a_workload_from_being_ready() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), entry("10.0.0.1")).unwrap();
    fs::write(directory.path().join("b.yaml"), "spec: {hosts: [").unwrap();
    let workload = Workload::start(settings(directory.path())).await.unwrap();
    assert_eq!(workload.readiness(), Readiness::Ready);
    assert!(workload.in_force().unwrap().rejected().count() > 0);
}

#[tokio::test]
async fn an_edit_is_in_force_soon_and_a_broken_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, entry("10.0.0.1")).unwrap();
    let workload = started(settings(directory.path())).await;
    fs::write(&file, entry("10.0.0.2")).unwrap();
    eventually("the edit", || endpoints(&workload) == ["10.0.0.2:8080"]).await;
    fs::write(&file, "spec: {hosts: [").unwrap();
    eventually("the finding", || workload.in_force().unwrap().rejected().count() > 0).await;
    assert_eq!(
        (endpoints(&workload), reason(&workload)),
        (vec!["10.0.0.2:8080".to_owned()], "ready".to_owned())
    );
    fs::remove_file(&file).unwrap();
    eventually("the removal", || endpoints(&workload).is_empty()).await;
}

#[tokio::test]
async fn a_name_among_the_endpoints_becomes_its_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let (by_name, file) = (entry("localhost").replace("STATIC", "DNS"), directory.path().join("a.yaml"));
    fs::write(&file, &by_name).unwrap();
    let workload = started(settings(directory.path())).await;
    eventually("the answer", || endpoints(&workload) == ["127.0.0.1:8080"]).await;
    fs::write(&file, by_name.replace("localhost", "no-such-name.invalid")).unwrap();
    eventually("the edit", || endpoints(&workload) == ["no-such-name.invalid:8080"]).await;
}

#[tokio::test]
async fn files_that_are_not_there_make_a_start_pointless() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("missing.yaml"), directory.path().to_owned()] {
        let error = Workload::start(settings(&path)).await.unwrap_err();
        assert!(matches!(error, StartError::Config(_)), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_workload_with_no_source_at_all_is_a_plain_client() {
    let workload = Workload::start(Settings::for_service("probe")).await.unwrap();
    assert_eq!(workload.readiness(), Readiness::Ready);
    assert_eq!(workload.config().current().inbound().mode, MtlsMode::Permissive);
    // Nothing to register with, and nothing to wait for.
    workload.register("127.0.0.1:9000".parse().unwrap()).await.withdraw().await;
    workload.drain();
    assert!(reason(&workload).starts_with("draining"));
}

#[tokio::test]
async fn contradictory_settings_do_not_start() {
    let mut settings = Settings::for_service("checkout");
    settings.cache_dir = Some("/nowhere".into());
    let error = Workload::start(settings).await.unwrap_err();
    assert!(error.to_string().starts_with("MESH_CACHE_DIR"), "{error}");
}

#[tokio::test]
async fn identity_files_that_do_not_read_make_a_start_pointless() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings::for_service("checkout");
    settings.identity_files = Some(mesh_runtime::identity::IdentityFiles {
        cert: directory.path().join("cert.pem"),
        key: directory.path().join("key.pem"),
        bundles: vec![("cluster.local".to_owned(), directory.path().join("ca.pem"))],
    });
    let error = Workload::start(settings).await.unwrap_err();
    assert!(matches!(error, StartError::Identity(_)), "{error:?}");
    assert!(error.to_string().contains("cert.pem"), "{error}");
}

fn settings(path: &Path) -> Settings {
    let mut settings = Settings::for_service("checkout");
    settings.config.push(path.to_owned());
    settings
}

fn entry(address: &str) -> String {
    crate::entry("payment", &[address]).to_string()
}
