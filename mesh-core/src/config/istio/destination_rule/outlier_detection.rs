//! `outlierDetection`: when an endpoint is ejected.

use crate::{
    config::{
        decode::{Decoder, Fields, count, flag, lasting, number, percent},
        diagnostic::{Code, Diagnostic},
        tree::Node,
    },
    health::{FailurePercentage, SuccessRate},
};
use std::time::Duration;

/// `outlierDetection`. `None` is Istio's default for that field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors` (and the deprecated `consecutiveErrors`); 0 switches it off.
    pub consecutive_5xx: Option<u32>,
    /// `consecutiveGatewayErrors`; 0 or absent switches it off.
    pub consecutive_gateway: Option<u32>,
    /// `consecutiveLocalOriginFailures`.
    pub consecutive_local_origin: Option<u32>,
    /// `splitExternalLocalOriginErrors`.
    pub split_local_origin: bool,
    /// `interval`.
    pub interval: Option<Duration>,
    /// `baseEjectionTime`.
    pub base_ejection_time: Option<Duration>,
    /// `maxEjectionPercent`, 1 to 100.
    pub max_ejection_percent: Option<u8>,
    /// `minHealthPercent`, 0 to 100.
    pub min_health_percent: Option<u8>,
    /// `outlierDetectionHttpErrorCodes`: the statuses that are failures, in place of every 5xx; empty if not written.
    pub error_codes: Vec<u16>,
    /// The annotation `mesh/alwaysEjectOneHost`.
    pub always_eject_one: bool,
    /// The annotations `mesh/successRate…`.
    pub success_rate: Option<SuccessRate>,
    /// The annotations `mesh/failurePercentage…`.
    pub failure_percentage: Option<FailurePercentage>,
}

impl OutlierDetection {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        // 0 is not written.
        let deprecated = fields.get("consecutiveErrors", count).filter(|&errors| errors > 0);
        fields.deprecated("consecutiveErrors", "consecutive5xxErrors");
        let read = Self {
            consecutive_5xx: fields.get("consecutive5xxErrors", count).or(deprecated),
            consecutive_gateway: fields.get("consecutiveGatewayErrors", count),
            consecutive_local_origin: fields.get("consecutiveLocalOriginFailures", count).filter(|&n| n > 0),
            split_local_origin: fields.get("splitExternalLocalOriginErrors", flag).unwrap_or_default(),
            interval: fields.get("interval", lasting),
            base_ejection_time: fields.get("baseEjectionTime", lasting),
            max_ejection_percent: fields.get("maxEjectionPercent", percent).filter(|&percent| percent > 0),
            min_health_percent: fields.get("minHealthPercent", percent),
            error_codes: fields
                .list("outlierDetectionHttpErrorCodes", |decoder, node| number(decoder, node, 100, 599)),
            always_eject_one: false,
            success_rate: None,
            failure_percentage: None,
        };
        read.check(&mut fields);
        read.warn_if_nothing_is_ever_ejected(&mut fields);
        fields.finish();
        Some(read)
    }

    // spec: istio pkg/config/validation validateOutlierDetection
    fn check(&self, fields: &mut Fields<'_, '_>) {
        if self.consecutive_local_origin.is_some() && !self.split_local_origin {
            let finding = Diagnostic::error(Code::SCHEMA, "failures to connect are counted with the 5xx")
                .help("write `splitExternalLocalOriginErrors: true` beside it");
            fields.find("consecutiveLocalOriginFailures", finding);
        }
    }

    /// Envoy ejects only while the ejected ones stay within the percentage, and does not round up to one.
    // spec: envoy source/common/upstream/outlier_detection_impl.cc ejectHost
    fn warn_if_nothing_is_ever_ejected(&self, fields: &mut Fields<'_, '_>) {
        let percent = self.max_ejection_percent.unwrap_or(MAX_EJECTION_PERCENT);
        if percent >= SMALL_EJECTION_PERCENT {
            return;
        }
        let written = if self.max_ejection_percent.is_some() { "" } else { " (the default)" };
        let hosts = 100_u8.div_ceil(percent);
        let message = format!(
            "with maxEjectionPercent {percent}{written} no endpoint is ejected while the host has fewer than {hosts}"
        );
        let finding = Diagnostic::warning(Code::NEVER_EJECTS, message);
        let help = "write `maxEjectionPercent: 100`, or what you can spare; or annotate the DestinationRule with \
                    `mesh/alwaysEjectOneHost: \"true\"`";
        fields.find("maxEjectionPercent", finding.help(help));
    }
}

// spec: istio networking/v1alpha3/destination_rule.proto OutlierDetection.max_ejection_percent; 0 is not written
const MAX_EJECTION_PERCENT: u8 = 10;

/// From 25 on, four endpoints are enough for one to be ejected: nobody with fewer expects much of ejection.
const SMALL_EJECTION_PERCENT: u8 = 25;
