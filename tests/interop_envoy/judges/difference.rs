//! Where the two judges may differ, and why. Each has its heading in `interop/envoy/DIFFERENCES.md`.

use super::request::Request;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The application answered.
    Allowed,
    /// Policy answered.
    Denied,
    /// It was no request for the server, or an ambiguous one.
    Refused,
}

/// Returns the heading of the difference that explains these verdicts; `None` if nothing does.
///
/// Nothing excuses that Envoy denies what we allow.
pub(crate) fn explain(
    request: &Request,
    policies: &str,
    envoy: Verdict,
    ours: Verdict,
) -> Option<&'static str> {
    use Verdict::{Allowed, Denied, Refused};
    let path = request.target.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let ambiguous = ["%2f", "%5c", "%00", "%%32f"].iter().any(|escape| path.contains(escape));
    let plain = path.replace("%2e", ".").replace('\\', "/");
    let parameters = ["/..;", "/.;"].iter().any(|segment| plain.contains(segment));
    let roles = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-role")).count();
    match (envoy, ours) {
        (Refused, Allowed | Denied) if request.target.contains('#') => Some("A fragment"),
        (Refused, Allowed | Denied) if request.method == "BREW" => Some("A method that HTTP does not know"),
        (Allowed | Denied, Refused) if ambiguous => Some("An escaped slash, backslash or NUL"),
        (Allowed | Denied, Refused) if parameters => Some("A dot segment with parameters"),
        (Allowed | Denied, Refused) if path.starts_with("http:") => Some("Two hosts"),
        (Allowed, Denied) if roles > 1 => Some("Several values of a header"),
        (Allowed, Denied) if request.host.contains(':') || policies.contains("echo:80") => {
            Some("A port in the host")
        }
        _ => None,
    }
}
