//! One step of the way of a request, and what it hands to the next.
//!
//! A step borrows what travels beside the request (`D`: the decision of the route, or a static policy), so nothing is
//! boxed, cloned or looked up again between two steps.

use crate::{Error, body::RequestBody};
use http::{Request, Response};

/// A step. `D` travels beside the request.
pub(crate) trait Step<D>: Sync {
    /// The body of its answer.
    type Body: Send;

    /// Takes the request one step further.
    fn run(
        &self,
        request: Request<RequestBody>,
        beside: D,
    ) -> impl Future<Output = Result<Response<Self::Body>, Error>> + Send;
}
