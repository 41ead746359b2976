//! How often requests may come, by the path they are for.

use crate::{reply::Reply, step::Step};
use http::request::Parts;
use mesh_core::overload::{RateLimits, TokenBucket};
use mesh_runtime::Clock;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The step that answers 429 `local_rate_limited` to what comes too often. Clones share the tokens.
///
/// It judges the path as it finds it, so [`crate::Normalise`] stands before it.
///
/// ```
/// use mesh_core::overload::{RateLimit, RateLimits};
/// use mesh_runtime::Clock;
/// use mesh_server::{RateLimiter, StepLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut limits = RateLimits::default();
/// limits.server = Some(RateLimit::per_second(1)?);
/// let service = ServiceBuilder::new()
///     .layer(StepLayer(RateLimiter::new(&limits, Clock::start())))
///     .service(service_fn(|_: http::Request<()>| async {
///         Ok::<_, std::convert::Infallible>(http::Response::new("hello".to_owned()))
///     }));
/// assert_eq!(service.clone().oneshot(http::Request::new(())).await?.status(), 200);
/// assert_eq!(service.oneshot(http::Request::new(())).await?.status(), 429);
/// # Ok(())
/// # }
/// ```
// spec: envoy configuration/http/http_filters/local_rate_limit_filter
#[derive(Clone, Debug)]
pub struct RateLimiter {
    buckets: Arc<Buckets>,
    clock: Clock,
}

#[derive(Debug)]
struct Buckets {
    server: Option<TokenBucket>,
    /// The longest first.
    prefixes: Vec<(String, TokenBucket)>,
    refused: AtomicU64,
    as_resource_exhausted: bool,
}

impl RateLimiter {
    /// Returns the step, with every bucket full.
    pub fn new(limits: &RateLimits, clock: Clock) -> Self {
        let bucket = |limit| TokenBucket::new(limit, clock.now());
        let mut prefixes: Vec<_> =
            limits.prefixes.iter().map(|(prefix, limit)| (prefix.clone(), bucket(*limit))).collect();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let server = limits.server.map(bucket);
        let as_resource_exhausted = limits.as_resource_exhausted;
        let refused = AtomicU64::new(0);
        Self { buckets: Arc::new(Buckets { server, prefixes, refused, as_resource_exhausted }), clock }
    }

    /// Returns how many requests came too often.
    pub(crate) fn refused(&self) -> u64 {
        self.buckets.refused.load(Relaxed)
    }
}

impl Step for RateLimiter {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        match self.buckets.bucket(head.uri.path()) {
            Some(bucket) if !bucket.take(self.clock.now()) => {
                self.buckets.refused.fetch_add(1, Relaxed);
                Err(Reply::RateLimited { as_resource_exhausted: self.buckets.as_resource_exhausted })
            }
            _ => Ok(()),
        }
    }
}

impl Buckets {
    fn bucket(&self, path: &str) -> Option<&TokenBucket> {
        let of_prefix = self.prefixes.iter().find(|(prefix, _)| path.starts_with(prefix.as_str()));
        of_prefix.map(|(_, bucket)| bucket).or(self.server.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_longest_prefix_has_a_limit_of_its_own_and_the_server_the_rest() {
        let limiter = limiter(&["/api", "/api/reports"]);
        for (path, passes) in [
            ("/api/reports/7", true),
            ("/api/reports/8", false),
            ("/api/orders", true),
            ("/apis", false),
            ("/", true),
            ("/index", false),
        ] {
            assert_eq!(asked(&limiter, path).is_ok(), passes, "{path}");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(asked(&limiter, "/api/reports/8").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_limits_for_one_prefix_the_first_one_counts() {
        let limiter = limiter(&["/api", "/api"]);
        assert!(asked(&limiter, "/api").is_ok());
        assert!(asked(&limiter, "/api").is_err());
    }

    /// Every limit is one in a second.
    fn limiter(prefixes: &[&str]) -> RateLimiter {
        let one = "1/s".parse().unwrap();
        let mut limits = RateLimits::default();
        limits.server = Some(one);
        limits.prefixes = prefixes.iter().map(|prefix| ((*prefix).to_owned(), one)).collect();
        RateLimiter::new(&limits, Clock::start())
    }

    fn asked(limiter: &RateLimiter, path: &str) -> Result<(), Reply> {
        limiter.on_request(&mut Request::get(path).body(()).unwrap().into_parts().0)
    }
}
