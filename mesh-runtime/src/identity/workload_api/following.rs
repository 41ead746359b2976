//! Keeps the identity current with a Workload API: one call that stays open, made anew whenever it ends.
//!
//! While there is no answer, the identity in force is used to its end. What an answer leaves out is taken back.
// spec: spiffe standards/SPIFFE_Workload_API.md sections 4.2, 4.4 and 5.2.1

use super::{
    WorkloadApi,
    wire::{Answers, AskError, X509SvidResponse},
};
use crate::{
    ThreadDice,
    control::backoff::{Backoff, LONGEST},
    identity::{Identity, IdentityError, IdentityStore},
    progress::Progress,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

/// Keeps `store` current with what `api` says, for ever, and tells `progress` what stands in the way. Ends when the
/// future is dropped.
pub(crate) async fn follow(api: WorkloadApi, store: Arc<IdentityStore>, progress: Arc<Progress>) {
    let mut following = Following { api, store, progress, backoff: Backoff::new(), denied: None };
    loop {
        let began = Instant::now();
        let end = following.call().await;
        if began.elapsed() >= LONGEST {
            following.backoff.on_answer();
        }
        following.on_end(&end).await;
    }
}

struct Following {
    api: WorkloadApi,
    store: Arc<IdentityStore>,
    progress: Arc<Progress>,
    backoff: Backoff,
    /// Since when there is a denial, and no answer.
    denied: Option<Instant>,
}

/// How a call ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("has not answered within {} s", ANSWER_MAX.as_secs())]
    Silent,
    #[error(transparent)]
    NotAsked(AskError),
    #[error("sent an answer that is of no use: {0}")]
    Useless(IdentityError),
    /// After answers of use.
    #[error("ended its answers: it {0}")]
    Broken(AskError),
    /// Likewise.
    #[error("ended its answers")]
    Ended,
}

impl Following {
    /// Makes one call and puts in force what is answered, as long as it is of use.
    async fn call(&mut self) -> End {
        let first = timeout(ANSWER_MAX, first_answer(&self.api)).await;
        let (mut answers, mut answer) = match first {
            Ok(Ok(first)) => first,
            Ok(Err(error)) => return End::NotAsked(error),
            Err(_) => return End::Silent,
        };
        while let Some(response) = answer {
            if let Err(error) = self.on_answer(response) {
                // Another call brings another answer at once; on this one it may take half the life of a certificate.
                return End::Useless(error);
            }
            answer = match answers.next().await {
                Ok(answer) => answer,
                Err(error) => return End::Broken(error),
            };
        }
        End::Ended
    }

    fn on_answer(&mut self, response: X509SvidResponse) -> Result<(), IdentityError> {
        self.denied = None;
        match response.identity(&self.api.wanted, self.store.clock().now())? {
            Some(identity) => self.put_in_force(identity),
            None => {
                let why = format!("does not give {} to this workload, or no longer", self.api.wanted);
                self.take_back(&self.trouble(&why));
            }
        }
        Ok(())
    }

    fn put_in_force(&self, identity: Identity) {
        if !self.store.current().is_some_and(|current| current.is_same(&identity)) {
            let (id, serial) = (identity.svid.id().clone(), identity.svid.serial().to_owned());
            self.store.publish(identity);
            tracing::info!(%id, serial, "identity from the SPIFFE Workload API");
        }
        self.progress.on_identity();
    }

    async fn on_end(&mut self, end: &End) {
        let trouble = self.trouble(end);
        if self.is_believed_denial(end) {
            self.take_back(&trouble);
        } else {
            self.tell(&trouble);
        }
        // Several more tries before it ends, however short it is.
        let most = self.left().map_or(LONGEST, |left| left / 4);
        sleep(self.backoff.on_failure(most, &mut ThreadDice)).await;
    }

    /// Returns whether this workload has no right to any identity any more, and not merely a young agent.
    fn is_believed_denial(&mut self, end: &End) -> bool {
        match end {
            End::Broken(error) => is_denial(error),
            End::NotAsked(error) if is_denial(error) => {
                self.denied.get_or_insert_with(Instant::now).elapsed() >= DENIED_MAX
            }
            _ => false,
        }
    }

    fn take_back(&self, trouble: &str) {
        if self.store.current().is_some() {
            self.store.withdraw(trouble);
        }
        self.tell(trouble);
    }

    /// Says what stands in the way, once.
    fn tell(&self, trouble: &str) {
        if self.progress.on_identity_trouble(trouble) {
            match self.left() {
                Some(left) => {
                    tracing::warn!("identity not kept current, {} s left of it: {trouble}", left.as_secs());
                }
                None => tracing::error!("no valid identity: {trouble}"),
            }
        }
    }

    fn trouble(&self, why: &dyn fmt::Display) -> String {
        format!("SPIFFE Workload API {} {why}", self.api.socket)
    }

    fn left(&self) -> Option<Duration> {
        let not_after = self.store.current()?.svid.not_after();
        not_after.duration_since(self.store.clock().now()).ok().filter(|left| !left.is_zero())
    }
}

/// The first answer is due at once, on every call.
async fn first_answer(api: &WorkloadApi) -> Result<(Answers, Option<X509SvidResponse>), AskError> {
    let mut answers = Answers::ask(&api.socket).await?;
    let first = answers.next().await?;
    Ok((answers, first))
}

fn is_denial(error: &AskError) -> bool {
    matches!(error, AskError::Status(status) if status.code() == Code::PermissionDenied)
}

// An agent asks its server, or the container runtime, before it answers the first time.
const ANSWER_MAX: Duration = Duration::from_secs(10);

// docs/decisions/0031: an agent that starts denies what it does not know yet.
const DENIED_MAX: Duration = Duration::from_secs(60);
