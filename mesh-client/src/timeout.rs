//! Bounds a call: from the end of the request to the end of the answer's body, and by the deadline of the caller.
//!
//! It does not bound single tries; that is the attempt's business.
// spec: envoy router_filter "timeout"

use crate::{
    Error,
    body::{RequestBody, Upload},
    error::Cause,
    step::Step,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a call may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// From the end of the request.
    pub(crate) timeout: Option<Duration>,
    /// Whatever happens.
    pub(crate) deadline: Option<Instant>,
}

/// Where the bounds of a call come from.
pub(crate) trait Bounded {
    /// Returns the bounds.
    fn bounds(&self) -> Bounds;

    /// A bound is reached, and what is under way is about to be cancelled for it.
    fn on_elapsed(&self) {}

    /// The timeout begins when `upload` ends.
    fn on_upload(&self, _: &Upload) {}
}

/// The step that keeps a call within its bounds.
#[derive(Clone, Debug)]
pub(crate) struct Timeout<S> {
    pub(crate) inner: S,
}

impl<'a, D, S> Step<&'a D> for Timeout<S>
where
    D: Bounded + Sync,
    S: Step<&'a D>,
{
    type Body = TimedBody<S::Body>;

    async fn run(&self, request: Request<RequestBody>, beside: &'a D) -> Result<Response<Self::Body>, Error> {
        let bounds = beside.bounds();
        if bounds.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(bounds.error());
        }
        let (request, mut alarm) = Alarm::set(bounds, request);
        if let Some(upload) = &alarm.upload {
            beside.on_upload(upload);
        }
        let mut answer = pin!(self.inner.run(request, beside));
        let answer = match alarm.within(answer.as_mut()).await {
            Ok(answer) => answer?,
            Err(Elapsed) => {
                // The answer's future lives until the end of this function: it sees this when it is dropped.
                beside.on_elapsed();
                return Err(bounds.error());
            }
        };
        let alarm = alarm.is_set().then_some(alarm);
        Ok(answer.map(|body| TimedBody { body, alarm, bounds }))
    }
}

impl Bounds {
    fn error(&self) -> Error {
        let past_deadline = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let message = match self.timeout {
            Some(timeout) if !past_deadline => {
                format!("no complete answer within its timeout of {timeout:?} (UT)")
            }
            _ => "no complete answer by the deadline of the caller (UT)".to_owned(),
        };
        Error::new(Cause::RouteTimeout, message)
    }
}

/// Goes off when a bound is reached. Unset it costs nothing; set, one allocation and one timer for head and body.
#[derive(Debug)]
pub(crate) struct Alarm {
    bounds: Bounds,
    upload: Option<Upload>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The bound was reached first.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl Alarm {
    /// Returns the alarm, and `request` so that it knows when its body ends.
    pub(crate) fn set(bounds: Bounds, request: Request<RequestBody>) -> (Request<RequestBody>, Self) {
        let mut alarm = Self { bounds, upload: None, sleep: None };
        if bounds.timeout.is_none() || request.body().is_end_stream() {
            alarm.arm(Some(Instant::now()));
            return (request, alarm);
        }
        let (upload, finish) = Upload::new();
        alarm.upload = Some(upload);
        alarm.arm(None);
        (request.map(|body| body.finishing(finish)), alarm)
    }

    /// Runs `future` until it ends or the alarm goes off. The future is asked first: an answer that is there never
    /// loses to the timer.
    pub(crate) async fn within<F: Future>(&mut self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }

    fn is_set(&self) -> bool {
        self.sleep.is_some() || self.upload.is_some()
    }

    /// Arms it for the end of a timeout that began at `begun`, or the deadline if that is sooner.
    fn arm(&mut self, begun: Option<Instant>) {
        let at = begun.zip(self.bounds.timeout).and_then(|(begun, timeout)| begun.checked_add(timeout));
        let Some(at) = at.into_iter().chain(self.bounds.deadline).min() else { return };
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        if let Some(Poll::Ready(ended)) = self.upload.as_ref().map(|upload| upload.poll_ended(cx)) {
            self.upload = None;
            self.arm(Some(ended));
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| Elapsed),
            None => Poll::Pending,
        }
    }
}

pin_project! {
    /// A body that must end within the bounds of its call.
    #[derive(Debug)]
    pub struct TimedBody<B> {
        #[pin]
        body: B,
        // Gone when the body has ended.
        alarm: Option<Alarm>,
        bounds: Bounds,
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes, Error = Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.project();
        match this.body.poll_frame(cx) {
            Poll::Ready(frame) => {
                if frame.is_none() {
                    *this.alarm = None;
                }
                Poll::Ready(frame)
            }
            Poll::Pending => match this.alarm.as_mut().map(|alarm| alarm.poll(cx)) {
                Some(Poll::Ready(Elapsed)) => {
                    *this.alarm = None;
                    Poll::Ready(Some(Err(this.bounds.error())))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
