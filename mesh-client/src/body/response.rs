//! The body of an answer, which ends what the call held when it ends.

use super::Held;
use crate::{Error, endpoint::EndpointBody, error::Cause, record::Record, timeout::TimedBody};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use mesh_core::{event::Flags, health::Permit};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// How a call went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallInfo {
    /// The cluster, `outbound|port|subset|host`; `None` if no route led to one.
    pub cluster: Option<Arc<str>>,
    /// The endpoint last tried, as `IP:PORT`.
    pub endpoint: Option<Arc<str>>,
    /// How many attempts were made; 0 if none left the process.
    pub attempts: u32,
    /// Envoy's response flags.
    pub flags: Flags,
}

/// What the mesh stack answers with: every step's hold around the connection's body.
type Upstream = TimedBody<Held<EndpointBody, Permit>>;

/// The body of an answer.
///
/// While it lives the call holds its place in the limits of the cluster; dropping it gives everything back.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    info: CallInfo,
    /// Written when the body has ended.
    record: Option<Record>,
}

#[derive(Debug)]
enum Kind {
    Upstream(Upstream),
    /// From a host outside of the mesh.
    Outside(TimedBody<EndpointBody>),
    /// Made here.
    Local(Bytes),
}

/// How much [`ResponseBody::bytes`] takes: 16 MiB. An answer of unknown size must not fill the memory of its caller.
const COLLECTED_BYTES_MAX: usize = 16 << 20;

impl ResponseBody {
    pub(crate) fn upstream(body: Upstream, info: CallInfo, record: Record) -> Self {
        let record = (!body.is_end_stream()).then_some(record);
        Self { kind: Kind::Upstream(body), info, record }
    }

    pub(crate) fn outside(body: TimedBody<EndpointBody>, info: CallInfo) -> Self {
        Self { kind: Kind::Outside(body), info, record: None }
    }

    pub(crate) fn local(body: Bytes, info: CallInfo) -> Self {
        Self { kind: Kind::Local(body), info, record: None }
    }

    /// Returns how the call went.
    pub fn call_info(&self) -> &CallInfo {
        &self.info
    }

    /// Reads the body to its end, at most 16 MiB of it; for more, read it frame by frame.
    ///
    /// # Errors
    ///
    /// Returns why it broke off, or that it is larger than that.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        let mut first: Option<Bytes> = None;
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > COLLECTED_BYTES_MAX {
                return Err(self.too_large());
            }
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(begin) => {
                    whole.extend_from_slice(&begin);
                    whole.extend_from_slice(&data);
                }
            }
        }
        // The usual answer is one frame: it is handed on, not copied.
        Ok(first.unwrap_or_else(|| whole.freeze()))
    }

    /// Reads the body to its end as text, at most 16 MiB of it; bytes that are no UTF-8 become `U+FFFD`.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`].
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8(bytes.into())
            .unwrap_or_else(|invalid| String::from_utf8_lossy(invalid.as_bytes()).into_owned()))
    }

    fn too_large(&self) -> Error {
        let message =
            format!("the answer is larger than {COLLECTED_BYTES_MAX} bytes: read it frame by frame");
        self.broken(Error::new(Cause::LocalReset, message))
    }

    fn on_error(&mut self, error: Error) -> Error {
        let error = self.broken(error);
        self.info.flags = error.flags();
        if let Some(record) = &mut self.record {
            record.on_error(&error);
        }
        error
    }

    fn broken(&self, error: Error) -> Error {
        let account = crate::journal::Account { info: self.info.clone(), sent: true, ..Default::default() };
        error.settle(account, false)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match &mut self.kind {
            Kind::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
            Kind::Outside(body) => ready!(Pin::new(body).poll_frame(cx)),
            Kind::Local(bytes) if bytes.is_empty() => None,
            Kind::Local(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
        };
        let frame = frame.map(|frame| frame.map_err(|error| self.on_error(error)));
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.record = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Upstream(body) => body.is_end_stream(),
            Kind::Outside(body) => body.is_end_stream(),
            Kind::Local(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Upstream(body) => body.size_hint(),
            Kind::Outside(body) => body.size_hint(),
            Kind::Local(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
