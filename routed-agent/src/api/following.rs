// SPDX-License-Identifier: Apache-2.0
//! The journal over HTTP: what has happened, and what happens from now on. Neither is asked of the agent's own thread.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query as Parameters, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::{Bytes, Frame};
use ipnet::IpNet;
use model::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::journal::{Filter, Journal, Kind, Reader};

/// Lines in an answer where no number is asked for.
const LINES: usize = 10_000;
/// Most lines in an answer.
const MOST_LINES: usize = 200_000;
/// Pieces of the stream that wait for a reader.
const PIECES: usize = 2;

pub(super) fn routes(journal: Journal) -> Router {
    Router::new()
        .route("/v1/journal", get(history))
        .route("/v1/changes", get(changes))
        .with_state(journal)
}

/// What is asked for.
#[derive(Deserialize)]
struct Wanted {
    since: Option<String>,
    prefix: Option<IpNet>,
    peer: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
}

impl Wanted {
    fn filter(self) -> Result<Filter, String> {
        let since = self.since.as_deref().map(since).transpose()?;
        let kind = self.kind.map(|kind| kind.parse::<Kind>()).transpose();
        Ok(Filter {
            since_ms: since,
            prefix: self.prefix,
            peer: self.peer,
            kind: kind.map_err(|problem| format!("kind: {problem}"))?,
        })
    }
}

/// `10m`, `2h` and the like before now, or a time; in milliseconds since the Unix epoch.
fn since(text: &str) -> Result<u64, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.unix_nanos() / 1_000_000);
    }
    let problem =
        || format!("since: {text:?} is neither a duration such as 30s, 10m, 2h, 1d nor an RFC 3339 time");
    let unit = text.chars().last().ok_or_else(problem)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(problem()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| problem())?;
    let ago = Duration::from_secs(count.checked_mul(seconds).ok_or_else(problem)?);
    let now = Timestamp::from(std::time::SystemTime::now()).unix_nanos() / 1_000_000;
    Ok(now.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
}

fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

async fn history(State(journal): State<Journal>, Parameters(wanted): Parameters<Wanted>) -> Response {
    let limit = wanted.limit.unwrap_or(LINES).min(MOST_LINES);
    let filter = match wanted.filter() {
        Ok(filter) => filter,
        Err(problem) => return refusal(StatusCode::BAD_REQUEST, &problem),
    };
    // A long answer takes a while to write: elsewhere.
    let made = tokio::task::spawn_blocking(move || {
        let (lines, left_out) = journal.find(&filter, limit);
        let mut text = format!("{{\"leftOut\":{left_out},\"journal\":[").into_bytes();
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                text.push(b',');
            }
            line.write_json(&mut text);
        }
        text.extend_from_slice(b"]}\n");
        text
    });
    match made.await {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(problem) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    }
}

async fn changes(State(journal): State<Journal>, Parameters(wanted): Parameters<Wanted>) -> Response {
    let filter = match wanted.filter() {
        Ok(filter) => filter,
        Err(problem) => return refusal(StatusCode::BAD_REQUEST, &problem),
    };
    let reader = match journal.read_along(filter) {
        Ok(reader) => reader,
        Err(problem) => return refusal(StatusCode::TOO_MANY_REQUESTS, &problem.to_string()),
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(feed(reader, sender));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::new(Stream { pieces })).into_response()
}

/// Hands lines to the connection for as long as somebody is there.
async fn feed(mut reader: Reader, sender: mpsc::Sender<Vec<u8>>) {
    loop {
        let piece = tokio::select! {
            piece = reader.next() => piece,
            () = sender.closed() => return,
        };
        let Some(piece) = piece else { return };
        if sender.send(piece).await.is_err() {
            return;
        }
    }
}

/// The body of an answer that has no end.
struct Stream {
    pieces: mpsc::Receiver<Vec<u8>>,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = ready!(self.pieces.poll_recv(context));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}
