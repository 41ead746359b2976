//! The outermost step: sees every call begin and end.

use crate::{
    Error,
    body::{RequestBody, ResponseBody},
    route::Route,
    step::Step,
};
use http::{Request, Response};

/// The step that watches.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) inner: Route,
}

impl Step<()> for Trace {
    type Body = ResponseBody;

    async fn run(&self, request: Request<RequestBody>, (): ()) -> Result<Response<ResponseBody>, Error> {
        let answer = self.inner.run(request, ()).await;
        if let Err(error) = &answer {
            tracing::debug!(
                kind = error.kind().as_str(),
                cluster = error.cluster(),
                endpoint = error.endpoint(),
                attempts = error.attempts(),
                flags = %error.flags(),
                "call failed: {error}"
            );
        }
        answer
    }
}
