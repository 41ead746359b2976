//! What a DestinationRule says by annotation: policies of Envoy and of this mesh for which Istio has no field.
//!
//! A sidecar does not read them: under Istio the rule means what its fields say.

use super::{DestinationRule, LoadBalancer, SimpleLb, TrafficPolicy};
use crate::{
    config::{
        decode::{Decoder, shortened},
        diagnostic::{Code, Diagnostic},
        istio::annotations::Annotations,
        resource::{At, Meta},
        tree::Node,
    },
    health::{FailurePercentage, SuccessRate},
};

impl DestinationRule {
    /// Adds what the annotations of `object` say, which stand in `meta` too.
    pub(crate) fn annotate<'n>(&mut self, decoder: &mut Decoder<'n>, object: &'n Node, meta: &Meta) {
        Annotations::of(decoder, object, meta, &ALL, |annotations| {
            annotations.balance(self);
            annotations.eject(self);
        });
    }

    /// Shows every policy of the rule to `change`: its own, those of its subsets, and those of their ports, with whether
    /// it is that of a port, which inherits nothing.
    fn each_policy(&mut self, mut change: impl FnMut(&mut TrafficPolicy, bool)) {
        let subsets = self.subsets.iter_mut().filter_map(|subset| subset.traffic_policy.as_mut());
        for policy in self.traffic_policy.iter_mut().chain(subsets) {
            change(policy, false);
            policy.port_level.iter_mut().for_each(|entry| change(&mut entry.policy, true));
        }
    }
}

impl Annotations<'_, '_> {
    /// Names the algorithm wherever the rule names none.
    fn balance(&mut self, rule: &mut DestinationRule) {
        let Some(written) = self.get(LOAD_BALANCER) else { return };
        if written != PEAK_EWMA {
            let message = format!("{LOAD_BALANCER}: `{}` is no algorithm", shortened(written));
            let help = format!("write `{LOAD_BALANCER}: {PEAK_EWMA}`, or `loadBalancer.simple` for Istio's");
            return self.find(LOAD_BALANCER, Diagnostic::error(Code::SCHEMA, message).help(help));
        }
        let at = self.place_of(LOAD_BALANCER);
        let own = rule.traffic_policy.get_or_insert_default();
        let block = || At { value: LoadBalancer::default(), at };
        let own = own.load_balancer.get_or_insert_with(block);
        if own.names_algorithm() {
            let message =
                format!("{LOAD_BALANCER} and the trafficPolicy's loadBalancer both name an algorithm");
            let help = "leave out the annotation, or `simple` and `consistentHash`";
            return self.find(LOAD_BALANCER, Diagnostic::error(Code::SCHEMA, message).help(help));
        }
        let mut warms_up = false;
        rule.each_policy(|policy, is_of_port| {
            if is_of_port {
                policy.load_balancer.get_or_insert_with(block);
            }
            if let Some(block) = policy.load_balancer.as_mut().filter(|block| !block.names_algorithm()) {
                block.value.simple = Some(SimpleLb::PeakEwma);
                warms_up |= block.warm_up.is_some();
            }
        });
        if warms_up {
            let message =
                format!("new endpoints are not warmed up under {PEAK_EWMA}: they get their share at once");
            self.find(LOAD_BALANCER, Diagnostic::warning(Code::INEFFECTIVE_POLICY, message));
        }
    }

    /// Adds the rules that judge whole intervals, and how few endpoints are enough, to every `outlierDetection` that the
    /// rule writes.
    fn eject(&mut self, rule: &mut DestinationRule) {
        let (success_rate, failure_percentage) = (self.success_rate(), self.failure_percentage());
        let always_one = self.flag(ALWAYS_ONE);
        let Some(first) = ALL.into_iter().find(|&name| name != LOAD_BALANCER && self.has(name)) else {
            return;
        };
        let mut ejects = false;
        rule.each_policy(|policy, _| {
            if let Some(block) = &mut policy.outlier_detection {
                block.value.success_rate = success_rate;
                block.value.failure_percentage = failure_percentage;
                block.value.always_eject_one = always_one;
                ejects = true;
            }
        });
        if always_one {
            self.decoder.withdraw(Code::NEVER_EJECTS);
        }
        if !ejects {
            let message = format!("{first} adds to `outlierDetection`, and the rule writes none");
            let finding = Diagnostic::warning(Code::INEFFECTIVE_POLICY, message);
            self.find(first, finding.help("write `trafficPolicy.outlierDetection` too"));
        }
    }

