// SPDX-License-Identifier: Apache-2.0
//! What the container runtimes of this host say they have. containerd is asked by its own API, in every namespace it
//! has; CRI-O and cri-dockerd by CRI; Docker by its HTTP API. Podman and cnitool have no daemon to ask.
//!
//! A runtime that has a socket and does not answer leaves the question open: then nothing is concluded from its silence.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes, http::uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// How long one runtime may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of one answer.
const MAX_ANSWER: usize = 64 << 20;

/// IDs by which runtimes may have called the plugin for a container that they have, running or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    ids: BTreeSet<String>,
}

impl Known {
    /// Whether a runtime has a container of this ID.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }
}

impl FromIterator<String> for Known {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        Self {
            ids: ids.into_iter().collect(),
        }
    }
}

/// Asks every runtime whose socket exists. An error names the runtime that does not answer.
pub(super) fn ask(sockets: &[PathBuf]) -> Result<Known> {
    let present: Vec<&PathBuf> = sockets.iter().filter(|socket| socket.exists()).collect();
    if present.is_empty() {
        return Ok(Known::default());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("ask container runtimes")?;
    runtime.block_on(async {
        let mut known = Known::default();
        for socket in present {
            let answer = tokio::time::timeout(PATIENCE, ask_one(socket)).await;
            let ids = match answer {
                Ok(answer) => answer,
                Err(_) => Err(anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs())),
            };
            known
                .ids
                .extend(ids.with_context(|| format!("container runtime at {}", socket.display()))?);
        }
        Ok(known)
    })
}

async fn ask_one(socket: &Path) -> Result<Vec<String>> {
    if socket.file_name().is_some_and(|name| name == "docker.sock") {
        return docker(socket).await;
    }
    let mut client = connect(socket).await?;
    match containerd(&mut client).await {
        Err(status) if status.code() == Code::Unimplemented => {}
        Err(status) => bail!("containerd's list of containers: {}", describe(&status)),
        Ok(ids) => return Ok(ids),
    }
    match cri(&mut client).await {
        Ok(ids) => Ok(ids),
        Err(status) if status.code() == Code::Unimplemented => bail!(
            "it speaks neither containerd's API nor CRI; leave it out of CALICO_CONTAINER_RUNTIMES if no container of \
             this host's networks is its"
        ),
        Err(status) => bail!("CRI's list of pod sandboxes: {}", describe(&status)),
    }
}

async fn connect(socket: &Path) -> Result<Grpc<Channel>> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    Ok(Grpc::new(endpoint.connect().await?).max_decoding_message_size(MAX_ANSWER))
}

fn describe(status: &Status) -> String {
    format!("{} ({:?})", status.message(), status.code())
}

/// Every container in every namespace, and as what the plugin is called for it: `ctr` and nerdctl put the namespace in
/// front.
async fn containerd(client: &mut Grpc<Channel>) -> Result<Vec<String>, Status> {
    let mut ids = Vec::new();
    let namespaces: Listed = unary(client, "/containerd.services.namespaces.v1.Namespaces/List").await?;
    for Item { id: namespace } in namespaces.items {
        let mut request = tonic::Request::new(Nothing {});
        let name = namespace
            .parse()
            .map_err(|_| Status::internal(format!("namespace {namespace:?} is no word")))?;
        request.metadata_mut().insert("containerd-namespace", name);
        ready(client).await?;
        // One container a message: their specifications are long.
        let path = PathAndQuery::from_static("/containerd.services.containers.v1.Containers/ListStream");
        let codec = ProstCodec::<Nothing, Streamed>::default();
        let mut containers = client.server_streaming(request, path, codec).await?.into_inner();
        while let Some(Streamed { item }) = containers.message().await? {
            let id = item.unwrap_or_default().id;
            ids.push(format!("{namespace}-{id}"));
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Every pod sandbox, ready or not.
async fn cri(client: &mut Grpc<Channel>) -> Result<Vec<String>, Status> {
    let sandboxes: Listed = unary(client, "/runtime.v1.RuntimeService/ListPodSandbox").await?;
    Ok(sandboxes.items.into_iter().map(|item| item.id).collect())
}

async fn unary<A: prost::Message + Default + Send + Sync + 'static>(
    client: &mut Grpc<Channel>,
    path: &'static str,
) -> Result<A, Status> {
    ready(client).await?;
    let codec = ProstCodec::<Nothing, A>::default();
    let request = tonic::Request::new(Nothing {});
    let answer = client
        .unary(request, PathAndQuery::from_static(path), codec)
        .await?;
    Ok(answer.into_inner())
}

async fn ready(client: &mut Grpc<Channel>) -> Result<(), Status> {
    client
        .ready()
        .await
        .map_err(|problem| Status::unavailable(problem.to_string()))
}

/// A request that asks for everything.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Nothing {}

/// `ListNamespacesResponse` and `ListPodSandboxResponse`: what they list is member 1.
#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Item>,
}

/// `ListContainerMessage`.
#[derive(Clone, PartialEq, prost::Message)]
struct Streamed {
    #[prost(message, optional, tag = "1")]
    item: Option<Item>,
}

/// `Namespace`, `Container` and `PodSandbox`: each begins with its name or ID.
#[derive(Clone, PartialEq, prost::Message)]
struct Item {
    #[prost(string, tag = "1")]
    id: String,
}

/// Every container, running or not.
async fn docker(socket: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Container {
        id: String,
    }
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .uri("/containers/json?all=true")
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    driver.abort();
    let body = body
        .map_err(|problem| anyhow::anyhow!("Docker's list of containers: {problem}"))?
        .to_bytes();
    if !status.is_success() {
        bail!(
            "Docker's list of containers: {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    let containers: Vec<Container> = serde_json::from_slice(&body).context("Docker's list of containers")?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use prost::Message as _;

    use super::*;

    #[test]
    fn a_list_of_sandboxes_is_read_by_its_ids() {
        // Two PodSandbox messages: id, and a member 5 (created_at) that is passed over.
        let bytes = b"\x0a\x06\x0a\x02ab\x28\x07\x0a\x04\x0a\x02cd";
        let listed = Listed::decode(bytes.as_slice()).unwrap();
        let ids: Vec<&str> = listed.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["ab", "cd"]);
    }

    /// Answers one request on `docker.sock`.
    fn docker_says(answer: &'static str) -> Result<Known> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let known = ask(&[path, "/nowhere/x.sock".into()]);
        assert!(
            server
                .join()
                .unwrap()
                .starts_with("GET /containers/json?all=true ")
        );
        known
    }

    #[test]
    fn docker_lists_what_it_has_also_what_does_not_run() {
        let known =
            docker_says("HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n[{\"Id\":\"abc\",\"Names\":[\"x\"]}]")
                .unwrap();
        assert!(known.contains("abc") && !known.contains("x"));
    }

    #[test]
    fn an_answer_that_is_none_leaves_the_question_open() {
        for answer in [
            "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n[]",
        ] {
            let problem = format!("{:#}", docker_says(answer).unwrap_err());
            assert!(problem.contains("docker.sock"), "{problem}");
        }
        assert_eq!(ask(&["/nowhere/x.sock".into()]).unwrap(), Known::default());
    }
}
