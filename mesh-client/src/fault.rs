//! Injects the faults of a route: a delay, and an answer that no destination gave.
//!
//! Before the timeout of the route begins; the caller's own deadline cuts a delay short.
// spec: envoy configuration/http/http_filters/fault_filter; istio networking/v1alpha3/virtual_service.proto HTTPFaultInjection

use crate::{Error, error::Cause};
use mesh_core::{
    dice::Dice,
    event::Flag,
    route::{Abort, Fault},
};
use tokio::time::{Instant, sleep_until};

/// Lets the faults happen that are drawn; returns what the call is answered with, if it is aborted.
///
/// `on_flag` is told what happens, before it does.
pub(crate) async fn inject(
    fault: &Fault,
    deadline: Option<Instant>,
    dice: &mut (impl Dice + Send),
    on_flag: impl Fn(Flag),
) -> Result<(), Error> {
    if let Some(delay) = fault.delay.filter(|delay| delay.chance.happens(dice)) {
        on_flag(Flag::DI);
        let end = Instant::now().checked_add(delay.duration);
        // Whoever waits beyond the deadline finds it passed, and says so.
        if let Some(end) = end.into_iter().chain(deadline).min() {
            sleep_until(end).await;
        }
    }
    match fault.abort.filter(|abort| abort.chance.happens(dice)) {
        Some(Abort { answer, .. }) => {
            Err(Error::new(Cause::Fault(answer), "the route injects a fault here (FI): fault.abort"))
        }
        None => Ok(()),
    }
}
