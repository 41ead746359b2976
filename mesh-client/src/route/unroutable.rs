//! Why a call goes nowhere: its host or its route leads to no cluster.

use super::Call;
use crate::{Error, error::Cause, journal::Journal};
use mesh_core::route::{Target, VirtualHost};

impl Call {
    /// Returns that no route of `host` matches.
    pub(crate) fn no_route(&self, host: &VirtualHost) -> Error {
        let path = self.request.uri().path();
        Error::new(Cause::NoRoute, format!("no route of {} matches {path:?} (NR)", host.name))
    }

    /// Returns that the route leads to `target`, which does not exist.
    pub(crate) fn no_cluster(&self, target: &Target) -> Error {
        let message = format!("there is no cluster {} (NC): see `meshctl analyze`", target.name);
        Error::new(Cause::NoCluster(target.unknown_status), message)
    }

    /// Returns that the host is not known, and may not be called for that.
    pub(crate) fn blocked(&self) -> Error {
        let message = format!("no service {} is known, and policy forbids others", self.authority);
        Error::new(Cause::Blocked, message)
    }

    /// Notes in `error` what is known of the call, where it has come no further than this.
    pub(crate) fn settle(&self, error: Error) -> Error {
        error.settle(Journal::default().account(), self.grpc)
    }
}
