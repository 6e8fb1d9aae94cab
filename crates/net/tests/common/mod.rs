//! A small world: the host (the test's own namespace), a wire to an outside machine, containers on bridges.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use fluyt_net::{BridgeSpec, Cidr, EndpointSpec, Link, PortMapping, Scope};
use fluyt_testkit::netns::{Namespace, isolate};
use fluyt_testkit::wait::patience;

pub const HOST: &str = "192.0.2.1";
pub const HOST6: &str = "2001:db8::1";
pub const OUTSIDE: &str = "192.0.2.9";
pub const OUTSIDE6: &str = "2001:db8::9";

pub struct World {
    pub scope: Scope,
    pub outside: Namespace,
    _host: Namespace,
}

pub fn ip(args: &str) {
    tool("ip", args);
}

pub fn tool(program: &str, args: &str) -> String {
    let out = Command::new(program).args(args.split_whitespace()).output().unwrap();
    assert!(out.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl World {
    /// The host with a wire to the outside, and no networks.
    pub fn new() -> Self {
        let host = isolate();
        let outside = Namespace::new();
        ip("link set lo up");
        ip("link add wire type veth peer name far");
        // `ip` wants a process id or a name: name the outside by this thread's descriptor.
        let fd = std::os::fd::AsRawFd::as_raw_fd(&outside.as_fd());
        ip(&format!("link set far netns /proc/{}/fd/{fd}", std::process::id()));
        ip(&format!("addr add {HOST}/24 dev wire"));
        ip(&format!("addr add {HOST6}/64 dev wire nodad"));
        ip("link set wire up");
        outside.run(|| {
            ip("link set lo up");
            ip(&format!("addr add {OUTSIDE}/24 dev far"));
            ip(&format!("addr add {OUTSIDE6}/64 dev far nodad"));
            ip("link set far up");
        });
        Self { scope: Scope::new("test"), outside, _host: host }
    }

    /// A container on `bridge` with the host part `n`, serving its peer's address on TCP and UDP port 80.
    pub fn container(&self, bridge: &BridgeSpec, n: u8) -> Container {
        let namespace = Namespace::new();
        let endpoint = self.endpoint(bridge, n);
        fluyt_net::attach(&endpoint, namespace.as_fd()).unwrap_or_else(|e| panic!("{}", e.chain()));
        namespace.run(|| serve(80));
        Container { namespace, endpoint }
    }

    pub fn endpoint(&self, bridge: &BridgeSpec, n: u8) -> EndpointSpec {
        let addresses: Vec<Cidr> = bridge.gateways.iter().map(|g| member(g, n)).collect();
        let gateways = bridge.gateways.iter().map(Cidr::addr).filter(|_| !bridge.internal).collect();
        EndpointSpec {
            link: Link::Bridge {
                ifname: bridge.ifname.clone(),
                host_ifname: self.scope.host_end(&format!("c{n}"), &bridge.ifname),
                isolated: !bridge.icc,
            },
            container_ifname: "eth0".into(),
            mac: None,
            addresses,
            gateways,
            routes: Vec::new(),
            mtu: bridge.mtu,
            sysctls: Vec::new(),
        }
    }
}

/// The address with the last number `n` in the gateway's network.
pub fn member(gateway: &Cidr, n: u8) -> Cidr {
    let addr: IpAddr = match gateway.addr() {
        IpAddr::V4(a) => IpAddr::from([a.octets()[0], a.octets()[1], a.octets()[2], n]),
        IpAddr::V6(a) => {
            let mut o = a.octets();
            o[15] = n;
            IpAddr::from(o)
        }
    };
    Cidr::new(addr, gateway.prefix()).unwrap()
}

pub fn bridge(name: &str, n: u8) -> BridgeSpec {
    let gateways =
        vec![format!("172.29.{n}.1/24").parse().unwrap(), format!("fd00:29:{n}::1/64").parse().unwrap()];
    BridgeSpec::new(name, gateways)
}

pub struct Container {
    pub namespace: Namespace,
    pub endpoint: EndpointSpec,
}

impl Container {
    pub fn v4(&self) -> IpAddr {
        self.endpoint.addresses[0].addr()
    }

    pub fn v6(&self) -> IpAddr {
        self.endpoint.addresses[1].addr()
    }

    pub fn mapping(&self, host_ip: Option<&str>, host_port: u16) -> PortMapping {
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (self.v4(), self.v6()) else { panic!("both families") };
        PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 80,
            target_v4: Some(v4),
            target_v6: Some(v6),
            ..PortMapping::default()
        }
    }
}

/// Serves the peer's address on TCP and UDP `port` of the current namespace.
pub fn serve(port: u16) {
    let listener = TcpListener::bind(("::", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical().to_string();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
    let socket = UdpSocket::bind(("::", port)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
        }
    });
}

/// The source address that a server at `addr` sees of us; `None` if it cannot be reached.
///
/// For calls that should succeed, however busy the machine is: it opens a bridge's port late then, and what was lost before
/// that is repeated a second later.
pub fn ask(addr: &str, port: u16) -> Option<String> {
    connect_and_ask(addr, port, Duration::from_secs(patience(5)))
}

/// The same for a call that should not be answered: packets that are dropped make it wait for its whole time.
pub fn ask_briefly(addr: &str, port: u16) -> Option<String> {
    connect_and_ask(addr, port, Duration::from_millis(patience(400)))
}

fn connect_and_ask(addr: &str, port: u16, limit: Duration) -> Option<String> {
    let addr = SocketAddr::new(addr.parse().unwrap(), port);
    let mut stream = TcpStream::connect_timeout(&addr, limit).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(patience(5)))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The same over UDP, from `socket`; asked up to three times, since a first datagram may be lost as [`ask`] says.
pub fn ask_udp(socket: &UdpSocket, addr: &str, port: u16) -> Option<String> {
    socket.set_read_timeout(Some(Duration::from_millis(patience(500)))).unwrap();
    let mut buffer = [0; 64];
    (0..3).find_map(|_| {
        socket.send_to(b"?", (addr.parse::<IpAddr>().unwrap(), port)).ok()?;
        let (n, _) = socket.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
    })
}
