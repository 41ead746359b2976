use super::*;
use mesh_runtime::identity::{Bundles, Side, verify_svid};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

const TTL: Duration = Duration::from_secs(1000);

/// A day of a mesh: workloads renew at half of the life of what they have, each at its own time, the endpoint is looked
/// after every ten seconds and restarted now and then, and whoever calls whom at any moment is believed.
#[test]
fn while_the_root_is_rotated_everybody_believes_everybody_at_every_moment() {
    for is_restarted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let start = SystemTime::now();
        let mut authorities = open(&data, start);
        let mut workloads: Vec<_> = (0..10).map(|n| Workload::of(&authorities, n, start)).collect();
        let first = authorities.standing().current.pin().to_owned();
        let mut roots = std::collections::BTreeSet::new();
        for step in 0..350_u64 {
            let now = start + Duration::from_secs(10 * step);
            if step == 20 {
                begin(&data, TTL, now).unwrap();
            }
            if is_restarted && step % 37 == 0 {
                authorities = open(&data, now);
            }
            authorities.advance(&data, now).unwrap();
            for (n, workload) in workloads.iter_mut().enumerate() {
                // One of them is as late as one may be.
                let due = if n == 0 { 99 } else { 45 + n as u64 };
                if step - workload.renewed >= due {
                    *workload = Workload::of(&authorities, n, now);
                    workload.renewed = step;
                }
            }
            roots.insert(authorities.standing().pins().count());
            for (caller, called) in workloads.iter().flat_map(|a| workloads.iter().map(move |b| (a, b))) {
                called.believes(caller, now).unwrap_or_else(|error| panic!("step {step}: {error}"));
            }
        }
        let last = authorities.standing();
        assert_ne!(last.current.pin(), first, "the new root has taken over");
        assert_eq!((last.pins().count(), roots.into_iter().collect::<Vec<_>>()), (1, vec![1, 2]));
        for workload in &workloads {
            assert_eq!(workload.bundles.trust_domains().count(), 1);
            assert_eq!(workload.bundles.to_pem(), bundles(&last).to_pem());
        }
    }
}

#[test]
fn an_end_that_is_cut_short_anywhere_is_brought_to_its_end_by_the_next_start() {
    for steps in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let now = SystemTime::now();
        open(&data, now);
        begin(&data, TTL, now).unwrap();
        let next = open(&data, now).standing().next.as_ref().unwrap().authority.pin().to_owned();
        let record = Record { finishing: true, ..Record::read(&data).unwrap().unwrap() };
        let undone: [&dyn Fn(); 4] = [
            &|| data.replace(RECORD_FILE, &serde_json::to_vec(&record).unwrap()).unwrap(),
            &|| data.remove(Files::CURRENT.root).unwrap(),
            &|| data.rename(Files::NEXT.key, Files::CURRENT.key).unwrap(),
            &|| data.rename(Files::NEXT.root, Files::CURRENT.root).unwrap(),
        ];
        undone.iter().take(steps).for_each(|step| step());
        let later = now + 3 * TTL;
        assert_eq!(open(&data, later).standing().current.pin(), next, "after {steps} steps");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(open(&data, later).standing().pins().collect::<Vec<_>>(), [next]);
    }
}

#[test]
fn one_rotation_at_a_time_and_only_where_there_is_an_authority() {
    let dir = tempfile::tempdir().unwrap();
    let error = rotate_root(&dir.path().join("nothing"), TTL).unwrap_err().to_string();
    assert!(error.contains("no ca.key"), "{error}");
    let data = DataDir::open(dir.path()).unwrap();
    open(&data, SystemTime::now());
    rotate_root(dir.path(), TTL).unwrap();
    let error = rotate_root(dir.path(), TTL).unwrap_err().to_string();
    assert!(error.contains("under way"), "{error}");
}

#[cfg(unix)]
#[test]
fn the_keys_of_both_authorities_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path()).unwrap();
    let now = SystemTime::now();
    begin_in(&data, now);
    let mode = |name: &str| std::fs::metadata(data.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([Files::CURRENT.key, Files::NEXT.key, RECORD_FILE].map(mode), [0o600; 3]);
    open(&data, now + 3 * TTL);
    assert_eq!(mode(Files::CURRENT.key), 0o600);
    std::fs::set_permissions(data.path(Files::CURRENT.key), std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Authorities::open(&data, &"td".parse().unwrap(), TTL, now).unwrap_err().to_string();
    assert!(refused.contains("lets others read"), "{refused}");
}

#[test]
fn an_endpoint_whose_certificates_last_longer_overlaps_as_long_as_if_it_had_begun() {
    let (short, long) = (Duration::from_secs(60), Duration::from_secs(86_400));
    let record = |ttl| Record { begun: 0, overlap_seconds: overlap_seconds(ttl), finishing: false };
    assert_eq!(record(short).rotation(long), record(long).rotation(long));
    assert_eq!(record(long).rotation(short), record(long).rotation(long));
}

fn begin_in(data: &DataDir, now: SystemTime) {
    open(data, now);
    begin(data, TTL, now).unwrap();
    open(data, now);
}

struct Workload {
    leaf: CertificateDer<'static>,
    bundles: Bundles,
    renewed: u64,
}

impl Workload {
    fn of(authorities: &Authorities, n: usize, now: SystemTime) -> Self {
        let standing = authorities.standing();
        let id = format!("spiffe://td/ns/shop/sa/w{n}").parse().unwrap();
        let issued = standing.issue(&KeyPair::generate().unwrap(), &id, now).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap();
        Self { leaf, bundles: bundles(&standing), renewed: 0 }
    }

    fn believes(&self, caller: &Self, now: SystemTime) -> Result<(), String> {
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap());
        let judged = verify_svid(&caller.leaf, &[], &self.bundles, Side::Client, now);
        judged.map(drop).map_err(|error| error.to_string())
    }
}

fn bundles(standing: &Standing) -> Bundles {
    let bundles = standing.bundles();
    Bundles::from_pem(bundles.iter().map(|(domain, pem)| (domain.as_str(), pem.as_str()))).unwrap()
}

fn open(data: &DataDir, now: SystemTime) -> Authorities {
    Authorities::open(data, &"td".parse().unwrap(), TTL, now).unwrap()
}
