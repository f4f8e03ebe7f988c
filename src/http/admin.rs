//! Health and metrics, on a loopback listener of their own: probes have no client certificate.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::Doors;

/// What the admin routes stand on.
#[derive(Clone)]
struct Admin {
    doors: Doors,
    metrics: PrometheusHandle,
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn admin(doors: Doors, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Admin { doors, metrics })
}

/// Serves the admin routes until told to stop. No TLS, no limits: the listener is on loopback.
pub async fn serve_admin(
    listener: TcpListener,
    routes: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, routes)
        .with_graceful_shutdown(stopped)
        .await
}

/// Ready only if requests would be served; `?verbose` says which check fails.
async fn ready(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let doors = &admin.doors;
    let now = doors.clock.now();
    let store = doors.escrow.store().head().await;
    let fenced = doors.escrow.fenced();
    let feed = doors.escrow.feed_silence().await;
    let lists_until = doors.tls.trust().settled_until();
    let checks = [
        (
            "store",
            store
                .as_ref()
                .err()
                .map(|_| "the database does not answer".to_owned()),
        ),
        ("log", fenced),
        (
            "clock",
            store
                .as_ref()
                .is_ok_and(|head| doors.escrow.is_clock_back(head))
                .then(|| "far behind the newest entry".to_owned()),
        ),
        (
            "registration_feed",
            match feed {
                Ok((_, false)) => None,
                Ok((Some(silence), true)) => Some(format!("silent for {} s", silence.as_secs())),
                Ok((None, true)) => Some("nothing has been imported yet".to_owned()),
                Err(_) => Some("the database does not answer".to_owned()),
            },
        ),
        ("witnesses", doors.escrow.witness_alarm()),
        (
            "revocation_lists",
            (lists_until <= now).then(|| format!("stale since {lists_until}")),
        ),
    ];
    let failed = checks.iter().any(|(_, failure)| failure.is_some());
    let mut text = String::new();
    if query.is_some_and(|query| query.contains("verbose")) {
        for (name, failure) in &checks {
            text.push_str(&match failure {
                None => format!("[+] {name} ok\n"),
                Some(reason) => format!("[-] {name} failed: {reason}\n"),
            });
        }
    }
    text.push_str(if failed { "not ready\n" } else { "ready\n" });
    let status = match failed {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    };
    (status, text).into_response()
}

async fn render(State(admin): State<Admin>) -> String {
    if let Ok(head) = admin.doors.escrow.store().head().await {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("cos_escrow_log_size").set(head.size as f64);
        let age = admin.doors.clock.now().since(head.last_at);
        metrics::gauge!("cos_escrow_log_head_age_seconds").set(age.as_secs_f64());
    }
    if let Some(age) = admin.doors.escrow.cosign_age() {
        metrics::gauge!("cos_escrow_log_cosign_age_seconds").set(age.as_secs_f64());
    }
    if let Ok((Some(silence), _)) = admin.doors.escrow.feed_silence().await {
        metrics::gauge!("cos_escrow_registration_feed_silence_seconds").set(silence.as_secs_f64());
    }
    let fenced = f64::from(u8::from(admin.doors.escrow.fenced().is_some()));
    metrics::gauge!("cos_escrow_fenced").set(fenced);
    admin.metrics.run_upkeep();
    admin.metrics.render()
}
