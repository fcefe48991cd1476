//! The sockets, bound in directories and on addresses of the tests' own.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::socket::UnixAddr;
use nix::sys::stat::{Mode, umask};

use super::*;
use crate::sys::fd::is_kept;
use crate::sys::skipped;
use crate::sys::unix_path::lock;

/// A directory of this test's own, gone with it. The test's thread gets a umask and a working directory of its own:
/// other tests make files at the same time.
struct Dir {
    path: PathBuf,
    alone: bool,
}

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hupwrap-sockets-{}-{count}", std::process::id()));
        let alone = be_alone();
        fs::create_dir(&path).unwrap();
        Self { path, alone }
    }

    fn at(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.path).unwrap().next().is_none()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A container may forbid it.
fn be_alone() -> bool {
    // SAFETY: concerns this thread only.
    unsafe { libc::unshare(libc::CLONE_FS) == 0 }
}

fn try_listen(options: &[&str]) -> Result<Vec<Socket>, String> {
    let all: Vec<Listen> = options.iter().map(|option| option.parse().unwrap()).collect();
    bind_all(&all, &[])
}

fn listen(option: &str) -> Socket {
    try_listen(&[option]).unwrap_or_else(|error| panic!("{error}")).pop().unwrap()
}

fn refused(option: &str) -> String {
    let error = try_listen(&[option]).err().unwrap();
    assert!(error.starts_with(&format!("--listen '{option}': ")) && !error.contains('\n'), "{error}");
    error
}

fn has_ipv6(test: &str) -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        skipped(test, "there is no IPv6");
    }
    has
}

#[test]
fn a_tcp_socket_listens_at_once() {
    let options = ["web=tcp:127.0.0.1:0", "tcp:127.0.0.1:0"];
    let all = try_listen(&options).unwrap();
    for (socket, said) in all.iter().zip(options) {
        let local = socket.local().unwrap();
        TcpStream::connect(local).unwrap();
        assert_eq!(socket.address(), format!("tcp:{local}"));
        assert_eq!(socket.chosen(), Some(format!("--listen '{said}' is at tcp:{local}")));
        assert_eq!(socket.facts().said.as_deref(), Some("127.0.0.1:0"));
        assert!(socket.facts().fd == socket.as_fd().as_raw_fd() && socket.facts().fd >= 5);
        assert_eq!(getsockopt(&socket, sockopt::ReuseAddr), Ok(true));
        assert_eq!(getsockopt(&socket, sockopt::ReusePort), Ok(false));
        assert!(!is_kept(socket));
        socket.stays_open(true).unwrap();
        assert!(is_kept(socket));
        socket.stays_open(false).unwrap();
        assert!(!is_kept(socket));
    }
    assert_eq!(all.iter().map(|socket| socket.facts().name.as_str()).collect::<Vec<_>>(), ["web", "unknown"]);
}

#[test]
fn a_port_that_is_said_is_taken_and_one_that_is_taken_is_an_error() {
    // An address that no other test uses: the port, once free, stays so.
    let option = listen("tcp:127.77.0.1:0").address();
    let socket = listen(&option);
    assert_eq!((socket.address(), socket.chosen()), (option.clone(), None));
    let error = refused(&option);
    assert!(error.contains("in use by another process"), "{error}");
}

#[test]
fn udp_shares_no_port() {
    let socket = listen("udp:127.0.0.1:0");
    assert_eq!(socket.facts().kind, SocketKind::Udp);
    let error = refused(&socket.address());
    assert!(error.contains("in use by another process"), "{error}");
}

