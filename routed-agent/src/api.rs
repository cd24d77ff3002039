// SPDX-License-Identifier: Apache-2.0
//! The local API: HTTP on a unix socket that is root's, and what of it monitoring needs on TCP.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/status`, `/v1/peers`, `/v1/configuration`, `/v1/plan` | JSON |
//! | `/v1/journal?since=…&prefix=…&peer=…&kind=…&limit=…` | JSON: what has happened |
//! | `/v1/changes?prefix=…&peer=…&kind=…` | what happens from now on, a line of JSON each, without end |
//! | `/v1/routes?prefix=…`, `/v1/announced?peer=…`, `/v1/explain?from=…&to=…` | JSON |
//! | `/metrics` | text for Prometheus |
//! | `/livez`, `/readyz` (also `/liveness`, `/readiness`, as Felix has them) | 200, or 503 with reason codes |
//! | POST `/v1/leave`, `/v1/cleanup` | the agent ends; on the unix socket only |

mod following;

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    extract::{Query as Parameters, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    agent::{Answer, Body, Query},
    journal::Journal,
};

/// Where questions go.
pub type Asking = mpsc::Sender<(Query, oneshot::Sender<Answer>)>;

/// A unix socket that is served; it goes with this.
#[derive(Debug)]
pub struct Served {
    path: std::path::PathBuf,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves everything on a unix socket.
pub fn serve_unix(path: &Path, asking: Asking, journal: Journal) -> Result<Served> {
    let bind = || -> std::io::Result<UnixListener> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::AddrInUse,
                "another routed-agent answers there; stop it, or set CALICO_RUN_DIR to another folder",
            ));
        }
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    };
    let listener = bind().with_context(|| format!("API socket {}", path.display()))?;
    let router = watching()
        .route("/v1/status", get(|state| ask(state, Query::Status)))
        .route("/v1/peers", get(|state| ask(state, Query::Peers)))
        .route("/v1/plan", get(|state| ask(state, Query::Plan)))
        .route("/v1/configuration", get(|state| ask(state, Query::Configuration)))
        .route("/v1/routes", get(routes))
        .route("/v1/announced", get(announced))
        .route("/v1/explain", get(explain))
        .route("/v1/leave", post(|state| ask(state, Query::Leave)))
        .route("/v1/cleanup", post(|state| ask(state, Query::CleanUp)))
        .with_state(asking)
        .merge(following::routes(journal));
    let task = tokio::spawn(async move {
        // Serving ends with the task only.
        let _ = axum::serve(listener, router).await;
    });
    Ok(Served {
        path: path.to_owned(),
        task: task.abort_handle(),
    })
}

/// Serves metrics and health on TCP.
pub fn serve_tcp(host: &str, port: u16, asking: Asking) -> Result<()> {
    let bind = || -> std::io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = bind().with_context(|| format!("listen for health and metrics on {host} port {port}"))?;
    let router = watching().with_state(asking);
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok(())
}

fn watching() -> Router<Asking> {
    Router::new()
        .route("/metrics", get(|state| ask(state, Query::Metrics)))
        .route("/livez", get(|state| ask(state, Query::Live)))
        .route("/liveness", get(|state| ask(state, Query::Live)))
        .route("/readyz", get(|state| ask(state, Query::Ready)))
        .route("/readiness", get(|state| ask(state, Query::Ready)))
}

async fn ask(State(asking): State<Asking>, query: Query) -> Response {
    let (answer, answered) = oneshot::channel();
    let sent = asking.send((query, answer)).await.is_ok();
    let answer = if sent { answered.await.ok() } else { None };
    let Some(answer) = answer else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the agent is ending\n").into_response();
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answer.body {
        Body::Json(value) => (status, Json(value)).into_response(),
        Body::Text(text) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (status, kind, text).into_response()
        }
    }
}

#[derive(Deserialize)]
struct PrefixParameter {
    prefix: Option<IpNet>,
}

async fn routes(state: State<Asking>, Parameters(parameters): Parameters<PrefixParameter>) -> Response {
    ask(state, Query::Routes(parameters.prefix)).await
}

#[derive(Deserialize)]
struct PeerParameter {
    peer: String,
}

async fn announced(state: State<Asking>, Parameters(parameters): Parameters<PeerParameter>) -> Response {
    ask(state, Query::Announced(parameters.peer)).await
}

#[derive(Deserialize)]
struct Pair {
    from: IpAddr,
    to: IpAddr,
}

async fn explain(state: State<Asking>, Parameters(pair): Parameters<Pair>) -> Response {
    let Pair { from, to } = pair;
    ask(state, Query::Explain { from, to }).await
}
