//! A bounded load: eight callers, 25 calls a second each, one at a time.

use crate::{
    tally::{Answer, Call, Tally},
    world::Receipt,
};
use mesh::Mesh;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

const CALLERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(40);

/// The tally, as callers, screen and story share it.
pub(crate) type SharedTally = Arc<Mutex<Tally>>;

/// The callers at work.
pub(crate) struct Load {
    tally: SharedTally,
    stop: watch::Sender<bool>,
    callers: JoinSet<()>,
}

impl Load {
    /// Starts calling payment through `checkout`.
    pub(crate) fn start(checkout: &Mesh) -> Self {
        let (tally, stop) = (SharedTally::default(), watch::channel(false).0);
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let begin = PAUSE / CALLERS * number;
            callers.spawn(call_on(checkout.clone(), Arc::clone(&tally), begin, stop.subscribe()));
        }
        Self { tally, stop, callers }
    }

    /// Returns the tally.
    pub(crate) fn tally(&self) -> SharedTally {
        Arc::clone(&self.tally)
    }

    /// Ends after the calls that are under way.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        self.callers.join_all().await;
    }
}

async fn call_on(checkout: Mesh, tally: SharedTally, begin: Duration, stop: watch::Receiver<bool>) {
    tokio::time::sleep(begin).await;
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow() {
        tick.tick().await;
        let begun = Instant::now();
        let end = pay(&checkout).await;
        let call = Call { begun, took: begun.elapsed(), end };
        tally.lock().unwrap_or_else(PoisonError::into_inner).add(call);
    }
}

/// One call of checkout to payment. This is all that an application writes.
async fn pay(checkout: &Mesh) -> Result<Answer, String> {
    let response =
        checkout.client().get("http://payment-service/pay").await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {body}"));
    }
    let receipt: Receipt = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    Ok(Answer { version: receipt.version, caller: receipt.caller })
}
