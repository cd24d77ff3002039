// SPDX-License-Identifier: Apache-2.0
//! Peers that are wrong before a route is sent: silent ones, ones that stop in the middle, broken messages, too many
//! connections, and connections of strangers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testbed::Host;

use crate::{
    polite::{until, until_row},
    stage::{AGENT_AS, AS, HOSTILE, Stage, offer, run_on},
    wire::{
        KEEPALIVE, Line, NOTIFICATION, OPEN, Offer, PROMPT, UPDATE, announce, capability, keepalive, message,
        update, v4net,
    },
    world::v4,
};

/// What a case sends, and the code, subcode and data it is refused with; `None`: the data does not matter.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    code: (u8, u8),
    data: Option<Vec<u8>>,
}

fn case(what: &'static str, bytes: Vec<u8>, code: (u8, u8)) -> Case {
    Case {
        what,
        bytes,
        code,
        data: None,
    }
}

fn case_with(what: &'static str, bytes: Vec<u8>, code: (u8, u8), data: &[u8]) -> Case {
    Case {
        data: Some(data.to_vec()),
        ..case(what, bytes, code)
    }
}

/// A message whose header says something else than is true.
fn forged(kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = message(kind, body);
    bytes[16..18].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn bad_marker() -> Vec<u8> {
    let mut bytes = keepalive();
    bytes[7] = 0;
    bytes
}

/// Header errors, which are the same in every state.
fn broken_headers() -> Vec<Case> {
    vec![
        case("a marker that is none", bad_marker(), (1, 1)),
        case(
            "another protocol",
            b"GET / HTTP/1.1\r\nHost: bgp\r\n\r\n".to_vec(),
            (1, 1),
        ),
        case_with("a length of 18", forged(KEEPALIVE, 18, &[]), (1, 2), &[0, 18]),
        case_with("a length of 0", forged(UPDATE, 0, &[]), (1, 2), &[0, 0]),
        case_with("a long KEEPALIVE", message(KEEPALIVE, &[0]), (1, 2), &[0, 20]),
        case_with(
            "an endless KEEPALIVE",
            forged(KEEPALIVE, 65_535, &[]),
            (1, 2),
            &[0xff, 0xff],
        ),
        case_with("a short UPDATE", message(UPDATE, &[0, 0, 0]), (1, 2), &[0, 22]),
        case_with("a long UPDATE", forged(UPDATE, 4097, &[]), (1, 2), &[0x10, 0x01]),
        case_with(
            "a short NOTIFICATION",
            message(NOTIFICATION, &[6]),
            (1, 2),
            &[0, 20],
        ),
        case_with("a short OPEN", message(OPEN, &[4]), (1, 2), &[0, 20]),
        case_with("type 0", message(0, &[]), (1, 3), &[0]),
        case_with("type 6", message(6, &[]), (1, 3), &[6]),
        case_with("type 255", message(255, &[1, 2, 3]), (1, 3), &[255]),
    ]
}

/// OPENs that are no good.
fn broken_opens() -> Vec<Case> {
    let good = offer();
    let changed = |change: &dyn Fn(&mut Offer)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.bytes()
    };
    let mut too_long = good.bytes();
    too_long[28] += 1;
    vec![
        case_with("version 3", changed(&|open| open.version = 3), (2, 1), &[0, 4]),
        case(
            "another AS",
            Offer::new(AS + 1, 90, [10, 1, 0, 3]).bytes(),
            (2, 2),
        ),
        case(
            "AS 0",
            Offer::with(0, 90, [10, 1, 0, 3], &capability(1, &[0, 1, 0, 1])).bytes(),
            (2, 2),
        ),
        case(
            "AS 0 in four octets",
            {
                let list = [capability(1, &[0, 1, 0, 1]), capability(65, &[0; 4])].concat();
                Offer::with(AS, 90, [10, 1, 0, 3], &list).bytes()
            },
            (2, 2),
        ),
        case(
            "identifier 0.0.0.0",
            changed(&|open| open.identifier = [0; 4]),
            (2, 3),
        ),
        case(
            "parameter 1",
            changed(&|open| open.parameters = vec![1, 2, 0, 0]),
            (2, 4),
        ),
        case("hold time 1 s", changed(&|open| open.hold = 1), (2, 6)),
        case("hold time 2 s", changed(&|open| open.hold = 2), (2, 6)),
        case_with(
            "IPv6 only",
            Offer::with(AS, 90, [10, 1, 0, 3], &capability(1, &[0, 2, 0, 1])).bytes(),
            (2, 7),
            &[1, 4, 0, 1, 0, 1],
        ),
        case("parameters that end beyond the message", too_long, (2, 0)),
        case(
            "a capability that ends beyond its parameter",
            changed(&|open| open.parameters = vec![2, 3, 65, 4, 0]),
            (2, 0),
        ),
        case("an UPDATE before the OPEN", update(&[], &[], &[]), (5, 1)),
        case("a KEEPALIVE before the OPEN", keepalive(), (5, 1)),
        case("two OPENs", [offer().bytes(), offer().bytes()].concat(), (5, 2)),
        case(
            "an UPDATE before the KEEPALIVE",
            [offer().bytes(), update(&[], &[], &[])].concat(),
            (5, 2),
        ),
    ]
}

