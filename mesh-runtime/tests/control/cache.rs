//! Starting, and going on, from the last good state on disk.

use crate::{
    endpoints, entry, eventually,
    fake::{Fake, Reply},
    reason, route, started, version,
};
use mesh_runtime::{Settings, Workload};
use serde_json::json;
use std::{fs, path::PathBuf, time::Duration};

#[tokio::test]
async fn a_workload_starts_from_its_cache_while_the_endpoint_is_gone() {
    let (fake, cache) = (Fake::tls().await, tempfile::tempdir().unwrap());
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"])]));
    let first = cached(&fake, &cache).await;
    let serial = first.identity().current().unwrap().svid.serial().to_owned();
    drop(first);
    fake.down();
    // The token is not needed any more.
    let mut settings = settings(&fake, &cache);
    settings.join_token = None;
    let second = Workload::start(settings).await.unwrap();
    assert_eq!(reason(&second), "ready");
    assert_eq!((version(&second).as_str(), endpoints(&second)), ("v1", vec!["10.0.0.1:8080".to_owned()]));
    assert_eq!(second.identity().current().unwrap().svid.serial(), serial);
    assert!(second.in_force().unwrap().from_cache);
    fake.up();
    eventually("the endpoint to confirm it", || !second.in_force().unwrap().from_cache).await;
    assert_eq!(fake.seen("/v1/certificates").len(), 1);
    assert_eq!(fake.seen("/v1/resources").last().unwrap().etag.as_deref(), Some("v1"));
}

#[tokio::test]
async fn over_plain_http_the_cache_holds_the_renewal_bearer_too() {
    let (fake, cache) = (Fake::plain().await, tempfile::tempdir().unwrap());
    drop(cached(&fake, &cache).await);
    let mut settings = settings(&fake, &cache);
    settings.join_token = None;
    let second = Workload::start(settings).await.unwrap();
    eventually("the endpoint to confirm it", || !second.in_force().unwrap().from_cache).await;
}

#[tokio::test]
async fn an_expired_certificate_in_the_cache_is_not_used() {
    let (fake, cache) = (Fake::tls().await, tempfile::tempdir().unwrap());
    fake.state.subject.lock().unwrap().1 = Duration::from_secs(2);
    let first = cached(&fake, &cache).await;
    fake.down();
    eventually("its end", || reason(&first).contains("expired")).await;
    drop(first);
    let second = Workload::start(settings(&fake, &cache)).await.unwrap();
    assert!(second.identity().current().is_none());
    assert!(reason(&second).starts_with("no identity yet"), "{}", reason(&second));
    assert_eq!(version(&second), "v1");
}

#[tokio::test]
async fn a_cache_that_does_not_read_is_no_reason_not_to_start() {
    let (fake, cache) = (Fake::tls().await, tempfile::tempdir().unwrap());
    drop(cached(&fake, &cache).await);
    for name in ["identity.json", "resources.json"] {
        let path = files(&cache).into_iter().find(|path| path.ends_with(name)).unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
    }
    fake.down();
    let second = Workload::start(settings(&fake, &cache)).await.unwrap();
    assert!(reason(&second).contains("the cached configuration does not read"), "{}", reason(&second));
    fake.up();
    eventually("a start from the endpoint", || reason(&second) == "ready").await;
}

#[tokio::test]
async fn a_cached_key_that_belongs_to_another_certificate_is_not_used() {
    let (fake, cache) = (Fake::tls().await, tempfile::tempdir().unwrap());
    drop(cached(&fake, &cache).await);
    let path = files(&cache).into_iter().find(|path| path.ends_with("identity.json")).unwrap();
    let mut identity: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    identity["key"] = mesh_runtime::identity::KeyPair::generate().unwrap().to_pem().into();
    fs::write(&path, identity.to_string()).unwrap();
    fake.down();
    let second = Workload::start(settings(&fake, &cache)).await.unwrap();
    assert!(second.identity().current().is_none());
}

#[tokio::test]
async fn the_cache_keeps_the_last_good_version_of_a_refused_object() {
    let (fake, cache) = (Fake::tls().await, tempfile::tempdir().unwrap());
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"]), route("payment", "3s")]));
    let first = cached(&fake, &cache).await;
    fake.serve("v2", json!([entry("payment", &["10.0.0.1"]), route("payment", "three")]));
    eventually("the new version", || version(&first) == "v2").await;
    eventually("it on disk", || resources(&cache).contains("\"v2\"")).await;
    let kept = resources(&cache);
    assert!(kept.contains("3s") && !kept.contains("three"), "{kept}");
    assert!(kept.contains("\"etag\":null"), "{kept}");
    fake.script("/v1/resources", Some(Reply::new(503, "")));
    drop(first);
    let second = Workload::start(settings(&fake, &cache)).await.unwrap();
    assert_eq!(second.in_force().unwrap().rejected().count(), 0);
}

#[tokio::test]
async fn two_replicas_on_one_machine_do_not_share_a_cache() {
    let (fake, cache) = (Fake::tls().await, tempfile::tempdir().unwrap());
    let _first = cached(&fake, &cache).await;
    let _second = started(settings(&fake, &cache)).await;
    eventually("two caches", || {
        files(&cache).iter().filter(|path| path.ends_with("identity.json")).count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_cache_that_cannot_be_made_is_named_as_the_reason() {
    let (fake, file) = (Fake::tls().await, tempfile::NamedTempFile::new().unwrap());
    fake.down();
    let mut settings = fake.settings();
    settings.cache_dir = Some(file.path().to_owned());
    let workload = Workload::start(settings).await.unwrap();
    assert!(reason(&workload).contains("the cache (MESH_CACHE_DIR) cannot be used"), "{}", reason(&workload));
}

/// Starts a workload and waits until all of its state is on disk.
async fn cached(fake: &Fake, cache: &tempfile::TempDir) -> Workload {
    let workload = started(settings(fake, cache)).await;
    eventually("its state on disk", || {
        files(cache).iter().filter(|path| path.extension().is_some()).count() == 2
    })
    .await;
    workload
}

fn settings(fake: &Fake, cache: &tempfile::TempDir) -> Settings {
    let mut settings = fake.settings();
    settings.cache_dir = Some(cache.path().to_owned());
    settings
}

fn resources(cache: &tempfile::TempDir) -> String {
    let path = files(cache).into_iter().find(|path| path.ends_with("resources.json"));
    fs::read_to_string(path.unwrap()).unwrap_or_default()
}

/// Every file that is whole.
fn files(cache: &tempfile::TempDir) -> Vec<PathBuf> {
    let directories = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = directories.flat_map(|directory| fs::read_dir(directory).unwrap());
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "next"))
        .collect()
}