    /// Any of its annotations switches the rule on.
    fn success_rate(&mut self) -> Option<SuccessRate> {
        let names = [STDEV_FACTOR, SUCCESS_RATE_HOSTS, SUCCESS_RATE_VOLUME];
        let mut rule = SuccessRate::default();
        self.number(STDEV_FACTOR, u32::MAX, &mut rule.stdev_factor);
        self.number(SUCCESS_RATE_HOSTS, u32::MAX, &mut rule.volume.endpoints_min);
        self.number(SUCCESS_RATE_VOLUME, VOLUME_MAX, &mut rule.volume.answers_min);
        names.into_iter().any(|name| self.has(name)).then_some(rule)
    }

    /// Any of its annotations switches the rule on.
    fn failure_percentage(&mut self) -> Option<FailurePercentage> {
        let names = [FAILURE_THRESHOLD, FAILURE_HOSTS, FAILURE_VOLUME];
        let mut rule = FailurePercentage::default();
        self.number(FAILURE_THRESHOLD, 100, &mut rule.threshold);
        self.number(FAILURE_HOSTS, u32::MAX, &mut rule.volume.endpoints_min);
        self.number(FAILURE_VOLUME, VOLUME_MAX, &mut rule.volume.answers_min);
        names.into_iter().any(|name| self.has(name)).then_some(rule)
    }

    /// Reads a number from 1 to `most` into `setting`, if it is there.
    fn number<T: TryFrom<u32>>(&mut self, name: &str, most: u32, setting: &mut T) {
        let Some(written) = self.get(name) else { return };
        let number = written.trim().parse().ok().filter(|number| (1..=most).contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => *setting = number,
            None => {
                let message = format!("{name}: `{}` is not in its range", shortened(written));
                let help = match most {
                    u32::MAX => "write a whole number from 1 on".to_owned(),
                    _ => format!("write a whole number from 1 to {most}"),
                };
                self.find(name, Diagnostic::error(Code::SCHEMA, message).help(help));
            }
        }
    }
}

impl LoadBalancer {
    const fn names_algorithm(&self) -> bool {
        self.simple.is_some() || self.hash.is_some()
    }
}

const LOAD_BALANCER: &str = "mesh/loadBalancer";
const PEAK_EWMA: &str = "PEAK_EWMA";

// Envoy's names.
// spec: envoy config/cluster/v3/outlier_detection.proto always_eject_one_host, success_rate_*, failure_percentage_*
const ALWAYS_ONE: &str = "mesh/alwaysEjectOneHost";
const STDEV_FACTOR: &str = "mesh/successRateStdevFactor";
const SUCCESS_RATE_HOSTS: &str = "mesh/successRateMinimumHosts";
const SUCCESS_RATE_VOLUME: &str = "mesh/successRateRequestVolume";
const FAILURE_THRESHOLD: &str = "mesh/failurePercentageThreshold";
const FAILURE_HOSTS: &str = "mesh/failurePercentageMinimumHosts";
const FAILURE_VOLUME: &str = "mesh/failurePercentageRequestVolume";

/// As many answers as are counted in an interval at most: a rule that waits for more never judges.
const VOLUME_MAX: u32 = 1_000_000;

const ALL: [&str; 8] = [
    LOAD_BALANCER,
    ALWAYS_ONE,
    STDEV_FACTOR,
    SUCCESS_RATE_HOSTS,
    SUCCESS_RATE_VOLUME,
    FAILURE_THRESHOLD,
    FAILURE_HOSTS,
    FAILURE_VOLUME,
];
