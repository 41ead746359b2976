//! What a VirtualService says by annotation: when a second attempt is made beside one that has no answer yet.

use super::{HttpRoute, VirtualService};
use crate::{
    config::{
        decode::{Decoder, lasting},
        diagnostic::{Code, Diagnostic},
        istio::annotations::Annotations,
        resource::Meta,
        tree::Node,
    },
    retry::Hedge,
};
use std::time::Duration;

impl VirtualService {
    /// Adds what the annotations of `object` say, which stand in `meta` too, to every route.
    pub(crate) fn annotate<'n>(&mut self, decoder: &mut Decoder<'n>, object: &'n Node, meta: &Meta) {
        Annotations::of(decoder, object, meta, &ALL, |annotations| {
            let hedge = annotations.hedge();
            if let Some(hedge) = hedge {
                annotations.note_idle_hedge(self, hedge);
            }
            self.http.iter_mut().for_each(|route| route.hedge = hedge);
        });
    }
}

impl Annotations<'_, '_> {
    fn hedge(&mut self) -> Option<Hedge> {
        let any_method = self.flag(ANY_METHOD);
        if let Some(delay) = self.node.get(DELAY) {
            return lasting(self.decoder, delay).map(|after| Hedge { after, any_method });
        }
        if self.has(ANY_METHOD) {
            let finding = Diagnostic::warning(
                Code::INEFFECTIVE_POLICY,
                format!("{ANY_METHOD} says which requests are hedged, and nothing says that any is"),
            );
            self.find(ANY_METHOD, finding.help(format!("write `{DELAY}` too")));
        }
        None
    }

    /// Warns of routes that make no second attempt all the same.
    fn note_idle_hedge(&mut self, rule: &VirtualService, hedge: Hedge) {
        if let Some(reason) = rule.http.iter().find_map(|route| idle_because(route, hedge)) {
            let message = format!("{DELAY}: a route whose {reason} makes no second attempt");
            self.find(DELAY, Diagnostic::warning(Code::INEFFECTIVE_POLICY, message));
        }
    }
}

/// A hedge is one of the route's retries, and must begin while the first attempt may still be answered.
fn idle_because(route: &HttpRoute, hedge: Hedge) -> Option<&'static str> {
    let ends_first = |limit: Option<Duration>| limit.is_some_and(|it| !it.is_zero() && it <= hedge.after);
    let retries = route.retries.as_ref();
    if retries.is_some_and(|retries| retries.attempts == Some(0)) {
        Some("`retries.attempts` is 0")
    } else if ends_first(retries.and_then(|retries| retries.per_try_timeout)) {
        Some("`retries.perTryTimeout` is no longer than that")
    } else if ends_first(route.timeout.as_ref().map(|timeout| timeout.value)) {
        Some("`timeout` is no longer than that")
    } else {
        None
    }
}

/// How long an attempt has before a second one is made beside it.
const DELAY: &str = "mesh/hedgeDelay";

/// Whether that is done for requests that are not idempotent too.
const ANY_METHOD: &str = "mesh/hedgeAnyMethod";

const ALL: [&str; 2] = [DELAY, ANY_METHOD];