#[test]
fn ipv6_means_ipv6_only() {
    if has_ipv6("ipv6_means_ipv6_only") {
        let socket = listen("tcp:[::]:0");
        let port = socket.local().unwrap().port();
        TcpStream::connect(("::1", port)).unwrap();
        assert_eq!(TcpStream::connect(("127.77.0.2", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(listen("tcp:[::1]:0").local().unwrap().ip().to_string(), "::1");
    }
}

#[test]
fn an_address_that_cannot_be_had() {
    let error = refused("tcp:192.0.2.1:0");
    assert!(error.contains("no network interface here has this address"), "{error}");
    assert!(explain(Errno::EACCES, 80).contains("CAP_NET_BIND_SERVICE"));
    assert!(!explain(Errno::EACCES, 8080).contains("1024"));
    // Too long for the DNS, so nobody is asked.
    let host = "a".repeat(64);
    let error = refused(&format!("tcp:{host}:80"));
    assert!(error.contains(&format!("the host '{host}' has no address: ")), "{error}");
}

#[test]
fn an_ipv4_address_goes_first() {
    let find = |said: &str| resolve(&said.parse().unwrap()).map(|found| found.to_string());
    assert_eq!(find("[::1]:1").as_deref(), Ok("[::1]:1"));
    assert_eq!(find("*:1").as_deref(), Ok("0.0.0.0:1"));
    assert_eq!(find("localhost:1").as_deref(), Ok("127.0.0.1:1"));
}

#[test]
fn a_unix_socket_has_its_mode_and_takes_its_file_along() {
    let dir = Dir::new();
    if dir.alone {
        umask(Mode::from_bits_truncate(0o027));
    }
    for (mode, wanted) in [("", 0o660), (",mode=0600", 0o600), (",mode=0777", 0o777), (",mode=0", 0)] {
        let path = dir.at("s");
        let socket = listen(&format!("unix:{path}{mode}"));
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, wanted);
        assert_eq!((socket.address(), socket.local(), socket.chosen()), (format!("unix:{path}"), None, None));
        drop(socket);
        assert!(dir.is_empty());
    }
    if dir.alone {
        assert_eq!(umask(Mode::empty()).bits(), 0o027);
    }
}

#[test]
fn a_path_may_be_relative_and_as_long_as_the_kernel_takes() {
    let dir = Dir::new();
    if !dir.alone {
        return skipped("a_path_may_be_relative_and_as_long_as_the_kernel_takes", "unshare(2) is forbidden");
    }
    std::env::set_current_dir(&dir.path).unwrap();
    let name = "n".repeat(107);
    let socket = listen(&format!("unix:{name}"));
    UnixStream::connect(&name).unwrap();
    drop(socket);
    assert!(dir.is_empty());
    drop(UnixListener::bind("stale").unwrap());
    drop(listen("unix:stale"));
    assert!(dir.is_empty());
}

#[test]
fn a_stale_file_is_replaced() {
    let dir = Dir::new();
    let path = dir.at("s");
    drop(UnixListener::bind(&path).unwrap());
    let socket = listen(&format!("unix:{path}"));
    UnixStream::connect(&path).unwrap();
    drop(socket);
    drop(UnixDatagram::bind(&path).unwrap());
    drop(listen(&format!("unix:{path}")));
    assert!(dir.is_empty());
}

#[test]
fn a_live_socket_is_an_error_and_hears_nothing_of_it() {
    let dir = Dir::new();
    let option = format!("unix:{}", dir.at("s"));
    let check = || assert!(refused(&option).contains("another process uses this socket"));
    let live = UnixListener::bind(dir.at("s")).unwrap();
    check();
    live.set_nonblocking(true).unwrap();
    assert_eq!(live.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    fs::remove_file(dir.at("s")).unwrap();
    let _datagram = UnixDatagram::bind(dir.at("s")).unwrap();
    check();
    fs::remove_file(dir.at("s")).unwrap();
    let socket = listen(&option);
    check();
    UnixStream::connect(dir.at("s")).unwrap();
    drop(socket);
    // Between bind and listen a connection would be refused.
    let early = socket_at(&dir.at("s"));
    check();
    drop(early);
    drop(listen(&option));
}

fn socket_at(path: &str) -> OwnedFd {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind_to(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    fd
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = Dir::new();
    fs::create_dir(dir.at("dir")).unwrap();
    fs::write(dir.at("file"), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.at("link")).unwrap();
    let cases = [
        ("dir", "a directory is there"),
        ("file", "a file that is no socket is there"),
        ("link", "a symbolic link is there"),
        ("none/s", "none' does not exist; create it first"),
        ("file/s", "file' is not a directory"),
    ];
    for (name, want) in cases {
        let error = refused(&format!("unix:{}", dir.at(name)));
        assert!(error.contains(want), "{error}");
    }
    assert_eq!(fs::read(dir.at("file")).unwrap(), b"x");
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 3);
}

#[test]
fn a_file_that_is_another_by_now_is_left_alone() {
    let dir = Dir::new();
    let path = dir.at("s");
    let socket = listen(&format!("unix:{path}"));
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(socket);
    UnixStream::connect(&path).unwrap();
    drop(other);
}

#[test]
fn all_are_bound_or_none() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (path, taken) = (format!("unix:{}", dir.at("s")), format!("tcp:{}", taken.local_addr().unwrap()));
    let error = try_listen(&[&path, &taken]).err().unwrap();
    assert!(error.starts_with(&format!("--listen '{taken}': ")), "{error}");
    assert!(dir.is_empty());
}

#[test]
fn an_address_of_ours_is_told_from_that_of_another() {
    let dir = Dir::new();
    let port = listen("tcp:127.77.0.3:0").local().unwrap().port();
    let (one, other) = (format!("tcp:127.77.0.3:{port}"), format!("tcp:*:{port}"));
    let path = (format!("unix:{}", dir.at("s")), format!("unix:{}", dir.at("./s")));
    for (one, other) in [(&one, &other), (&other, &one), (&path.0, &path.1)] {
        let error = try_listen(&[one, other]).err().unwrap();
        let want = format!("--listen '{other}': hupwrap listens there already, as ");
        assert!(error.starts_with(&want) && error.ends_with("; want each address once"), "{error}");
    }
    let given = [listen(&one)];
    let error = bind_all(&[other.parse().unwrap()], &given).err().unwrap();
    assert!(error.contains("hupwrap listens there already"), "{error}");
}

#[test]
fn of_several_on_a_stale_path_one_wins() {
    const COUNT: usize = 4;
    let dir = Dir::new();
    for round in 0..50 {
        let path = dir.at(&round.to_string());
        drop(UnixListener::bind(&path).unwrap());
        let barrier = Barrier::new(COUNT);
        let race = || {
            be_alone();
            barrier.wait();
            let socket = try_listen(&[&format!("unix:{path}")]);
            // Nobody gives it up while another still tries.
            barrier.wait();
            socket.map(drop)
        };
        let found: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..COUNT).map(|_| scope.spawn(race)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let lost: Vec<_> = found.into_iter().filter_map(Result::err).collect();
        assert_eq!(lost.len(), COUNT - 1, "{lost:?}");
        assert!(lost.iter().all(|error| error.contains("another process uses this socket")), "{lost:?}");
    }
    assert!(dir.is_empty());
}

#[test]
fn a_foreign_lock_on_the_directory_holds_nobody_up() {
    let dir = Dir::new();
    let path = dir.at("s");
    drop(UnixListener::bind(&path).unwrap());
    let _lock = lock(&dir.path, 1).unwrap();
    let mut all = [listen(&format!("unix:{path}"))];
    fs::remove_file(&path).unwrap();
    fs::remove_file(dir.at(".s.hupwrap")).unwrap();
    assert_eq!(restore(&mut all), [(path.clone(), Ok(Restored::New))]);
    drop(all);
    assert!(dir.is_empty());
}

#[test]
fn a_new_socket_takes_the_place_of_nothing() {
    let dir = Dir::new();
    let name = "n".repeat(106 - dir.at("").len());
    for name in ["s", &name] {
        let path = dir.at(name);
        // Another hupwrap was faster.
        let other = UnixListener::bind(&path).unwrap();
        let inode = fs::symlink_metadata(&path).unwrap().ino();
        let refused = unix_path::bind_again(&path, 0o600, FIRST_FD).unwrap_err();
        assert!(refused.contains("another process uses this socket"), "{refused}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
        drop(other);
        fs::remove_file(&path).unwrap();
        assert!(dir.is_empty());
        // What is at the second name is no obstacle.
        fs::write(dir.at(&format!(".{name}.hupwrap")), "x").unwrap();
        drop(unix_path::bind_again(&path, 0o600, FIRST_FD).unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().mode() & 0o777 == 0o600);
        fs::read_dir(&dir.path).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn a_file_that_was_removed_is_made_again() {
    let dir = Dir::new();
    // The second has no room for another name beside it.
    let names = ["s".to_owned(), "n".repeat(106 - dir.at("").len())];
    for name in names {
        let path = dir.at(&name);
        let mut all = [listen(&format!("a=unix:{path},mode=0640")), listen("tcp:127.0.0.1:0")];
        assert!(restore(&mut all).is_empty());
        let before = all[0].facts().clone();
        fs::remove_file(&path).unwrap();
        assert_eq!(restore(&mut all), [(path.clone(), Ok(Restored::Same))]);
        assert_eq!(*all[0].facts(), before);
        UnixStream::connect(&path).unwrap();
        // The second name alone is made again without a word.
        let second = dir.at(&format!(".{name}.hupwrap"));
        fs::remove_file(&second).unwrap();
        assert!(restore(&mut all).is_empty() && fs::exists(&second).unwrap());

        fs::remove_file(&path).unwrap();
        fs::remove_file(&second).unwrap();
        assert_eq!(restore(&mut all), [(path.clone(), Ok(Restored::New))]);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o640);
        let now = all[0].facts().clone();
        assert!(now.made.is_some_and(|made| made.mode == 0o640) && now != before);
        assert!(now.fd >= FIRST_FD + 2 && now.fd == all[0].as_fd().as_raw_fd() && !is_kept(&all[0]));
        assert_eq!((now.name, now.said), (before.name, before.said));
        assert!(restore(&mut all).is_empty());

        // The file of another is left alone.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x").unwrap();
        let there = "another file is there, which is left alone".to_owned();
        assert_eq!(restore(&mut all), [(path.clone(), Err(there))]);
        assert_eq!(fs::read(&path).unwrap(), b"x");
        fs::remove_file(&path).unwrap();
        assert_eq!(restore(&mut all), [(path.clone(), Ok(Restored::Same))]);
        drop(all);
        assert!(dir.is_empty());
    }

    let inner = dir.path.join("inner");
    fs::create_dir(&inner).unwrap();
    let mut all = [listen(&format!("unix:{}", dir.at("inner/s")))];
    fs::remove_dir_all(&inner).unwrap();
    let gone = format!("the directory '{}' does not exist; create it first", inner.display());
    assert_eq!(restore(&mut all), [(dir.at("inner/s"), Err(gone))]);
    fs::create_dir(&inner).unwrap();
    assert_eq!(restore(&mut all), [(dir.at("inner/s"), Ok(Restored::New))]);
}

#[test]
fn a_socket_crosses_as_facts() {
    let dir = Dir::new();
    let socket = listen(&format!("a=unix:{}", dir.at("s")));
    socket.stays_open(true).unwrap();
    let facts: SocketFacts = socket.facts().to_string().parse().unwrap();
    assert_eq!(&facts, socket.facts());
    // As an exec does it: the descriptor alone remains.
    std::mem::forget(socket);
    let socket = Socket::from_facts(facts).unwrap();
    assert!(!is_kept(&socket));
    UnixStream::connect(dir.at("s")).unwrap();
    drop(socket);
    assert!(dir.is_empty());
    let tcp = listen("tcp:127.0.0.1:0");
    let (facts, address) = (tcp.facts().clone(), tcp.address());
    std::mem::forget(tcp);
    assert_eq!(Socket::from_facts(facts).unwrap().address(), address);
    let facts: SocketFacts = "1000000 tcp - a:b".parse().unwrap();
    assert_eq!(Socket::from_facts(facts).err().as_deref(), Some("the socket 'a' is not open any more"));
}

/// Numbers that no other test gets: a descriptor that is opened takes the lowest.
const HIGH: RawFd = 900;

fn place(fd: impl Into<OwnedFd>, at: RawFd) {
    let copy = fcntl(fd.into(), FcntlArg::F_DUPFD(at)).unwrap();
    assert_eq!(copy, at);
}

#[test]
fn what_hupwrap_was_given() {
    let dir = Dir::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, _) = (TcpStream::connect(tcp.local_addr().unwrap()).unwrap(), tcp.accept().unwrap());
    let address = tcp.local_addr().unwrap();
    place(tcp, HIGH);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let of_udp = udp.local_addr().unwrap();
    place(udp, HIGH + 1);
    place(UnixListener::bind(dir.at("s")).unwrap(), HIGH + 2);
    place(UnixListener::bind(dir.at("a;b")).unwrap(), HIGH + 3);
    place(client, HIGH + 4);
    place(fs::File::open("/dev/null").unwrap(), HIGH + 5);
    let all = receive(HIGH, Some(b"6"), Some(b"77"), Some(b"a:b:c:d:e:f"), 77).unwrap();
    let told = socket_facts::environment(all.iter().map(Socket::facts));
    let ports = format!("{address}=3;{of_udp}=4;{}=5", dir.at("s"));
    let want = [("LISTEN_FDS", "6"), ("LISTEN_FDNAMES", "a:b:c:d:e:f"), ("SERVER_STARTER_PORT", &ports)];
    assert_eq!(told, want.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(all.iter().map(|one| one.facts().fd).collect::<Vec<_>>(), (HIGH..HIGH + 6).collect::<Vec<_>>());
    assert!(all.iter().all(|one| !is_kept(one) && one.chosen().is_none()));
    assert_eq!(all[0].address(), format!("tcp:{address}"));
    assert_eq!(all[3].address(), "unix");
    assert_eq!(all[4].address(), "other");
    // The hupwrap that made the files removes them.
    drop(all);
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 2);
}

#[test]
fn what_was_meant_for_another_is_not_taken() {
    let none = |fds: Option<&[u8]>, pid: Option<&[u8]>| {
        assert!(inherited(fds, pid, Some(b"a"), 77).unwrap().is_empty());
    };
    none(None, None);
    none(None, Some(b"77"));
    none(Some(b"1"), None);
    none(Some(b"1"), Some(b"78"));
    none(Some(b"1"), Some(b""));
    none(Some(b"1"), Some(b"\xff"));
    none(Some(b"0"), Some(b"77"));
}

#[test]
fn what_was_promised_and_is_not_there() {
    let refused = |fds: &[u8]| receive(HIGH + 50, Some(fds), Some(b"77"), None, 77).err().unwrap();
    assert_eq!(refused(b"1"), "LISTEN_FDS '1': descriptor 950 is not open; want 1 open ones from 950 on");
    place(fs::File::open("/dev/null").unwrap(), HIGH + 50);
    assert!(refused(b"2147483647").contains("descriptor 951 is not open"));
    for odd in [&b""[..], b"-1", b"x", b"2147483648", b"\xff\n"] {
        let error = refused(odd);
        assert!(error.ends_with("': want the number of descriptors from 950 on") && !error.contains('\n'), "{error}");
    }
}
