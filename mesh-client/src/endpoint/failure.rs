//! What an error of a connection means for the call.

use crate::{Error, error::Cause};
use std::{error::Error as StdError, io, sync::Arc};

/// Returns what `error` means for the call.
pub(super) fn error_of(endpoint: Option<&Arc<str>>, error: hyper::Error) -> Error {
    let cause = cause_of(&error);
    let what = match cause {
        Cause::RefusedStream => "refused the stream",
        Cause::RemoteReset => "reset the stream",
        Cause::Vanished => "is gone without a word",
        Cause::Protocol => "broke the protocol",
        Cause::Body => "was not sent the whole request, as its body failed",
        _ => "closed the connection",
    };
    let flag = cause.flag().map_or_else(String::new, |flag| format!(" ({flag:?})"));
    let reason = innermost(&error);
    let message = format!("{} {what}{flag}: {reason}", endpoint.map_or("the peer", |label| label));
    Error::new(cause, message).with_source(Arc::new(error))
}

// spec: envoy source/common/router/router.cc, its local replies
fn cause_of(error: &hyper::Error) -> Cause {
    if is_vanished(error) {
        return Cause::Vanished;
    }
    if let Some(h2) = find::<h2::Error>(error) {
        return cause_of_h2(h2);
    }
    if error.is_parse() {
        Cause::Protocol
    } else if error.is_user() {
        Cause::Body
    } else {
        Cause::Termination
    }
}

/// Whether a ping was not answered, or the system gave up on a peer that acknowledges nothing.
fn is_vanished(error: &hyper::Error) -> bool {
    error.is_timeout()
        || find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

fn cause_of_h2(error: &h2::Error) -> Cause {
    match error.reason() {
        _ if error.is_io() => Cause::Termination,
        Some(h2::Reason::REFUSED_STREAM) => Cause::RefusedStream,
        // Only streams beyond the last one that the peer says it may have handled end like this, whatever its reason is.
        // spec: rfc9113 6.8
        _ if error.is_go_away() && error.is_remote() => Cause::RefusedStream,
        Some(_) if error.is_remote() => Cause::RemoteReset,
        Some(_) if error.is_library() => Cause::Protocol,
        // hyper resets a stream only because the body for it failed.
        _ => Cause::Body,
    }
}

/// Returns `error` and what it was caused by, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn innermost(error: &hyper::Error) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}
