//! The trust domains of the mesh's own workloads, of which each stands for all: a policy that was written before the
//! mesh changed its name keeps its meaning.
// spec: istio pilot/pkg/security/trustdomain ReplaceTrustDomainAliases, ExpandTrustDomainAliases

use crate::identity::TrustDomain;

/// The trust domain of the mesh, and the names under which it is known, too.
#[derive(Clone, Copy, Debug)]
pub struct TrustDomains<'a> {
    /// The mesh's own.
    pub own: &'a TrustDomain,
    /// Its other names.
    pub aliases: &'a [TrustDomain],
}

impl TrustDomains<'_> {
    /// Returns the principals that `principal` stands for: of one of ours, `cluster.local` included, those of them all.
    ///
    /// What is not `domain/ns/namespace/sa/account` names no trust domain, and stands for itself.
    pub(super) fn principals(&self, principal: &str) -> Vec<String> {
        match principal.split_once('/') {
            Some((domain, path)) if is_account(path) && (self.has(domain) || domain == LOCAL) => {
                self.names().map(|name| format!("{name}/{path}")).collect()
            }
            _ => vec![principal.to_owned()],
        }
    }

    /// Returns the trust domains that `domain` stands for.
    pub(super) fn domains(&self, domain: &str) -> Vec<String> {
        match self.has(domain) {
            true => self.names().map(str::to_owned).collect(),
            false => vec![domain.to_owned()],
        }
    }

    fn has(&self, domain: &str) -> bool {
        self.names().any(|name| name == domain)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [self.own].into_iter().chain(self.aliases).map(TrustDomain::as_str)
    }
}

/// Returns whether `path` has the four segments of `ns/namespace/sa/account`.
fn is_account(path: &str) -> bool {
    path.split('/').count() == 4
}

/// What policies call the mesh's own trust domain whatever its name.
const LOCAL: &str = "cluster.local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_ours_stands_for_every_one_of_ours() {
        let names: Vec<TrustDomain> = ["new", "old"].map(|name| name.parse().unwrap()).into();
        let domains = TrustDomains { own: &names[0], aliases: &names[1..] };
        let both: &[&str] = &["new/ns/a/sa/b", "old/ns/a/sa/b"];
        for (principal, stands_for) in [
            ("new/ns/a/sa/b", both),
            ("old/ns/a/sa/b", both),
            ("cluster.local/ns/a/sa/b", both),
            ("other/ns/a/sa/b", &["other/ns/a/sa/b"]),
            ("*/ns/a/sa/b", &["*/ns/a/sa/b"]),
            ("old/ns/a/sa/*", &["new/ns/a/sa/*", "old/ns/a/sa/*"]),
            ("old/ns/a/*", &["old/ns/a/*"]),
            ("old*", &["old*"]),
        ] {
            assert_eq!(domains.principals(principal), stands_for, "{principal}");
        }
        assert_eq!(domains.domains("old"), ["new", "old"]);
        assert_eq!(domains.domains("cluster.local"), ["cluster.local"]);
    }
}
