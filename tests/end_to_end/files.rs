//! A mesh without a control endpoint: configuration, registry and identity from files, watched for change.

use crate::harness::{Echo, command, eventually};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn a_mesh_of_files_needs_no_control_endpoint() {
    let files = Files::new();
    files.write("mesh.yaml", STRICT);
    let payments = ["v1", "v2"].map(|version| files.echo("payment", version).ready());
    let checkout = files.echo("checkout", "v1").ready();

    files.write("mesh.yaml", &mesh(payments.each_ref().map(|payment| payment.mesh), 100));
    await_only(&checkout, "v1");
    files.write("mesh.yaml", &mesh(payments.each_ref().map(|payment| payment.mesh), 0));
    await_only(&checkout, "v2");
    let call = checkout.call("http://payment/", 1).remove(0);
    assert_eq!(call.body["peer"], "spiffe://files.example/ns/default/sa/checkout", "{call:?}");
}

#[test]
fn a_certificate_that_is_replaced_in_its_file_is_used_from_then_on() {
    let files = Files::new();
    files.write("mesh.yaml", STRICT);
    let payment = files.echo("payment", "v1").ready();
    files.write("mesh.yaml", &mesh([payment.mesh; 2], 100));
    let mut checkout = files.echo("checkout", "v1").ready();
    await_only(&checkout, "v1");
    let serial = |echo: &mut Echo| echo.admin("/identity").json()["serial"].clone();
    let before = serial(&mut checkout);
    files.issue("checkout");
    eventually("the new certificate is in use", || (serial(&mut checkout) != before).then_some(()));
    assert!(checkout.call("http://payment/", 20).iter().all(|call| call.is_fine()));
}

#[test]
fn a_service_that_policy_wants_strict_does_not_start_without_an_identity() {
    let files = Files::new();
    files.write("mesh.yaml", STRICT);
    let mut echo = command("echo");
    echo.args(["--service", "payment", "--version", "v1", "--config"]).arg(files.path("mesh.yaml"));
    let output = echo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("MESH_CERT"), "{output:?}");
}

#[track_caller]
fn await_only(checkout: &Echo, version: &str) {
    eventually(&format!("all calls go to {version}"), || {
        checkout.call("http://payment/", 20).iter().all(|call| call.version() == version).then_some(())
    });
}

/// Returns a mesh in which payment has two versions, of which the first gets `weight` percent of the calls.
fn mesh([v1, v2]: [SocketAddr; 2], weight: u32) -> String {
    let (first, second, rest) = (v1.port(), v2.port(), 100 - weight);
    format!(
        "{STRICT}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: payment}}
spec:
  hosts: [payment.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
  - address: 127.0.0.1
    ports: {{http: {first}}}
    labels: {{version: v1, security.istio.io/tlsMode: istio}}
    serviceAccount: payment
  - address: 127.0.0.1
    ports: {{http: {second}}}
    labels: {{version: v2, security.istio.io/tlsMode: istio}}
    serviceAccount: payment
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: payment}}
spec:
  host: payment
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: payment}}
spec:
  hosts: [payment]
  http:
  - route:
    - {{destination: {{host: payment, subset: v1}}, weight: {weight}}}
    - {{destination: {{host: payment, subset: v2}}, weight: {rest}}}
"
    )
}

/// A directory with a mesh's files, and an authority that signs for it.
struct Files {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("roots.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(root, key) }
    }

    /// Starts an echo with nothing but files.
    #[track_caller]
    fn echo(&self, service: &str, version: &str) -> Echo {
        let [cert, key] = self.issue(service);
        let mut command = command("echo");
        command.args(["--service", service, "--version", version, "--admin", "127.0.0.1:0"]);
        command.arg("--config").arg(self.path("mesh.yaml"));
        command.arg("--cert").arg(cert).arg("--key").arg(key);
        command.arg("--bundle").arg(format!("files.example={}", self.path("roots.pem").display()));
        Echo::start(&format!("{service} {version}"), &mut command)
    }

    /// Writes a new certificate and key for `account`, in place of those it has.
    fn issue(&self, account: &str) -> [PathBuf; 2] {
        let mut leaf = CertificateParams::default();
        let id = format!("spiffe://files.example/ns/default/sa/{account}");
        leaf.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{account}.key"), &key.serialize_pem());
        self.write(&format!("{account}.pem"), &certificate.pem());
        [self.path(format!("{account}.pem")), self.path(format!("{account}.key"))]
    }

    /// Replaces a file, all at once.
    fn write(&self, name: &str, text: &str) {
        let beside = self.path(format!("{name}.new"));
        std::fs::write(&beside, text).unwrap();
        owner_only(&beside);
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn owner_only(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