fn assert_refused(stage: &Stage, mut line: Line, case: &Case) -> Result<()> {
    line.send(&case.bytes)?;
    let refusal = line.refusal(PROMPT).with_context(|| case.what)?;
    ensure!(
        (refusal.code, refusal.subcode) == case.code,
        "{}: {refusal:?} instead of {:?}",
        case.what,
        case.code
    );
    if let Some(data) = &case.data {
        ensure!(refusal.data == *data, "{}: {refusal:?}", case.what);
    }
    stage.unharmed().with_context(|| case.what)
}

#[test]
fn broken_messages_are_answered_with_the_right_notification() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    for case in broken_headers().iter().chain(&broken_opens()) {
        let mut line = stage.dial()?;
        line.expect(OPEN)?;
        assert_refused(&stage, line, case)?;
    }
    let established = broken_headers();
    let open = case("an OPEN", offer().bytes(), (5, 3));
    for case in established.iter().chain([&open]) {
        let mut line = stage.establish(&offer())?;
        line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
        assert_refused(&stage, line, case)?;
        let down = until_row(stage.agent(), HOSTILE, |row| row["session"] != "Established")?;
        let reason = down["lastDown"]["reason"].to_string();
        ensure!(
            reason.contains(&format!("sent NOTIFICATION {}/{}", case.code.0, case.code.1)),
            "{}: {reason}",
            case.what
        );
        stage.agent().until_no_route("20.0.3.0/24")?;
    }
    Ok(())
}

/// The OPEN of a connection is waited for half a minute, whether nothing of it comes or a part.
#[test]
fn silent_peers_are_given_up() -> Result<()> {
    const OPEN_WAIT: std::ops::Range<Duration> = Duration::from_secs(20)..Duration::from_secs(40);
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let second = Host::new("second")?;
    stage.world.attach(&second, 4)?;
    stage.add_peer("second", 4, AS)?;
    let begun = Instant::now();
    let mut silent = stage.dial()?;
    let mut halting = Line::dial(second.place(), v4(4), v4(11))?;
    let open = Offer::new(AS, 90, [10, 1, 0, 4]).bytes();
    halting.send(&open[..open.len() / 2])?;
    // The other one is up, and stops in the middle of a message.
    for (name, line) in [("silent", &mut silent), ("halting", &mut halting)] {
        let refusal = line.refusal(OPEN_WAIT.end).with_context(|| name)?;
        ensure!((refusal.code, refusal.subcode) == (4, 0), "{name}: {refusal:?}");
        let time = begun.elapsed();
        ensure!(OPEN_WAIT.contains(&time), "{name}: after {time:?}");
    }
    stage.unharmed()?;
    // It can still come up.
    stage.establish(&offer())?;
    stage.unharmed()
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_message_is_given_up_after_the_hold_time() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let offer = Offer::new(AS, 3, [10, 1, 0, HOSTILE]);
    let whole = announce(&[AS], v4(HOSTILE), &[v4net("20.0.4.0/24")]);
    for part in [1, 18, 19, whole.len() - 1] {
        let mut line = stage.establish(&offer)?;
        line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
        stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
        line.send(&whole[..part])?;
        let begun = Instant::now();
        let refusal = line.refusal(Duration::from_secs(10))?;
        ensure!((refusal.code, refusal.subcode) == (4, 0), "{part}: {refusal:?}");
        ensure!(
            begun.elapsed() < Duration::from_secs(6),
            "{part}: {:?}",
            begun.elapsed()
        );
        stage.agent().until_no_route("20.0.3.0/24")?;
        stage.unharmed()?;
    }
    // In parts, each of which takes its time, it does come through.
    let mut line = stage.establish(&offer)?;
    for byte in &whole {
        line.send(&[*byte])?;
        std::thread::sleep(Duration::from_millis(10));
    }
    stage.agent().until_route("20.0.4.0/24 via 10.1.0.3")?;
    stage.unharmed()
}

#[test]
fn a_peer_that_comes_and_goes_leaves_nothing_behind() -> Result<()> {
    const TIMES: u32 = 50;
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let before = descriptors(&stage)?;
    for time in 0..TIMES {
        let mut line = Line::establish(stage.hostile.place(), v4(HOSTILE), v4(11), &offer())?;
        line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
        // A connection that is closed with something unread takes with it what the agent has not read either.
        until_row(stage.agent(), HOSTILE, |row| row["counters"]["ups"] == time + 1)?;
        if time % 10 == 0 {
            stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
            stage.unharmed()?;
        }
    }
    stage.agent().until_no_route("20.0.3.0/24")?;
    let row = until_row(stage.agent(), HOSTILE, |row| row["session"] != "Established")?;
    ensure!(
        row["counters"]["ups"] == TIMES && row["counters"]["downs"] == TIMES,
        "{row:#}"
    );
    stage.unharmed()?;
    until(stage.agent(), "descriptors are left", || {
        (descriptors(&stage).ok()? <= before + 3).then_some(())
    })?;
    // What it announces after all that is taken.
    let mut line = stage.establish(&offer())?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    Ok(())
}

