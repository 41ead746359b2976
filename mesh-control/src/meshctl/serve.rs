//! `meshctl serve`.

use super::args::ServeArgs;
use mesh_control::{ControlEndpoint, ControlSettings};
use std::io::Write;

pub(crate) fn run(args: ServeArgs, json: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    runtime.block_on(serve(args, json))
}

async fn serve(args: ServeArgs, json: bool) -> Result<(), String> {
    // Before the endpoint answers: who waits for the line may send the signal at once.
    let asked_to_stop = asked_to_stop().map_err(|error| format!("listening to signals: {error}"))?;

    let mut settings = ControlSettings::default();
    settings.config = args.config;
    settings.listen = args.listen;
    settings.data = args.data;
    settings.insecure_http = args.insecure_http;
    settings.trust_domain = args.trust_domain;
    settings.certificate_ttl = args.certificate_ttl;
    let endpoint = ControlEndpoint::start(settings).await.map_err(|error| error.to_string())?;
    announce(&endpoint.url(), json);

    asked_to_stop.await;
    tracing::info!("stopping");
    endpoint.stop().await;
    Ok(())
}

/// Returns what ends at SIGTERM or SIGINT, both of which it listens to from now on.
#[cfg(unix)]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

/// A reader that is gone is no reason to stop serving.
fn announce(url: &str, json: bool) {
    let mut lines = format!("control endpoint ready on {url}\n");
    if json {
        lines += &format!("{}\n", serde_json::json!({"ready": true, "url": url}));
    }
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}
