//! Reads what the control endpoint answers: whole, unpacked, and within bounds of size and time.

use super::CallError;
use crate::control::wire::ErrorBody;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::{io::Read as _, time::Duration};
use tokio::time::timeout;

/// A success: 2xx, or 304.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads the body as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|e| CallError::Unreadable(e.to_string()))
    }
}

/// Reads an answer to its end, within bounds of size and time.
pub(super) async fn read(response: Response<Incoming>) -> Result<Answer, CallError> {
    let (head, body) = response.into_parts();
    let body = timeout(BODY_LIMIT, Limited::new(body, BODY_MAX).collect())
        .await
        .map_err(|_| CallError::Slow { what: "end of the answer", limit: BODY_LIMIT })?
        .map_err(|e| if e.is::<LengthLimitError>() { too_large() } else { CallError::Broken(e.to_string()) })?
        .to_bytes();
    let body = match head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => body,
        Some(b"gzip") => unzip(body).await?,
        Some(other) => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(CallError::Unreadable(format!("content-encoding `{}`", other.escape_debug())));
        }
    };
    if !head.status.is_success() && head.status != StatusCode::NOT_MODIFIED {
        return Err(refused(head.status, &body));
    }
    let etag = head.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    Ok(Answer { status: head.status, etag, body })
}

/// Decodes off the request path: a large answer takes longer than a task may hold its thread.
async fn unzip(body: Bytes) -> Result<Bytes, CallError> {
    let decode = move || {
        let mut decoded = Vec::new();
        let read =
            flate2::read::GzDecoder::new(&body[..]).take(BODY_MAX as u64 + 1).read_to_end(&mut decoded);
        read.map_err(|e| CallError::Unreadable(format!("gzip: {e}")))?;
        if decoded.len() > BODY_MAX { Err(too_large()) } else { Ok(Bytes::from(decoded)) }
    };
    tokio::task::spawn_blocking(decode).await.map_err(|e| CallError::Broken(e.to_string()))?
}

fn refused(status: StatusCode, body: &[u8]) -> CallError {
    let said = serde_json::from_slice::<ErrorBody>(body).ok();
    let ErrorBody { code, message } = said.unwrap_or_else(|| ErrorBody {
        code: String::new(),
        message: String::from_utf8_lossy(&body[..body.len().min(MESSAGE_MAX)]).into_owned(),
    });
    // What a peer says ends up in a log line: bounded, and no line breaks or escapes of its own.
    let tame = |text: String| text.chars().take(MESSAGE_MAX).collect::<String>().escape_debug().to_string();
    CallError::Refused { status: status.as_u16(), code: tame(code), message: tame(message) }
}

fn too_large() -> CallError {
    CallError::Unreadable(format!("an answer of more than {} MiB", BODY_MAX >> 20))
}

const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Packed and unpacked alike. 10,000 services of 10 endpoints are about 20 MB of JSON.
const BODY_MAX: usize = 64 << 20;
const MESSAGE_MAX: usize = 500;
