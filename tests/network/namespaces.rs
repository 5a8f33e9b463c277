//! Networks of a test's own: a namespace for the database and one for each worker. Workers reach the database by one
//! cable, and what their flows report to by another, so that either can be cut.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::net::{TcpListener, TcpStream};

/// The namespaces of one test. They go when dropped, and all that is in them.
pub struct Networks {
    prefix: String,
    /// A part of their addresses.
    number: u32,
    relays: Vec<Child>,
}

/// A cable that delays and loses.
pub struct Cable(ChildStdin);

impl Cable {
    /// From now on, in each direction.
    pub fn set(&mut self, milliseconds: u32, percent: u32) {
        writeln!(self.0, "{milliseconds} {percent}").unwrap();
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    match Command::new("ip").args(arguments.split_whitespace()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("ip (of iproute2): {error}")),
    }
}

impl Networks {
    /// With namespaces for the database and for workers `a` and `b`; or why there can't be any.
    pub fn new() -> Option<Networks> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        // Of eight test processes at once, and eight tests in each, none takes another's.
        let number = (std::process::id() % 31) * 8 + count % 8;
        let networks = Networks { prefix: format!("fw{}x{count}", std::process::id()), number, relays: Vec::new() };
        match networks.make() {
            Ok(()) => Some(networks),
            Err(why) => {
                let permitted = rustix::process::geteuid().is_root() && !why.contains("not permitted");
                assert!(!(permitted && std::env::var_os("CI").is_some()), "{why}");
                tell(&why);
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        // It is the cable that delays and loses.
        Command::new("python3").arg("--version").output().map_err(|error| format!("python3: {error}"))?;
        for side in ["d", "a", "b"] {
            ip(&format!("netns add {}", self.namespace(side)))?;
            ip(&format!("-n {} link set lo up", self.namespace(side)))?;
        }
        for (index, side) in [(1, "a"), (2, "b")] {
            let (prefix, number, namespace) = (&self.prefix, self.number, self.namespace(side));
            // To this process, for reports.
            ip(&format!("link add {prefix}{side}m type veth peer name reports netns {namespace}"))?;
            ip(&format!("addr add 10.231.{number}.{}/30 dev {prefix}{side}m", index * 4 + 1))?;
            ip(&format!("link set {prefix}{side}m up"))?;
            ip(&format!("-n {namespace} addr add 10.231.{number}.{}/30 dev reports", index * 4 + 2))?;
            ip(&format!("-n {namespace} link set reports up"))?;
            ip(&format!("-n {namespace} route add 10.231.{number}.0/24 via 10.231.{number}.{}", index * 4 + 1))?;
        }
        Ok(())
    }

    /// Name of the namespace of `d`, the database, or a worker.
    pub fn namespace(&self, side: &str) -> String {
        format!("{}{side}", self.prefix)
    }

    /// Where this worker finds the database.
    pub fn database(&self, side: &str) -> String {
        format!("10.232.{}.{}", self.number, if side == "a" { 5 } else { 9 })
    }

    /// A plain cable from this worker to the database.
    pub fn connect(&self, side: &str) {
        let (worker, database) = (self.namespace(side), self.namespace("d"));
        ip(&format!("link add data netns {worker} type veth peer name to{side} netns {database}")).unwrap();
        self.address(side);
    }

    /// A cable from this worker to the database whose quality can be set.
    pub fn connect_by_relay(&mut self, side: &str) -> Cable {
        let (worker, database) = (self.namespace(side), self.namespace("d"));
        let ends = [format!("{}{side}w", self.prefix), format!("{}{side}d", self.prefix)];
        ip(&format!("link add {} type veth peer name data netns {worker}", ends[0])).unwrap();
        ip(&format!("link add {} type veth peer name to{side} netns {database}", ends[1])).unwrap();
        for end in &ends {
            ip(&format!("link set {end} up")).unwrap();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/relay.py");
        let mut command = Command::new("python3");
        command.arg(script).args(&ends).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut relay = command.spawn().expect("python3 relays frames");
        let mut line = String::new();
        BufReader::new(relay.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let cable = Cable(relay.stdin.take().unwrap());
        self.relays.push(relay);
        self.address(side);
        cable
    }

    fn address(&self, side: &str) {
        let (worker, database, number) = (self.namespace(side), self.namespace("d"), self.number);
        let host = if side == "a" { 6 } else { 10 };
        ip(&format!("-n {worker} addr add 10.232.{number}.{host}/30 dev data")).unwrap();
        ip(&format!("-n {worker} link set data up")).unwrap();
        ip(&format!("-n {database} addr add {}/30 dev to{side}", self.database(side))).unwrap();
        ip(&format!("-n {database} link set to{side} up")).unwrap();
    }

    /// Cut the cable between this worker and the database at the database's end, or mend it.
    pub fn cut(&self, side: &str, cut: bool) {
        let state = if cut { "down" } else { "up" };
        ip(&format!("-n {} link set to{side} {state}", self.namespace("d"))).unwrap();
    }

    /// Let workers reach this server of our own network; gives its address for them.
    pub async fn publish(&self, base: &str) -> String {
        let server = base.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind(format!("10.231.{}.5:0", self.number)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        format!("http://{address}")
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for relay in &mut self.relays {
            let _ = relay.kill();
            let _ = relay.wait();
        }
        for side in ["d", "a", "b"] {
            let _ = ip(&format!("netns del {}", self.namespace(side)));
            // A namespace that a process is still ending in goes later, and its cables with it; their names here go now.
            for end in ["m", "w", "d"] {
                let _ = ip(&format!("link del {}{side}{end}", self.prefix));
            }
        }
    }
}

fn tell(why: &str) {
    eprintln!("skipped: network namespaces can't be made here: {why}");
}
