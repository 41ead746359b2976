//! `meshctl serve`.

use super::args::ServeArgs;
use mesh_control::{ControlEndpoint, ControlSettings};
use std::io::Write;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) fn run(args: ServeArgs, json: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    runtime.block_on(serve(args, json))
}

async fn serve(args: ServeArgs, json: bool) -> Result<(), String> {
    // Before the endpoint answers: who waits for the line may send the signal at once.
    let listen_to = |kind| signal(kind).map_err(|error| format!("listening to signals: {error}"));
    let (mut terminate, mut interrupt) =
        (listen_to(SignalKind::terminate())?, listen_to(SignalKind::interrupt())?);

    let mut settings = ControlSettings::default();
    settings.config = args.config;
    settings.listen = args.listen;
    settings.data = args.data;
    settings.insecure_http = args.insecure_http;
    settings.trust_domain = args.trust_domain;
    settings.certificate_ttl = args.certificate_ttl;
    let endpoint = ControlEndpoint::start(settings).await.map_err(|error| error.to_string())?;
    announce(&endpoint.url(), json);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    endpoint.stop().await;
    Ok(())
}

/// A reader that is gone is no reason to stop serving.
fn announce(url: &str, json: bool) {
    let line = if json {
        serde_json::json!({"ready": true, "url": url}).to_string()
    } else {
        format!("control endpoint ready on {url}")
    };
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
