// SPDX-License-Identifier: Apache-2.0
//! The host everything runs on: this process, moved into private network and mount namespaces. Nothing of the real
//! machine is touched, and nothing is left when the process ends, however it ends, except the folder with the stores.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use kernel::{AddressFlags, Namespace, Netlink, PairKind, PairSpec, PeerSpec, Route, netns, sysctl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::unistd::geteuid;

/// The host's address towards its router, and the router's.
const UPLINK: &str = "10.255.255.1/30";
const ROUTER: &str = "10.255.255.2";
/// Below it, so that neither routes nor pools collide.
const ADDRESSES_OF_BARE: [u8; 2] = [10, 201];

/// The host.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    file_system: &'static str,
    containers: u32,
    /// Where the uplink leads.
    _router: Namespace,
}

/// A container: a network namespace with nothing in it, and a name no other has.
#[derive(Debug, Clone)]
pub struct Container {
    number: u32,
}

impl Machine {
    /// Moves this process, which has one thread, to a host of its own that keeps its files below `folder`.
    pub fn enter(folder: &Path) -> Result<Self> {
        if !geteuid().is_root() {
            bail!("network namespaces need root: run it with sudo");
        }
        let folder = folder.join(std::process::id().to_string());
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("unshare mounts and network")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
        // Named namespaces are bind mounts below /run: on a /run of our own they go with this process.
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).context("mount an own /run")?;
        let file_system = match statfs(&folder).context("examine the folder")?.filesystem_type() {
            EXT4_SUPER_MAGIC => "ext4",
            TMPFS_MAGIC => "tmpfs",
            _ => "another file system",
        };
        let machine = Self {
            folder,
            file_system,
            containers: 0,
            _router: connect()?,
        };
        Ok(machine)
    }

    /// What the stores are on.
    pub fn file_system(&self) -> &'static str {
        self.file_system
    }

    /// A folder below the machine's, made if it is missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    /// The store of the contender that keeps its state under this name.
    pub fn store(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("state/node.db")
    }

    /// A new container.
    pub fn container(&mut self) -> Result<Container> {
        self.containers += 1;
        let container = Container {
            number: self.containers,
        };
        netns::create_named(&container.name())?;
        Ok(container)
    }

    /// Several.
    pub fn containers(&mut self, count: usize) -> Result<Vec<Container>> {
        (0..count).map(|_| self.container()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Container {
    /// Its container ID. The first eleven characters, which interface names are made of, are its own.
    pub fn id(&self) -> String {
        format!("{:011x}{:053x}", self.number, self.number)
    }

    /// The path of its namespace.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name())
    }

    /// The name of its host interface, where the contender does not choose one.
    pub fn host_interface(&self) -> String {
        format!("bare{:011x}", self.number)
    }

    /// The address of a container whose contender does not choose one: 10.201.0.0/16.
    pub fn address(&self) -> String {
        let [_, _, high, low] = self.number.to_be_bytes();
        let [a, b] = ADDRESSES_OF_BARE;
        format!("{a}.{b}.{high}.{low}")
    }

    fn name(&self) -> String {
        format!("c{}", self.number)
    }
}

/// Loopback, and an uplink with the default route: plugins look where the host's packets go.
fn connect() -> Result<Namespace> {
    let router = Namespace::create()?;
    let mut socket = Netlink::open()?;
    let peer = PeerSpec {
        name: "host",
        namespace: Some(std::os::fd::AsFd::as_fd(&router)),
        mac: None,
    };
    let spec = PairSpec {
        kind: PairKind::Veth,
        name: "uplink",
        mac: None,
        mtu: None,
        queues: None,
        peer,
    };
    let uplink = socket.create_pair(&spec)?;
    let mut far = router.socket()?;
    far.set_link_up(uplink.peer_index.context("the uplink has a peer")?)?;
    let loopback = socket
        .link_by_name("lo")?
        .context("a namespace has a loopback device")?;
    socket.set_link_up(&loopback)?;
    socket.set_link_up(&uplink)?;
    socket.add_address(&uplink, UPLINK.parse()?, AddressFlags::default())?;
    socket.add_route(&Route::through(
        "0.0.0.0/0".parse()?,
        ROUTER.parse()?,
        uplink.index,
    ))?;
    sysctl::write("net/ipv4/ip_forward", "1")?;
    Ok(router)
}
