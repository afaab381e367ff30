//! Any bytes are answered or refused: records, calls and compounds that no client of good will sends.
//!
//! Deterministic: the seed is fixed, so a failure is the same the next time. `NFS_FUZZ_ROUNDS` asks for more of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use fsd::control;
use fsd::server::Server;
use serde_json::json;

/// xorshift64*: enough chance for a fuzzer, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound.max(1)
    }
}

struct Served {
    directory: PathBuf,
    port: u16,
    server: Server,
}

impl Served {
    fn start() -> Served {
        let name = format!("fsd-nfs-fuzz-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("fs-1")).expect("a directory");
        let server = Server::start(true).expect("a server");
        let listening = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = listening.local_addr().expect("an address").port();
        let state = directory.join("nfs");
        let ask = |request, socket| {
            let answer = control::serve(&server, &request, socket);
            assert!(answer.get("error").is_none(), "{answer}");
        };
        let backing = directory.join("fs-1");
        ask(
            json!({"op": "volume.open", "volume": "fs-1", "backing": backing}),
            None,
        );
        ask(
            json!({"op": "nfs.export", "state": state, "export": "fs-1", "volume": "fs-1"}),
            None,
        );
        ask(
            json!({"op": "nfs.listen", "state": state, "listener": "test", "export": "fs-1"}),
            Some(OwnedFd::from(listening)),
        );
        Served {
            directory,
            port,
            server,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a limit");
        stream
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.shut_down();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    let padding = bytes.len().wrapping_neg() & 3;
    [&words(&[bytes.len() as u32])[..], bytes, &[0; 3][..padding]].concat()
}

/// A COMPOUND call as root.
fn compound(xid: u32, operations: &[Vec<u8>]) -> Vec<u8> {
    let credentials = [words(&[0]), opaque(b"fuzz"), words(&[0, 0, 0])].concat();
    [
        words(&[xid, 0, 2, 100_003, 4, 1, 1]),
        opaque(&credentials),
        words(&[0, 0, 0, 1, operations.len() as u32]),
        operations.concat(),
    ]
    .concat()
}

fn record(bytes: &[u8]) -> Vec<u8> {
    [&words(&[bytes.len() as u32 | 1 << 31])[..], bytes].concat()
}

fn exchange(stream: &mut TcpStream, call: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(&record(call))?;
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let len = u32::from_be_bytes(head) & !(1 << 31);
    assert!(len < 2 << 20, "an answer of {len} bytes");
    let mut answer = vec![0; len as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A session: EXCHANGE_ID, CREATE_SESSION and RECLAIM_COMPLETE.
fn session(stream: &mut TcpStream, name: &[u8]) -> [u8; 16] {
    let introduction = [words(&[42, 1, 2]), opaque(name), words(&[0, 0, 0])].concat();
    let answer = exchange(stream, &compound(1, &[introduction])).expect("an answer");
    // RPC head, COMPOUND status, tag and count, operation and status.
    let results = answer.get(24 + 12 + 8..).expect("results");
    let client = results.first_chunk::<12>().expect("a client id");
    let channel = words(&[0, 1 << 20, 1 << 20, 4096, 64, 64, 0]);
    let creation = [
        words(&[43]),
        client.to_vec(),
        words(&[0]),
        channel.clone(),
        channel,
        words(&[0, 1, 0]),
    ]
    .concat();
    let answer = exchange(stream, &compound(2, &[creation])).expect("an answer");
    let results = answer.get(24 + 12 + 8..).expect("results");
    let session = *results.first_chunk::<16>().expect("a session id");
    let complete = compound(3, &[sequence(&session, 1, 0), words(&[58, 0])]);
    exchange(stream, &complete).expect("an answer");
    session
}

fn sequence(session: &[u8; 16], number: u32, slot: u32) -> Vec<u8> {
    [&words(&[53])[..], session, &words(&[number, slot, slot, 0])].concat()
}

/// Operations that mean something, to be spoilt.
fn models() -> Vec<Vec<u8>> {
    let state = words(&[0, 0, 0, 0]);
    vec![
        words(&[24]),
        words(&[10]),
        words(&[9, 2, 0xffff_ffff, 0xffff_ffff]),
        [words(&[15]), opaque(b"name")].concat(),
        [words(&[6, 2]), opaque(b"dir"), words(&[2, 0, 2, 4, 0o755])].concat(),
        [
            words(&[6, 5]),
            opaque(b"to"),
            opaque(b"link"),
            words(&[0, 0]),
        ]
        .concat(),
        [
            words(&[18, 0, 3, 0, 0, 0]),
            opaque(b"owner"),
            words(&[1, 0, 2, 0, 2, 4, 0o600, 0]),
            opaque(b"file"),
        ]
        .concat(),
        [words(&[25]), state.clone(), words(&[0, 0, 4096])].concat(),
        [
            words(&[38]),
            state.clone(),
            words(&[0, 0, 0]),
            opaque(&[7; 100]),
        ]
        .concat(),
        [
            words(&[26, 0, 0, 0, 0, 1000, 8000, 2]),
            words(&[0x0018_091a, 0x0030_a03a]),
        ]
        .concat(),
        [
            words(&[34]),
            state.clone(),
            words(&[2, 0x10, 2, 12, 0, 9, 0o640]),
        ]
        .concat(),
        [
            words(&[12, 2, 0, 0, 0, 0, 10, 1, 0]),
            state.clone(),
            words(&[0, 0, 0]),
            opaque(b"o"),
        ]
        .concat(),
        [
            words(&[13, 1, 0, 0, 0xffff_ffff, 0xffff_ffff, 0, 0]),
            opaque(b"o"),
        ]
        .concat(),
        [words(&[14, 1, 0]), state.clone(), words(&[0, 0, 0, 10])].concat(),
        [words(&[4, 0]), state.clone()].concat(),
        [words(&[28]), opaque(b"file")].concat(),
        [words(&[29]), opaque(b"dir"), opaque(b"moved")].concat(),
        words(&[32]),
        words(&[31]),
        words(&[16]),
        words(&[3, 0x3f]),
        words(&[5, 0, 0, 0]),
        words(&[27]),
        words(&[52, 0]),
        [words(&[55, 2]), state.clone(), state.clone()].concat(),
        [words(&[45]), state].concat(),
        [words(&[37, 1, 0x10]), opaque(&[0; 8])].concat(),
        [words(&[22]), opaque(&[1; 40])].concat(),
    ]
}

fn spoil(chance: &mut Chance, bytes: &mut Vec<u8>) {
    for _ in 0..chance.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = chance.below(bytes.len());
        match chance.below(5) {
            0 => bytes[at] = chance.next() as u8,
            1 => bytes[at] ^= 1 << chance.below(8),
            2 => {
                // A length that lies.
                let at = at & !3;
                let claimed = [0u32, 1, 0x7fff_ffff, 0xffff_ffff, 65_536][chance.below(5)];
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&claimed.to_be_bytes());
                }
            }
            3 => bytes.truncate(at),
            _ => {
                let more = chance.below(40);
                bytes.extend((0..more).map(|_| chance.next() as u8));
            }
        }
    }
}

#[test]
fn whatever_comes_is_answered_or_refused() {
    let rounds = std::env::var("NFS_FUZZ_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(6000u32);
    let served = Served::start();
    let mut chance = Chance(0x6c61_6d62_6179_0001);
    let models = models();
    let mut stream = served.connect();
    let mut id = session(&mut stream, b"fuzz 0");
    let mut number = 1;
    for round in 0..rounds {
        let mut operations = vec![sequence(&id, number + 1, 0), words(&[24])];
        for _ in 0..chance.below(6) {
            let mut operation = models[chance.below(models.len())].clone();
            if chance.below(3) == 0 {
                spoil(&mut chance, &mut operation);
            }
            operations.push(operation);
        }
        let mut call = compound(round + 10, &operations);
        if chance.below(8) == 0 {
            spoil(&mut chance, &mut call);
        }
        if let Err(error) = exchange(&mut stream, &call) {
            assert!(
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock),
                "round {round} hangs"
            );
            stream = served.connect();
        }
        number += 1;
        if round % 50 == 49 {
            // Whatever the session has come to, a new one works.
            stream = served.connect();
            id = session(&mut stream, format!("fuzz {round}").as_bytes());
            number = 1;
            let alive = compound(5, &[sequence(&id, 2, 0), words(&[24]), words(&[10])]);
            let answer = exchange(&mut stream, &alive).expect("an answer");
            assert_eq!(answer.get(24..28), Some(&[0; 4][..]), "round {round}");
            number += 1;
        }
    }
    assert!(
        resident() < 512 << 20,
        "{} bytes of memory after it",
        resident()
    );
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}
