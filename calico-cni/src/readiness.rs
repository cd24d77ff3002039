// SPDX-License-Identifier: Apache-2.0
//! `readiness_gates`: URLs that have to answer before an interface is made. Calico polls each every 5 s for 30 s and
//! waits 5 s before the first try; here the first try comes at once.
//!
//! A host is an address, `localhost`, or a name in /etc/hosts: gates are about daemons of this host, and the static
//! program has no resolver.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use cni_plugin::{Code, Error};

const LIMIT: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_secs(5);

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    host: String,
    port: u16,
    path: String,
}

impl Gate {
    /// Reads an `http://` URL; `None` if it is none.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if path
            .bytes()
            .any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control())
        {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']')?;
                (
                    host,
                    rest.strip_prefix(':')
                        .unwrap_or(if rest.is_empty() { "80" } else { "" }),
                )
            }
            None => authority.split_once(':').unwrap_or((authority, "80")),
        };
        let sound = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte));
        sound.then_some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
            path: path.to_owned(),
        })
    }

    /// Waits until the URL answers with a status from 200 to 399.
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_until(Instant::now() + LIMIT)
    }

    fn wait_until(&self, deadline: Instant) -> Result<(), Error> {
        loop {
            let problem = match self.status() {
                Ok(200..=399) => return Ok(()),
                Ok(status) => format!("it answers {status}"),
                Err(problem) => problem.to_string(),
            };
            if Instant::now() + INTERVAL > deadline {
                let Self { host, port, path } = self;
                let message = format!("readiness gate http://{host}:{port}{path} is not ready: {problem}");
                return Err(Error::new(Code::TryAgainLater, message));
            }
            thread::sleep(INTERVAL);
        }
    }

    fn status(&self) -> std::io::Result<u16> {
        let unusable = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let address =
            resolve(&self.host).ok_or_else(|| unusable("its host is no address and not in /etc/hosts"))?;
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, self.port), ATTEMPT)?;
        stream.set_read_timeout(Some(ATTEMPT))?;
        stream.set_write_timeout(Some(ATTEMPT))?;
        write!(
            stream,
            "GET {} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.path, self.host
        )?;
        let mut answer = Vec::new();
        stream.take(256).read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok());
        status.ok_or_else(|| unusable("its answer is not HTTP"))
    }
}

fn resolve(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let named = hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    });
    let local = host
        .eq_ignore_ascii_case("localhost")
        .then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    named.or(local)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn serve(status: &'static str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().take(1).flatten() {
                let mut stream = stream;
                // To its end: what is closed with something unread is reset.
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1)
                {
                    request.push(byte[0]);
                }
                let _ = write!(stream, "HTTP/1.1 {status}\r\n\r\n");
            }
        });
        Gate::parse(&format!("http://127.0.0.1:{port}/readiness")).unwrap()
    }

    #[test]
    fn urls_are_read() {
        let gate = |host: &str, port, path: &str| {
            Some(Gate {
                host: host.into(),
                port,
                path: path.into(),
            })
        };
        assert_eq!(
            Gate::parse("http://localhost:9099/readiness"),
            gate("localhost", 9099, "/readiness")
        );
        assert_eq!(Gate::parse("http://10.0.0.1"), gate("10.0.0.1", 80, "/"));
        assert_eq!(Gate::parse("http://[::1]:80/x?y"), gate("::1", 80, "/x?y"));
        for url in [
            "https://a/",
            "a",
            "http://",
            "http://a:b/",
            "http://a b/",
            "http://a/\r\nX: y",
            "http://[::1",
        ] {
            assert_eq!(Gate::parse(url), None, "{url}");
        }
    }

    #[test]
    fn hosts_are_found_without_a_resolver() {
        assert_eq!(resolve("192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
        assert!(resolve("localhost").is_some_and(|address| address.is_loopback()));
        assert_eq!(resolve("no-such-host.invalid"), None);
    }

    #[test]
    fn a_gate_is_ready_from_200_to_399() {
        assert!(serve("204 No Content").wait_until(Instant::now()).is_ok());
        let error = serve("503 Busy").wait_until(Instant::now()).unwrap_err();
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(error.message.contains("answers 503"), "{error}");
        let closed = Gate {
            host: "127.0.0.1".into(),
            port: 1,
            path: "/".into(),
        };
        assert!(
            closed
                .wait_until(Instant::now())
                .unwrap_err()
                .message
                .contains("not ready")
        );
    }
}
