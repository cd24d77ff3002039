// SPDX-License-Identifier: Apache-2.0
//! The other speakers: started on loopback with their files in a folder of the test's, asked by their own command lines,
//! ended with the test. None of them touches a routing table.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The AS number of all of them.
pub(crate) const AS: u32 = 64_511;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Bird,
    Frr,
    Gobgp,
}

pub(crate) struct Speaker {
    kind: Kind,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    child: Child,
    control: u16,
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has at the moment.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("an address").port()
}

fn find(kind: Kind) -> Option<&'static Path> {
    let (program, package) = match kind {
        Kind::Bird => ("/usr/sbin/bird", "bird2"),
        Kind::Frr => ("/usr/lib/frr/bgpd", "frr"),
        Kind::Gobgp => ("/usr/bin/gobgpd", "gobgpd"),
    };
    let path = Path::new(program);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "CI has {program}");
    eprintln!("SKIPPED: {program} is missing (package {package})");
    None
}

impl Speaker {
    /// Starts one that expects us; `None` where it is not installed.
    pub(crate) fn start(kind: Kind, our_as: u32) -> Option<Self> {
        let program = find(kind)?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (port, control) = (port(), port());
        let at = |name: &str| folder.path().join(name);
        let mut command = Command::new(program);
        match kind {
            Kind::Bird => {
                write(&at("bird.conf"), &bird(port, our_as));
                command
                    .args(["-f", "-c"])
                    .arg(at("bird.conf"))
                    .arg("-s")
                    .arg(at("bird.ctl"))
                    .arg("-P")
                    .arg(at("bird.pid"));
            }
            Kind::Frr => {
                write(&at("bgpd.conf"), &frr(our_as));
                let user = if nix::unistd::geteuid().is_root() {
                    "root"
                } else {
                    "frr"
                };
                command
                    .args([
                        "-Z",
                        "-S",
                        "-u",
                        user,
                        "-g",
                        user,
                        "-l",
                        "127.0.0.1",
                        "-P",
                        "0",
                        "-p",
                        &port.to_string(),
                        "-f",
                    ])
                    .arg(at("bgpd.conf"))
                    .arg("-i")
                    .arg(at("bgpd.pid"))
                    .arg("--vty_socket")
                    .arg(folder.path());
            }
            Kind::Gobgp => {
                write(&at("gobgp.toml"), &gobgp(port, our_as));
                command
                    .arg("-f")
                    .arg(at("gobgp.toml"))
                    .arg("--api-hosts")
                    .arg(format!("127.0.0.1:{control}"));
            }
        }
        let log = File::create(at("log")).expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut speaker = Self {
            kind,
            port,
            folder,
            child,
            control,
        };
        speaker.until_listening();
        if matches!(kind, Kind::Gobgp) {
            for arguments in [
                ["10.50.0.0/24", "ipv4", "10.0.0.2"],
                ["fd00:50::/64", "ipv6", "fd00:50::1"],
            ] {
                let [prefix, family, next_hop] = arguments;
                speaker.gobgp(&["global", "rib", "add", prefix, "nexthop", next_hop, "-a", family]);
            }
        }
        Some(speaker)
    }

    fn until_listening(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{:?} does not listen: {}",
                self.kind,
                fs::read_to_string(self.path("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gobgp(&self, arguments: &[&str]) -> String {
        run(Command::new("gobgp")
            .args(["-p", &self.control.to_string()])
            .args(arguments))
    }

    /// What it says of a prefix.
    fn show(&self, prefix: &str) -> String {
        let v6 = prefix.contains(':');
        match self.kind {
            Kind::Bird => run(Command::new("birdc")
                .arg("-s")
                .arg(self.path("bird.ctl"))
                .args(["show", "route", "for", prefix, "all"])),
            Kind::Frr => {
                let family = if v6 { "ipv6" } else { "ipv4" };
                let text = format!("show bgp {family} unicast {prefix}");
                run(Command::new("vtysh")
                    .arg("--vty_socket")
                    .arg(self.folder.path())
                    .args(["-d", "bgpd", "-c", &text]))
            }
            Kind::Gobgp => self.gobgp(&["global", "rib", prefix, "-a", if v6 { "ipv6" } else { "ipv4" }]),
        }
    }

    /// Waits until it has a route that it did not have, or has it no more. Returns what it says of it.
    pub(crate) fn until_shown(&self, prefix: &str, there: bool, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            let shown = self.show(prefix);
            let next_hop = if prefix.contains(':') {
                "fd00:9::9"
            } else {
                "10.0.0.9"
            };
            if shown.contains(next_hop) == there {
                return shown;
            }
            assert!(Instant::now() < deadline, "{:?}, {prefix}: {shown}", self.kind);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}

fn run(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn bird(port: u16, our_as: u32) -> String {
    format!(
        "router id 10.0.0.2;
         protocol device {{}}
         protocol static {{ ipv4; route 10.50.0.0/24 blackhole; }}
         protocol static {{ ipv6; route fd00:50::/64 blackhole; }}
         protocol bgp peer {{
             local 127.0.0.1 port {port} as {AS};
             neighbor 127.0.0.1 as {our_as};
             passive on; multihop; strict bind on;
             ipv4 {{ import keep filtered; import all; export where source = RTS_STATIC; gateway recursive; next hop address 10.0.0.2; }};
             ipv6 {{ import all; export where source = RTS_STATIC; next hop address fd00:50::1; }};
         }}"
    )
}

fn frr(our_as: u32) -> String {
    format!(
        "hostname peer
         router bgp {AS}
          bgp router-id 10.0.0.2
          no bgp ebgp-requires-policy
          no bgp network import-check
          neighbor 127.0.0.1 remote-as {our_as}
          neighbor 127.0.0.1 passive
          neighbor 127.0.0.1 ebgp-multihop 5
          neighbor 127.0.0.1 disable-connected-check
          address-family ipv4 unicast
           network 10.50.0.0/24
           neighbor 127.0.0.1 soft-reconfiguration inbound
          exit-address-family
          address-family ipv6 unicast
           neighbor 127.0.0.1 activate
           neighbor 127.0.0.1 soft-reconfiguration inbound
           network fd00:50::/64
          exit-address-family
         "
    )
}

fn gobgp(port: u16, our_as: u32) -> String {
    format!(
        "[global.config]
         as = {AS}
         router-id = \"10.0.0.2\"
         port = {port}
         local-address-list = [\"127.0.0.1\"]
         [[neighbors]]
         [neighbors.config]
         neighbor-address = \"127.0.0.1\"
         peer-as = {our_as}
         [neighbors.transport.config]
         passive-mode = true
         [neighbors.ebgp-multihop.config]
         enabled = true
         multihop-ttl = 5
         [[neighbors.afi-safis]]
         [neighbors.afi-safis.config]
         afi-safi-name = \"ipv4-unicast\"
         [[neighbors.afi-safis]]
         [neighbors.afi-safis.config]
         afi-safi-name = \"ipv6-unicast\"
         "
    )
}
