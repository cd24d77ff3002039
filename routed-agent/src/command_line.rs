// SPDX-License-Identifier: Apache-2.0
//! The command line: running the agent, and asking a running one.

mod following;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use following::{Output, Wanted};

use crate::{
    agent::{Ending, run},
    configuration::Variables,
    start::Start,
    table,
};

/// The daemon of a Calico host: BGP, routes, tunnels.
#[derive(Debug, Parser)]
#[command(name = "routed-agent", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground; the environment says how (docs/settings.md).
    Run,
    /// Show the peers of the running agent.
    Status {
        /// Everything, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how packets get from one address to another, and why so.
    Explain {
        /// The container that sends.
        #[arg(long)]
        from: IpAddr,
        /// The container that is to receive.
        #[arg(long)]
        to: IpAddr,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what the running agent answers on a path of its API, such as /v1/plan.
    Get {
        /// The path.
        path: String,
    },
    /// Show what changes, as it changes, until interrupted.
    Watch {
        #[command(flatten)]
        wanted: Wanted,
        /// `text`, or `json`: a line of JSON for each change.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show what has changed, and why.
    Journal {
        /// Not longer ago than this, such as 30s, 10m, 2h or 1d; or an RFC 3339 time.
        #[arg(long)]
        since: Option<String>,
        #[command(flatten)]
        wanted: Wanted,
        /// At most so many lines, the newest.
        #[arg(long, default_value_t = 10_000)]
        limit: u32,
        /// `text` or `json`.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// End the running agent and tell its peers that this host leaves. Its routes stay.
    Leave,
    /// End the running agent, tell its peers, and remove every route and device that is ours.
    Cleanup,
}

/// Does what the arguments say.
pub fn main() -> Result<()> {
    let line = CommandLine::parse();
    if let Command::Run = line.command {
        crate::log::start();
        kernel::process::fail_instead_of_dying();
        let start = Start::read(Variables::of_process())?;
        let ending = run(start)?;
        tracing::info!(target: "agent", "ended: {}", match ending {
            Ending::Restart => "routes stay, peers wait for the return",
            Ending::Leave => "peers were told, routes stay",
            Ending::CleanUp => "peers were told, routes and devices are gone",
        });
        return Ok(());
    }
    let socket = socket();
    match line.command {
        Command::Run => Ok(()),
        Command::Status { json } => {
            let status = get(&socket, "/v1/status")?;
            print(json, &status, table::status)
        }
        Command::Explain { from, to, json } => {
            let answer = get(&socket, &format!("/v1/explain?from={from}&to={to}"))?;
            print(json, &answer, table::explain)
        }
        Command::Get { path } => {
            let text = request(&socket, Method::GET, &path)?;
            println!("{text}");
            Ok(())
        }
        Command::Watch { wanted, output } => following::watch(&socket, &wanted, output),
        Command::Journal {
            since,
            wanted,
            limit,
            output,
        } => following::journal(&socket, since, &wanted, limit, output),
        Command::Leave => request(&socket, Method::POST, "/v1/leave").map(drop),
        Command::Cleanup => request(&socket, Method::POST, "/v1/cleanup").map(drop),
    }
}

fn print(json: bool, value: &Value, as_text: impl Fn(&Value) -> String) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        print!("{}", as_text(value));
    }
    Ok(())
}

fn socket() -> PathBuf {
    let run_dir = Variables::of_process()
        .first(&["CALICO_RUN_DIR"])
        .map(|(_, path)| path);
    let run_dir = run_dir.unwrap_or_else(|| calico_ipam::settings::DEFAULT_RUN_DIR.to_owned());
    Path::new(&run_dir).join("agent.sock")
}

fn get(socket: &Path, path: &str) -> Result<Value> {
    let text = request(socket, Method::GET, path)?;
    serde_json::from_str(&text).context("the agent's answer is no JSON")
}

/// Asks the running agent.
fn request(socket: &Path, method: Method, path: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let answer = begin(socket, method, path).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        // An agent that is not ready answers all the same.
        if !status.is_success() && status.as_u16() != 503 {
            bail!("{path}: {status}: {text}");
        }
        Ok(text)
    })
}

/// Asks the running agent, up to where its answer begins.
async fn begin(socket: &Path, method: Method, path: &str) -> Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no agent answers at {}; is it running?", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}
