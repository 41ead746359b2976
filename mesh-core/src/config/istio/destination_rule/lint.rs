//! What in a DestinationRule takes no effect, or another one than its author seems to expect.

use super::{DestinationRule, PortPolicy, Subset, TrafficPolicy};
use crate::config::{
    decode::Decoder,
    diagnostic::{Code, Diagnostic, Level},
};

impl DestinationRule {
    /// Adds the findings that need the whole rule.
    pub(super) fn lint(&self, decoder: &mut Decoder<'_>) {
        let policy = self.traffic_policy.as_ref();
        if let Some(policy) = policy {
            let ejects = self.ejects_anywhere();
            decoder.within("trafficPolicy", |decoder| policy.lint(decoder, None, ejects));
        }
        decoder.within("subsets", |decoder| {
            for (index, subset) in self.subsets.iter().enumerate() {
                decoder.within_item(index, |decoder| subset.lint(decoder, policy));
            }
        });
    }

    fn ejects_anywhere(&self) -> bool {
        let policies = self.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        self.traffic_policy.iter().chain(policies).any(|policy| policy.outlier_detection.is_some())
    }
}

impl Subset {
    fn lint(&self, decoder: &mut Decoder<'_>, above: Option<&TrafficPolicy>) {
        let Some(policy) = &self.traffic_policy else { return };
        let ejects = [Some(policy), above].into_iter().flatten().any(|it| it.outlier_detection.is_some());
        decoder.within("trafficPolicy", |decoder| policy.lint(decoder, above, ejects));
    }
}

impl TrafficPolicy {
    /// `above` is the policy of the rule, if this is the policy of a subset.
    fn lint(&self, decoder: &mut Decoder<'_>, above: Option<&Self>, ejects: bool) {
        self.warn_if_it_never_fails_over(decoder, ejects);
        decoder.within("portLevelSettings", |decoder| {
            for (index, entry) in self.port_level.iter().enumerate() {
                let above = above.map_or_else(Vec::new, |above| above.at_port(entry.port).written());
                let inherited = above.into_iter().filter(|name| !self.written().contains(name));
                let mut inherited: Vec<_> = self.written().into_iter().chain(inherited).collect();
                inherited.extend(self.retry_budget.iter().map(|_| "retryBudget"));
                decoder.within_item(index, |decoder| entry.lint(decoder, &inherited));
            }
        });
    }

    // spec: istio pkg/config/validation/agent ValidateLocalityLbSetting: outlier detection must be provided for failover
    fn warn_if_it_never_fails_over(&self, decoder: &mut Decoder<'_>, ejects: bool) {
        let Some(setting) = self.load_balancer.as_ref().and_then(|balancer| balancer.locality.as_ref())
        else {
            return;
        };
        if ejects || !setting.enabled || !setting.fails_over() {
            return;
        }
        let message = "requests fail over to another locality only when endpoints are ejected, and there is no \
                       outlierDetection beside it";
        let finding = Diagnostic::warning(Code::INEFFECTIVE_POLICY, message);
        decoder.within("loadBalancer", |decoder| {
            decoder.within("localityLbSetting", |decoder| {
                decoder.find(setting.at, finding.help("write `outlierDetection` too"));
            });
        });
    }

    /// Returns the names of the blocks that are written and may be written for one port too.
    fn written(&self) -> Vec<&'static str> {
        let blocks = [
            ("loadBalancer", self.load_balancer.is_some()),
            ("connectionPool", self.connection_pool.is_some()),
            ("outlierDetection", self.outlier_detection.is_some()),
            ("tls", self.tls.is_some()),
        ];
        blocks.into_iter().filter_map(|(name, written)| written.then_some(name)).collect()
    }
}

impl PortPolicy {
    /// An entry resets the blocks that it does not write.
    fn lint(&self, decoder: &mut Decoder<'_>, inherited: &[&'static str]) {
        self.policy.warn_if_it_never_fails_over(decoder, self.policy.outlier_detection.is_some());
        let written = self.policy.written();
        let reset = inherited.iter().copied().filter(|name| !written.contains(name));
        let (tls, others): (Vec<&str>, Vec<&str>) = reset.partition(|&name| name == "tls");
        let port = self.port;
        if !tls.is_empty() {
            let message = format!(
                "port {port} has an entry of its own, without tls: automatic mutual TLS decides there, not the `tls` \
                 that is written for every port"
            );
            let finding = Diagnostic::warning(Code::AUTO_MTLS_OFF, message);
            decoder.find(self.at, finding.help("write `tls` under this entry too"));
        }
        if !others.is_empty() {
            let message = format!(
                "port {port} has an entry of its own, without {}: the defaults are in force there, not what is \
                 written for every port",
                others.join(", ")
            );
            let finding = Diagnostic::new(Code::INEFFECTIVE_POLICY, Level::Info, message);
            decoder.find(self.at, finding.help("write under this entry too what is meant for it"));
        }
    }
}