/// How many files and sockets the agent has open.
fn descriptors(stage: &Stage) -> Result<usize> {
    let pid = stage.agent().pid().context("the agent runs")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[test]
fn of_two_connections_of_a_peer_one_survives() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    // Both made before either says anything, then both at once.
    let mut lines = [stage.dial()?, stage.dial()?];
    for line in &mut lines {
        // The one that is given up may be closed already.
        let _ = line.send(&[offer().bytes(), keepalive()].concat());
    }
    until_row(stage.agent(), HOSTILE, |row| row["session"] == "Established")?;
    let mut alive = 0;
    for line in &mut lines {
        let _ = line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]));
        // One that is up says nothing more than OPEN, KEEPALIVE and routes for a while.
        let ended = loop {
            match line.next(Duration::from_secs(1)) {
                Ok(Some((NOTIFICATION, _)) | None) => break true,
                Ok(Some(_)) => {}
                Err(_) => break false,
            }
        };
        alive += usize::from(!ended);
    }
    ensure!(alive == 1, "{alive} connections are left");
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    // A third one beside a session that is up is refused, and does it no harm.
    let mut third = stage.dial()?;
    let _ = third.send(&offer().bytes());
    let refusal = third.refusal(PROMPT)?;
    ensure!((refusal.code, refusal.subcode) == (6, 7), "{refusal:?}");
    let row = stage.row()?;
    ensure!(
        row["session"] == "Established" && row["counters"]["ups"] == 1 && row["counters"]["downs"] == 0,
        "{row:#}"
    );
    stage.unharmed()
}

#[test]
fn strangers_are_told_nothing() -> Result<()> {
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let stranger = Host::new("stranger")?;
    stage.world.attach(&stranger, 66)?;
    let before = descriptors(&stage)?;
    for _ in 0..200 {
        let mut line = Line::dial(stranger.place(), v4(66), v4(11))?;
        let _ = line.send(&Offer::new(AGENT_AS, 90, [10, 1, 0, 66]).bytes());
        match line.next(PROMPT) {
            Ok(None) => {}
            other => anyhow::bail!("a stranger is answered: {other:?}"),
        }
    }
    stage.unharmed()?;
    ensure!(
        descriptors(&stage)? <= before + 3,
        "strangers leave descriptors behind"
    );
    let peers = stage.agent().ask("/v1/peers")?;
    ensure!(!peers.to_string().contains("10.1.0.66"), "{peers:#}");
    Ok(())
}

/// A TCP segment with SYN, for an own IPv4 header.
fn syn(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(u32::from(from.1).to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, 6, 0, 20], &segment].concat();
    let words = pseudo
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or_default();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

#[test]
fn thousands_of_half_open_connections_keep_nobody_out() -> Result<()> {
    const COUNT: u16 = 2000;
    let Some(stage) = Stage::new(&[])? else {
        return Ok(());
    };
    let before = descriptors(&stage)?;
    // Begun and never answered: the agent's kernel waits for the third packet of each.
    run_on(&stage.hostile, "nft", "add table inet mute")?;
    run_on(
        &stage.hostile,
        "nft",
        "add chain inet mute input { type filter hook input priority 0; }",
    )?;
    run_on(
        &stage.hostile,
        "nft",
        "add rule inet mute input tcp sport 179 tcp dport 20000-29999 drop",
    )?;
    let (IpAddr::V4(from), IpAddr::V4(to)) = (v4(HOSTILE), v4(11)) else {
        anyhow::bail!("no IPv4 addresses");
    };
    stage.hostile.place().run(|| -> Result<()> {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::RAW,
            Some(socket2::Protocol::TCP),
        )?;
        for port in 20_000..20_000 + COUNT {
            socket.send_to(&syn((from, port), (to, 179)), &SocketAddr::new(v4(11), 0).into())?;
        }
        Ok(())
    })??;
    stage.unharmed()?;
    // Made and never used; each takes the place of the one before.
    let mut held = Vec::new();
    for _ in 0..COUNT {
        held.push(stage.dial()?);
    }
    stage.unharmed()?;
    ensure!(
        descriptors(&stage)? < before + 100,
        "{} descriptors for connections that were superseded",
        descriptors(&stage)?
    );
    // Meanwhile the peer itself gets through.
    let mut line = stage.establish(&offer())?;
    line.send(&announce(&[AS], v4(HOSTILE), &[v4net("20.0.3.0/24")]))?;
    stage.agent().until_route("20.0.3.0/24 via 10.1.0.3")?;
    stage.unharmed()
}
