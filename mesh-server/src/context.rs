//! Takes deadline and trace from the request and hands them to the calls made while it is handled.
//!
//! The context is entered for every poll of the handler's future *and* of the body it answers with: a streamed answer
//! that calls others is bound by the same deadline. It cuts nothing off itself; [`crate::inbound`] does.

use crate::{reply::Reply, step::Step};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{deadline, retry::Provenance, time::Time};
use mesh_runtime::{Clock, Context, context::Trace};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{self, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// The step that reads deadline and trace context and puts a [`Context`] into the request's extensions.
///
/// A deadline comes from `grpc-timeout`, else from `x-envoy-expected-rq-timeout-ms`, whoever sent it: it can only
/// shorten what the handler may take. A `traceparent` that breaks its grammar, or two of them, is no trace.
// spec: w3c trace-context level 1, 3.2 and 3.3
#[derive(Clone, Copy, Debug)]
pub struct ReadContext {
    clock: Clock,
}

impl ReadContext {
    /// Returns the step that counts deadlines on `clock`, the workload's.
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

impl Step for ReadContext {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let deadline = deadline::of_headers(&head.headers, self.clock.now());
        let context = Context::new((deadline != Time::MAX).then_some(deadline), trace(&head.headers));
        head.extensions.insert(context);
        Ok(())
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

fn trace(headers: &HeaderMap) -> Option<Trace> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    is_trace_parent(parent.as_bytes()).then(|| Trace { parent: parent.clone(), state: trace_state(headers) })
}

/// Returns the `tracestate`; several fields are one list.
fn trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut states = headers.get_all(TRACESTATE).iter();
    let first = states.next()?;
    let rest: Vec<&[u8]> = states.map(HeaderValue::as_bytes).collect();
    if rest.is_empty() {
        return Some(first.clone());
    }
    let joined =
        rest.iter().fold(first.as_bytes().to_vec(), |list, state| [&list, &b","[..], state].concat());
    HeaderValue::from_bytes(&joined).ok()
}

/// Returns whether this is `version-trace_id-parent_id-flags` with an ID in both places.
fn is_trace_parent(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |part: &[u8]| is_hex(part) && part.iter().any(|&byte| byte != b'0');
    let Some((known, rest)) = value.split_at_checked(55) else { return false };
    let parts: Vec<&[u8]> = known.split(|&byte| byte == b'-').collect();
    let [version, trace_id, parent_id, flags] = parts[..] else { return false };
    let lengths = [version.len(), trace_id.len(), parent_id.len(), flags.len()] == [2, 32, 16, 2];
    // A later version may go on after a dash; version ff does not exist.
    let end = rest.is_empty() || (version != b"00" && rest[0] == b'-');
    lengths
        && end
        && is_hex(version)
        && version != b"ff"
        && is_id(trace_id)
        && is_id(parent_id)
        && is_hex(flags)
}

/// Enters the [`Context`] in a request's extensions while the request is handled.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContextLayer;

/// A service whose handler and body run in the [`Context`] of the request.
#[derive(Clone, Copy, Debug)]
pub struct ContextService<S> {
    inner: S,
}

impl<S> Layer<S> for ContextLayer {
    type Service = ContextService<S>;

    fn layer(&self, inner: S) -> ContextService<S> {
        ContextService { inner }
    }
}

impl<S, B, R> Service<Request<B>> for ContextService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Scoped<R>>;
    type Error = S::Error;
    type Future = ScopedAnswer<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = request.extensions().get::<Context>().cloned().unwrap_or_default();
        let answer = context.enter(|| self.inner.call(request));
        ScopedAnswer { answer: Scoped::new(answer, context) }
    }
}

pin_project! {
    /// A future or body that is polled in a [`Context`].
    #[derive(Debug)]
    pub struct Scoped<T> {
        #[pin]
        inner: T,
        context: Context,
        provenance: Provenance,
    }
}

impl<T> Scoped<T> {
    pub(crate) fn new(inner: T, context: Context) -> Self {
        Self { inner, context, provenance: Provenance::NONE }
    }

    /// Returns what failed calls, made while it was polled, said of their retries.
    pub(crate) fn provenance(&self) -> Provenance {
        self.provenance
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let inner = this.inner;
        this.context.enter_noting(this.provenance, || inner.poll(cx))
    }
}

impl<B: Body<Data = Bytes>> Body for Scoped<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let inner = this.inner;
        this.context.enter(|| inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// The answer of a [`ContextService`].
    #[derive(Debug)]
    pub struct ScopedAnswer<F> {
        #[pin]
        answer: Scoped<F>,
    }
}

impl<F, B, E> Future for ScopedAnswer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Scoped<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut answer = self.project().answer;
        let response = ready!(answer.as_mut().poll(cx))?;
        let context = answer.context().clone();
        Poll::Ready(Ok(response.map(|body| Scoped::new(body, context))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_parent_is_read_by_its_grammar() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let table = [
            (good.to_owned(), true),
            (good.replacen("00-", "01-", 1) + "-what-comes", true),
            (good.replacen("00-", "ff-", 1), false),
            (good.to_owned() + "-more", false),
            (good.to_owned() + "x", false),
            (good.to_uppercase(), false),
            (good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (good.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (good.replace('-', "_"), false),
            (good[..54].to_owned(), false),
            (String::new(), false),
        ];
        for (value, reads) in table {
            assert_eq!(is_trace_parent(value.as_bytes()), reads, "{value}");
        }
    }

    #[test]
    fn two_trace_parents_are_none_and_several_states_are_one_list() {
        let mut headers = HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.append(TRACEPARENT, HeaderValue::from_static(parent));
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        assert_eq!(trace(&headers).unwrap().state.unwrap(), "a=1,b=2");
        headers.append(TRACEPARENT, HeaderValue::from_static(parent));
        assert_eq!(trace(&headers), None);
    }
}
