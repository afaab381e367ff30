//! Whatever a client's kernel sends, in whatever order: an answer, never a panic, and nothing outside the root.

use std::path::PathBuf;
use std::sync::Arc;

use fsd::fuse::abi::InHeader;
use fsd::fuse::classic;
use fsd::fuse::dispatch;
use fsd::fuse::request::{Outcome, Request};
use fsd::fuse::session::Session;
use fsd::identity::{Identity, Posix};
use fsd::inode::DescriptorCache;
use fsd::later::Later;
use fsd::mount::Mount;
use fsd::volume::Volume;
use proptest::prelude::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("fsd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("volume/root")).expect("a directory");
        std::fs::write(path.join("volume/secret"), b"above the root").expect("a file");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A session whose kernel is /dev/null, acting as whoever runs the test.
fn session(scratch: &Scratch) -> Arc<Session> {
    let cache = Arc::new(DescriptorCache::new(64));
    let volume = Volume::open("fs-test", &scratch.0.join("volume"), false, cache).expect("volume");
    let root = volume.resolve_root("/root", None).expect("root");
    let groups = if is_root() { vec![] } else { own_groups() };
    let identity = Identity::new(Posix {
        uid: own("Uid"),
        gid: own("Gid"),
        groups,
    });
    let mount = Mount::new("m", 1, Arc::new(volume), identity, root, false).expect("mount");
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .expect("/dev/null");
    let later = Later::start().expect("a thread");
    Arc::new(Session::new(mount, device.into(), 0, later))
}

fn status(field: &str) -> Vec<u32> {
    let text = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or(":")[1..]
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn own(field: &str) -> u32 {
    status(field).first().copied().expect("an id")
}

fn own_groups() -> Vec<u32> {
    status("Groups")
}

fn is_root() -> bool {
    own("Uid") == 0
}

#[derive(Debug, Clone)]
struct Sent {
    opcode: u32,
    node: u64,
    fixed: Vec<u8>,
    body: Vec<u8>,
    room: usize,
}

fn sent() -> impl Strategy<Value = Sent> {
    let name = prop_oneof![
        4 => "[ab]{1,2}".prop_map(|name| [name.as_bytes(), &[0]].concat()),
        1 => Just(b"..\0".to_vec()),
        1 => Just(b"../secret\0".to_vec()),
        1 => Just(b"a\0b\0".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    // Small numbers where nodes, handles, flags and sizes lie, so that many requests mean something.
    let word = prop_oneof![3 => 0u64..6, 1 => any::<u64>()];
    let fixed = prop::collection::vec(word, 16)
        .prop_map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect());
    (0u32..60, 0u64..8, fixed, name, 0usize..9000).prop_map(|(opcode, node, fixed, body, room)| {
        Sent {
            opcode,
            node,
            fixed,
            body,
            room,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_are_answered(requests in prop::collection::vec(sent(), 1..40)) {
        let scratch = Scratch::new("requests");
        let session = session(&scratch);
        for sent in &requests {
            let mut fixed = [0u8; 128];
            fixed.copy_from_slice(&sent.fixed);
            let mut buffer = vec![0u8; sent.room.max(sent.body.len())];
            buffer[..sent.body.len()].copy_from_slice(&sent.body);
            let request = Request {
                header: InHeader { opcode: sent.opcode, nodeid: sent.node, unique: 7, ..InHeader::default() },
                fixed: &fixed,
                buffer: &mut buffer,
                len: sent.body.len(),
            };
            match dispatch::serve(&session, request) {
                Outcome::Reply(Ok(len)) => prop_assert!(len <= buffer.len()),
                Outcome::Reply(Err(errno)) => prop_assert!(errno.0 > 0 && errno.0 < 512, "{errno:?}"),
                Outcome::Slow(job) => {
                    if let Ok(len) = job(&mut buffer) {
                        prop_assert!(len <= buffer.len());
                    }
                }
                Outcome::Park(_) | Outcome::Silent => {}
            }
        }
        session.end();
        let secret = std::fs::read(scratch.0.join("volume/secret")).expect("the file above the root");
        prop_assert_eq!(secret, b"above the root");
        prop_assert_eq!(session.mount.open_files(), 0);
        prop_assert_eq!(session.mount.volume.known_inodes(), 0, "inodes leaked");
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![3 => 0u32..60, 1 => any::<u32>()];
    let rest = prop::collection::vec(any::<u8>(), 0..400);
    let headed = (prop::collection::vec(word, 10), rest.clone()).prop_map(|(words, rest)| {
        let head = words.iter().flat_map(|word| word.to_ne_bytes());
        head.chain(rest).collect()
    });
    prop_oneof![4 => headed, 1 => rest]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// As they are read from the device: with a header or not, cut anywhere, of any operation, INIT and the forgets too.
    #[test]
    fn any_bytes_from_the_device_are_taken_apart(messages in prop::collection::vec(message(), 1..20)) {
        let scratch = Scratch::new("messages");
        let session = session(&scratch);
        let mut buffer = vec![0u8; (1 << 20) + 8192];
        for message in &messages {
            // What lies behind the message must not be taken for a part of it.
            buffer[message.len()..].fill(0xff);
            buffer[..message.len()].copy_from_slice(message);
            classic::receive(&session, None, &mut buffer, message.len());
        }
        session.end();
        prop_assert_eq!(session.mount.volume.known_inodes(), 0, "inodes leaked");
    }
}
