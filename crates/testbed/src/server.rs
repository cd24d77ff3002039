// SPDX-License-Identifier: Apache-2.0
//! The process inside a container: answers every HTTP request with its name and who asked, and sends UDP datagrams
//! back. Runs until its standard input is closed, so it never outlives its owner. Hidden command `serve` of the
//! playground program.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::container::PORT;

/// Serves on all addresses of both families; prints `ready` once it listens.
pub fn serve(name: &str) -> io::Result<()> {
    // One socket for both families; IPv4 alone where there is no IPv6.
    let everywhere = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
    ];
    let listener = TcpListener::bind(&everywhere[..])?;
    let echo = UdpSocket::bind(&everywhere[..])?;
    // What comes while a busy machine lets nobody read is not to be lost. Without the right to it, what there is will do.
    let _ = setsockopt(&echo, sockopt::RcvBufForce, &(8 << 20));
    let own_name = name.to_owned();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let name = own_name.clone();
            // A client that goes away is its own affair.
            thread::spawn(move || answer(&connection, &name));
        }
    });
    thread::spawn(move || {
        let mut datagram = vec![0; 65536];
        while let Ok((length, from)) = echo.recv_from(&mut datagram) {
            let _ = echo.send_to(&datagram[..length], from);
        }
    });
    println!("ready");
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

fn answer(connection: &TcpStream, name: &str) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(connection.take(16 * 1024));
    let mut line = String::new();
    // The request ends with an empty line; what it says does not matter.
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    let client = connection.peer_addr()?.ip().to_canonical();
    let body = format!("{name} answers {client}\n");
    let mut connection = connection;
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
    )
}
