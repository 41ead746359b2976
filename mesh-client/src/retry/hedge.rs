//! One attempt, and a second one beside it if the first keeps its caller waiting.
//!
//! `mesh_core::retry` says after how long, and whether the ceiling allows it.

use super::{Draft, Retried, Retry, outcome_of};
use crate::{Error, step::Step};
use futures_util::future::{Either, select};
use http::Response;
use mesh_core::retry::RetryPolicy;
use std::{pin::pin, time::Duration};
use tokio::time::sleep;

impl<S> Retry<S> {
    /// Returns the first good answer, else what the attempt that ended last ended with. Dropping the other gives back
    /// what it holds, and says nothing of its endpoint.
    ///
    /// Without room for a second attempt, or before the request has been read to its end, there is only the first.
    pub(super) async fn hedged<'a, D>(
        &self,
        draft: &mut Draft,
        beside: &'a D,
        retries: &mut u32,
        after: Duration,
    ) -> Result<Response<S::Body>, Error>
    where
        D: Retried + Sync,
        S: Step<&'a D>,
    {
        let policy = beside.policy();
        let mut first = pin!(self.inner.run(draft.copy(), beside));
        let copy = loop {
            match select(first.as_mut(), pin!(sleep(after))).await {
                Either::Left((result, _)) => return result,
                Either::Right(_) => {
                    if let Some(copy) = draft.copy_beside() {
                        break copy;
                    }
                }
            }
        };
        let now = beside.clock().now();
        let _underway = match policy.hedge(*retries, &beside.ceiling(), now, beside.deadline()) {
            Ok(underway) => underway,
            Err(reason) => {
                tracing::debug!(reason = reason.as_str(), "no second attempt beside one that lasts");
                return first.await;
            }
        };
        *retries += 1;
        tracing::debug!(retry = *retries, ?after, "a second attempt beside one that lasts");
        let second = pin!(self.inner.run(copy, beside));
        match select(first, second).await {
            Either::Left((result, _)) | Either::Right((result, _)) if is_good(&result, policy) => result,
            Either::Left((failed, second)) => {
                drop(failed);
                second.await
            }
            Either::Right((failed, first)) => {
                drop(failed);
                first.await
            }
        }
    }
}

fn is_good<B>(result: &Result<Response<B>, Error>, policy: &RetryPolicy) -> bool {
    outcome_of(result).is_good(&policy.on)
}
