//! What one call asks for over the policy of its route: by its extensions, or in Envoy's headers.
// spec: envoy configuration/http/http_filters/router_filter "HTTP headers (consumed)"

use http::{HeaderMap, HeaderName};
use mesh_core::retry::{Condition, Hedge, RetryOn, RetryPolicy};
use std::{str::FromStr, time::Duration};

/// What one call asks for over the policy of its route. It goes into the extensions of the request.
///
/// The deadline of the caller, the budget and the limits of the destination hold all the same.
///
/// ```
/// use mesh_client::{CallPolicy, RequestBody};
/// use mesh_core::retry::RetryOn;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut request = http::Request::get("http://reviews/").body(RequestBody::empty())?;
/// let policy = CallPolicy::default().timeout(Duration::from_secs(2)).retry_on(RetryOn::parse("5xx,reset")?);
/// request.extensions_mut().insert(policy);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallPolicy {
    timeout: Option<Duration>,
    per_try_timeout: Option<Duration>,
    retries_max: Option<u32>,
    retry_on: Option<RetryOn>,
    hedge: Option<Hedge>,
    /// As Envoy's header has it: the limit of a try begins a second one instead of ending it.
    hedges_on_timeout: bool,
}

impl CallPolicy {
    /// Sets the timeout in place of the route's, and of a `grpc-timeout`; zero is none.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sets how long each try has; zero is as long as the call.
    #[must_use]
    pub fn per_try_timeout(self, timeout: Duration) -> Self {
        Self { per_try_timeout: Some(timeout), ..self }
    }

    /// Sets how many retries there are, unless the route switches them off and nothing else asks for any.
    #[must_use]
    pub fn retries_max(self, retries_max: u32) -> Self {
        Self { retries_max: Some(retries_max), ..self }
    }

    /// Adds to what is retried. It counts as written by the user: what ends so is repeated though it may have been executed.
    /// What the route retries besides stays as it is.
    #[must_use]
    pub fn retry_on(self, on: RetryOn) -> Self {
        Self { retry_on: Some(on), ..self }
    }

    /// Sets when a second attempt is made beside the first.
    #[must_use]
    pub fn hedge(self, hedge: Hedge) -> Self {
        Self { hedge: Some(hedge), ..self }
    }

    /// Takes Envoy's headers off a request; `None` if they ask for nothing. Values that do not read are passed over.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        if !headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
            return None;
        }
        let mut found = false;
        let mut taken = CONSUMED.map(|name| {
            let value = headers.remove(name)?;
            found = true;
            value.to_str().ok().map(str::to_owned)
        });
        if !found {
            return None;
        }
        let mut text = |name: &HeaderName| {
            let index = CONSUMED.iter().position(|it| it == name)?;
            taken.get_mut(index)?.take()
        };
        let mut on = RetryOn::none();
        on.add_words(&text(&RETRY_ON).unwrap_or_default());
        on.add_grpc_words(&text(&RETRY_GRPC_ON).unwrap_or_default());
        on.add_statuses(&text(&RETRIABLE_STATUS_CODES).unwrap_or_default());
        Some(Self {
            timeout: text(&TIMEOUT_MS).as_deref().and_then(millis),
            per_try_timeout: text(&PER_TRY_TIMEOUT_MS).as_deref().and_then(millis),
            retries_max: text(&MAX_RETRIES).as_deref().and_then(number),
            retry_on: Some(on).filter(|on| *on != RetryOn::none()),
            hedge: None,
            hedges_on_timeout: text(&HEDGE_ON_PER_TRY_TIMEOUT).is_some_and(|value| value == "true"),
        })
    }

    /// Returns the timeout of the call, whose route and request say `otherwise`.
    pub(super) fn timeout_or(&self, otherwise: Option<Duration>) -> Option<Duration> {
        match self.timeout {
            Some(timeout) => Some(timeout).filter(|timeout| !timeout.is_zero()),
            None => otherwise,
        }
    }

    /// Returns the retries of `route` as this call wants them.
    // spec: envoy source/common/router/retry_state_impl.cc RetryStateImpl
    pub(super) fn retries(&self, route: &RetryPolicy) -> RetryPolicy {
        let mut policy = route.clone();
        if let Some(on) = &self.retry_on {
            if policy.retries_max == 0 {
                // Of a list that is switched off nothing is left: all of it is the call's.
                (policy.on, policy.retries_max, policy.explicit) = (RetryOn::none(), 1, true);
            }
            let mut asked = on.clone();
            if policy.on.has(Condition::RetriableStatusCodes) && !on.statuses().is_empty() {
                asked.add_words(Condition::RetriableStatusCodes.as_str());
            }
            policy.on.add(on);
            policy.asked = Some(Box::new(asked));
        }
        if policy.retries_max > 0 {
            policy.retries_max = self.retries_max.unwrap_or(policy.retries_max);
        }
        if let Some(timeout) = self.per_try_timeout {
            policy.per_try_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        }
        policy.hedge = self.hedge.or(policy.hedge);
        if self.hedges_on_timeout
            && let Some(after) = policy.per_try_timeout.take()
        {
            policy.hedge = Some(Hedge { after, any_method: true });
        }
        policy
    }
}

fn millis(text: &str) -> Option<Duration> {
    number(text).map(Duration::from_millis)
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const PER_TRY_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const RETRIABLE_STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const HEDGE_ON_PER_TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");

/// What Envoy takes off a request. The last four are taken off and not obeyed: headers that make an answer retriable, as
/// answers are not kept for it; 204 in place of 504, as callers get a typed error; a bound on the stream, which the timeout
/// is; a name for Envoy's statistics.
const CONSUMED: [HeaderName; 11] = [
    TIMEOUT_MS,
    PER_TRY_TIMEOUT_MS,
    MAX_RETRIES,
    RETRY_ON,
    RETRY_GRPC_ON,
    RETRIABLE_STATUS_CODES,
    HEDGE_ON_PER_TRY_TIMEOUT,
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-stream-duration-ms"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
];
