//! What one route says that works, and that its author probably does not mean.

use super::{HttpRetry, HttpRoute, RouteDestination};
use crate::{
    config::{
        decode::{Fields, shortened},
        diagnostic::{Code, Diagnostic, Level},
        resource::At,
    },
    retry::{Condition, RetryOn, RetryPolicy},
};
use std::time::Duration;

impl HttpRetry {
    /// Returns how many tries it allows, the first included.
    fn tries(&self) -> u32 {
        self.attempts.unwrap_or(RetryPolicy::default().retries_max).saturating_add(1)
    }
}

/// Warns of a per-try timeout that ends a try and starts none.
// spec: envoy source/common/router/retry_state_impl.cc: a try that timed out is a reset
pub(super) fn note_try_timeout(fields: &mut Fields<'_, '_>, retry: &HttpRetry) {
    let default = RetryOn::default();
    let on = retry.retry_on.as_ref().unwrap_or(&default);
    let retried = [Condition::ServerError, Condition::GatewayError, Condition::Reset];
    if retry.per_try_timeout.is_some() && retry.tries() > 1 && !retried.into_iter().any(|one| on.has(one)) {
        let message = "a try that takes longer is not made again: it fails with 504, as `retryOn` has none of 5xx, \
                       gateway-error and reset";
        let finding = Diagnostic::warning(Code::TRY_TIMEOUT_NOT_RETRIED, message);
        fields.find("perTryTimeout", finding.help(format!("write `retryOn: {on},reset`")));
    }
}

/// Warns of a timeout that does not exceed what its tries may take, the waits between them left aside.
pub(super) fn note_tries(fields: &mut Fields<'_, '_>, route: &HttpRoute) {
    let (Some(timeout), Some(retry)) = (&route.timeout, &route.retries) else { return };
    let (Some(per_try), tries) = (retry.per_try_timeout, retry.tries()) else { return };
    let total = per_try.saturating_mul(tries);
    if tries > 1 && !timeout.is_zero() && timeout.value <= total {
        let message = format!(
            "{tries} tries of {} take up to {}: a timeout of {} ends the last of them early",
            shown(per_try),
            shown(total),
            shown(timeout.value),
        );
        let help = format!("write a timeout above {}, or fewer or shorter tries", shown(total));
        fields.find("timeout", Diagnostic::warning(Code::TIMEOUT_BELOW_TRIES, message).help(help));
    }
}

/// Notes weights that are no percentages.
pub(super) fn note_weights(fields: &mut Fields<'_, '_>, route: &[RouteDestination]) {
    let total: u64 = route.iter().map(|to| u64::from(to.weight.value)).sum();
    match route {
        [] => {}
        [only] if !matches!(only.weight.value, 0 | 100) => {
            let message =
                format!("a single destination gets every request, also with weight {}", *only.weight);
            note_weight(fields, &only.weight, Level::Info, message);
        }
        [_] => {}
        [..] if total == 0 => {}
        [first, ..] => {
            if total != 100 {
                let shares: Vec<_> = route.iter().take(SHARES_MAX).map(|to| share(to, total)).collect();
                let shares = shortened(&shares.join(", "));
                let message = format!("the weights add up to {total}, not to 100: {shares}");
                note_weight(fields, &first.weight, Level::Warning, message);
            }
            for to in route.iter().filter(|to| *to.weight == 0) {
                let message = format!("{} has no weight, and gets no request", name(to));
                note_weight(fields, &to.weight, Level::Info, message);
            }
        }
    }
}

fn note_weight(fields: &mut Fields<'_, '_>, weight: &At<u32>, level: Level, message: String) {
    let finding = Diagnostic::new(Code::ODD_WEIGHTS, level, message);
    fields.decoder.within("route", |decoder| decoder.find(weight.at, finding));
}

fn share(to: &RouteDestination, total: u64) -> String {
    let permille = u64::from(*to.weight) * 1000 / total.max(1);
    format!("{} gets {}.{} %", name(to), permille / 10, permille % 10)
}

fn name(to: &RouteDestination) -> String {
    let subset = to.destination.subset.as_ref().map(|subset| format!(" subset {}", subset.value));
    format!("{}{}", to.destination.host.value, subset.unwrap_or_default())
}

fn shown(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// More than that say no more.
const SHARES_MAX: usize = 4;
