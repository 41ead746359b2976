//! Reads what happens to a request beside its way to the destination: `fault`, `mirror` and `mirrors`.
// spec: istio pkg/config/validation validateHTTPFaultInjection, validateHTTPMirrors

use super::HttpMirror;
use crate::{
    config::{
        decode::{self, Decoder, Fields, choice, lasting},
        diagnostic::{Code, Diagnostic},
        istio::common::Destination,
        tree::Node,
    },
    route::{Abort, AbortAnswer, Chance, Delay, Fault},
};
use http::StatusCode;

/// Reads `fault`.
pub(super) fn fault<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Fault> {
    let mut fields = decoder.fields(node)?;
    let delay = fields.get("delay", delay);
    let abort = fields.get("abort", abort);
    if !fields.has("delay") && !fields.has("abort") {
        let at = fields.at;
        fields.decoder.refuse(at, "one of delay and abort is required");
    }
    fields.finish();
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

fn delay<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Delay> {
    let mut fields = decoder.fields(node)?;
    let chance = chance(&mut fields);
    let duration = fields.get("fixedDelay", lasting);
    fields.no_effect(&[("exponentialDelay", "no version of Istio delays so; write `fixedDelay`")]);
    if !fields.has("fixedDelay") && !fields.has("exponentialDelay") {
        note_idle(&mut fields, "a delay without `fixedDelay` delays nothing");
    }
    fields.finish();
    Some(Delay { chance, duration: duration? })
}

fn abort<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Abort> {
    let mut fields = decoder.fields(node)?;
    let chance = chance(&mut fields);
    let http = fields.get("httpStatus", |decoder, node| {
        let status = decode::number(decoder, node, 200_u16, 599)?;
        StatusCode::from_u16(status).ok().map(AbortAnswer::Status)
    });
    let grpc = fields.get("grpcStatus", |d, n| choice(d, n, GRPC_STATUSES)).map(AbortAnswer::Grpc);
    fields
        .unsupported(&[("http2Error", "requests would not be aborted; write `httpStatus` or `grpcStatus`")]);
    let written =
        ["httpStatus", "grpcStatus", "http2Error"].into_iter().filter(|name| fields.has(name)).count();
    if written > 1 {
        let at = fields.at;
        fields.decoder.refuse(at, "only one of httpStatus and grpcStatus may be set");
    }
    if written == 0 {
        note_idle(&mut fields, "an abort without `httpStatus` or `grpcStatus` aborts nothing");
    }
    fields.finish();
    Some(Abort { chance, answer: http.or(grpc)? })
}

/// Reads how often a fault happens; never, if nothing says how often.
fn chance(fields: &mut Fields<'_, '_>) -> Chance {
    let chance = fields.get("percentage", percentage);
    let old = fields.get("percent", whole_percent);
    fields.deprecated("percent", "percentage: {value: ...}");
    if !fields.has("percentage") && !fields.has("percent") {
        note_idle(fields, "without `percentage` it happens to no request");
    }
    chance.or(old).unwrap_or(Chance::NEVER)
}

fn note_idle(fields: &mut Fields<'_, '_>, message: &str) {
    let at = fields.at;
    fields.decoder.find(at, Diagnostic::warning(Code::SCHEMA_WARNING, message));
}

impl HttpMirror {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let destination = fields.require("destination", Destination::read);
        let percentage = fields.get("percentage", percentage);
        fields.finish();
        Some(Self { destination: destination?, percentage })
    }
}

/// Reads how often `mirror` happens.
pub(super) fn mirror_percentage(fields: &mut Fields<'_, '_>) -> Option<Chance> {
    let percentage = fields.get("mirrorPercentage", percentage);
    let old = fields.get("mirrorPercent", whole_percent);
    fields.deprecated("mirrorPercent", "mirrorPercentage: {value: ...}");
    percentage.or(old)
}

/// Reads `{value: N}`, 0 to 100.
fn percentage<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Chance> {
    let mut fields = decoder.fields(node)?;
    let value = fields.get("value", |decoder, node| decode::decimal(decoder, node, 0.0, 100.0));
    let absent = !fields.has("value");
    fields.finish();
    if absent { Some(Chance::NEVER) } else { value.map(Chance::of_percent) }
}

fn whole_percent(decoder: &mut Decoder<'_>, node: &Node) -> Option<Chance> {
    decode::percent(decoder, node).map(|percent| Chance::of_percent(percent.into()))
}

// spec: grpc doc/statuscodes.md
const GRPC_STATUSES: &[(&str, u8)] = &[
    ("OK", 0),
    ("CANCELLED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("PERMISSION_DENIED", 7),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
    ("UNAUTHENTICATED", 16),
];
