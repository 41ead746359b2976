//! `localityLbSetting`: which localities get the requests.
// spec: istio networking/v1alpha3/destination_rule.proto LocalityLoadBalancerSetting

use crate::{
    balance::{Distribution, Failover, LocalityPattern, LocalityPolicy, PriorityLabel},
    config::{
        decode::{Decoder, Fields, flag, name, name_at, number, shortened},
        diagnostic::{Code, Diagnostic},
        resource::{At, Mark},
        tree::{Key, Node},
    },
};
use std::sync::Arc;

/// `localityLbSetting`. It replaces the setting of the mesh whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalitySetting {
    /// `enabled`; true unless it says otherwise.
    pub enabled: bool,
    /// `distribute`, else `failover` and `failoverPriority`.
    pub policy: Arc<LocalityPolicy>,
}

/// Failover by the distance of region, zone and subzone, as in a mesh that says nothing of it.
impl Default for LocalitySetting {
    fn default() -> Self {
        Self { enabled: true, policy: Arc::new(LocalityPolicy::Failover(Failover::default())) }
    }
}

impl LocalitySetting {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let distribute = read_distributions(&mut fields);
        let regions = fields.list("failover", read_failover);
        let labels = fields.list("failoverPriority", read_label);
        let enabled = fields.get("enabled", flag).unwrap_or(true);
        check_together(&mut fields, &labels);
        fields.finish();
        let policy = match distribute.is_empty() {
            false => LocalityPolicy::Distribute(distribute),
            true => LocalityPolicy::Failover(Failover { regions, labels }),
        };
        Some(Self { enabled, policy: Arc::new(policy) })
    }

    /// Returns what applies of it; a failover only where endpoints can be ejected, or it would never happen.
    // spec: istio pilot/pkg/networking/core/loadbalancer ApplyLocalityLoadBalancer
    pub fn applied(&self, ejects: bool) -> Option<&Arc<LocalityPolicy>> {
        let applies = self.enabled && (ejects || !self.fails_over());
        applies.then_some(&self.policy)
    }

    /// Returns whether it moves requests away from localities that are not healthy.
    pub fn fails_over(&self) -> bool {
        matches!(*self.policy, LocalityPolicy::Failover(_))
    }
}

// spec: istio pkg/config/validation/agent ValidateLocalityLbSetting
fn check_together(fields: &mut Fields<'_, '_>, labels: &[PriorityLabel]) {
    if fields.has("distribute") && fields.has("failover") {
        fields.refuse("failover", "distribute and failover exclude each other");
    }
    if fields.has("distribute") && fields.has("failoverPriority") {
        let message = "failoverPriority does not apply beside distribute";
        fields.find("failoverPriority", Diagnostic::warning(Code::INEFFECTIVE_POLICY, message));
    }
    let topology = labels.iter().find(|label| TOPOLOGY.contains(&label.name.as_str()));
    if let Some(label) = topology.filter(|_| fields.has("failover")) {
        let message = format!("failover and the label `{}` exclude each other", label.name);
        fields.refuse("failoverPriority", message);
    }
}

/// The labels that say the same as a locality.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

fn read_distributions(fields: &mut Fields<'_, '_>) -> Vec<Distribution> {
    let mut callers = Patterns::default();
    fields.list("distribute", |decoder, node| {
        let mut fields = decoder.fields(node)?;
        let from = fields.require("from", |decoder, node| {
            let written = name_at(decoder, node)?;
            callers.add(decoder, &written, written.at)
        });
        let to = fields.require("to", read_shares);
        fields.finish();
        Some(Distribution { from: from?, to: to? })
    })
}

fn read_shares<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Vec<(LocalityPattern, u32)>> {
    let mut to = Patterns::default();
    let shares = decoder.entries(node, |decoder, Key { text, at }, node| {
        let share = number(decoder, node, 1, 100);
        Some((to.add(decoder, text, *at)?, share?))
    });
    let total: u32 = shares.iter().map(|(_, share)| share).sum();
    // Shares that did not read have findings of their own.
    if shares.len() == to.count && total != 100 {
        let finding = Diagnostic::error(Code::SCHEMA, format!("the shares add up to {total}"));
        decoder.find(node.at, finding.help("write per cents that add up to 100"));
        return None;
    }
    Some(shares)
}

/// The localities of one list, so far.
#[derive(Default)]
struct Patterns {
    known: Vec<LocalityPattern>,
    /// How many were written.
    count: usize,
}

impl Patterns {
    /// Reads one more, and refuses it if requests to or from it have been distributed already. `*` behind others is what
    /// they leave over.
    // spec: istio pkg/config/validation/agent validateLocalities
    fn add(&mut self, decoder: &mut Decoder<'_>, written: &str, at: Mark) -> Option<LocalityPattern> {
        self.count += 1;
        let pattern: LocalityPattern = match written.parse() {
            Ok(pattern) => pattern,
            Err(error) => {
                let message = format!("`{}` names no locality: {error}", shortened(written));
                decoder.find(at, Diagnostic::error(Code::SCHEMA, message).help(LOCALITY_HELP));
                return None;
            }
        };
        let leftover = written.ends_with('*');
        let clash = |known: &&LocalityPattern| {
            if leftover { known.contains(&pattern) } else { known.overlaps(&pattern) }
        };
        if let Some(known) = self.known.iter().find(clash) {
            let message =
                format!("`{}` overlaps with `{known}`, which is written before it", shortened(written));
            decoder.refuse(at, message);
            return None;
        }
        self.known.push(pattern.clone());
        Some(pattern)
    }
}

const LOCALITY_HELP: &str = "write region, region/zone or region/zone/subzone; the last part may be `*`";

fn read_failover<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(String, String)> {
    let mut fields = decoder.fields(node)?;
    let from = fields.require("from", read_region);
    let to = fields.require("to", read_region);
    if let (Some(from), Some(to)) = (&from, &to)
        && from.value == to.value
    {
        fields.refuse("to", format!("`{}` fails over to itself", shortened(to)));
    }
    fields.finish();
    Some((from?.value, to?.value))
}

fn read_region(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let region = name_at(decoder, node)?;
    if region.contains(['/', '*']) {
        let message = format!("`{}` is not a region", shortened(&region));
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help("write the region alone"));
        return None;
    }
    Some(region)
}

/// Reads `name` or `name=value`.
fn read_label(decoder: &mut Decoder<'_>, node: &Node) -> Option<PriorityLabel> {
    let written = name(decoder, node)?;
    let (name, value) = match written.split_once('=') {
        // spec: istio pilot/pkg/networking/core/loadbalancer priorityLabelOverrides: with two `=` there is no value
        Some((name, value)) => (name.to_owned(), (!value.contains('=')).then(|| value.to_owned())),
        None => (written, None),
    };
    Some(PriorityLabel { name, value })
}
