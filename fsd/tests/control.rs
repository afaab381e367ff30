//! Whatever comes over the control socket: one answer a line, in the protocol's form, and never a panic.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use fsd::control::{self, Ending, LONGEST_LINE};
use fsd::server::Server;
use proptest::prelude::*;
use serde_json::{json, Value};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("fsd-control-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("volume")).expect("a directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn server() -> Arc<Server> {
    Arc::new(Server::start(true).expect("a server"))
}

/// Sends `text` over a connection and gives the answers' lines.
fn talk(server: &Arc<Server>, text: &[u8]) -> Vec<Value> {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let server = Arc::clone(server);
    let ending = Arc::new(Ending::new().expect("an event"));
    let serving = std::thread::spawn(move || control::converse(theirs, &server, &ending));
    let mut writing = ours.try_clone().expect("a clone");
    let text = text.to_vec();
    let sending = std::thread::spawn(move || {
        // The server may have closed already, as it does on a line that is too long.
        let _ = writing.write_all(&text);
        let _ = writing.shutdown(std::net::Shutdown::Write);
    });
    let answers = BufReader::new(ours)
        .lines()
        .map_while(Result::ok)
        .map(|line| serde_json::from_str(&line).expect("an answer is JSON"))
        .collect();
    sending.join().expect("sent");
    serving.join().expect("no panic");
    answers
}

fn is_answer(answer: &Value) -> bool {
    let error = &answer["error"];
    let refused = error["code"].as_str().is_some_and(|code| !code.is_empty())
        && error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
    answer.get("id").is_some() && (answer["ok"] == json!(true)) != refused
}

#[test]
fn what_is_no_request_is_answered_with_an_error() {
    let server = server();
    let deep = "[".repeat(100_000);
    let lines: Vec<&[u8]> = vec![
        b"",
        b"\0",
        b"null",
        b"7",
        b"[]",
        b"\"op\"",
        b"{",
        b"{}",
        b"{\"op\":7}",
        b"{\"op\":\"\"}",
        b"{\"op\":\"mount\"}",
        b"{\"op\":\"volume.open\",\"volume\":[],\"backing\":{}}",
        b"{\"op\":\"clock\",\"now\":-1}",
        b"{\"op\":\"clock\",\"now\":1e400}",
        b"{\"op\":\"sleep\"}",
        b"\xff\xfe\xfd",
        b"{\"op\":\"hello\"} and more",
        deep.as_bytes(),
    ];
    for line in lines {
        let answers = talk(&server, &[line, b"\n"].concat());
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        assert_eq!(answers.len(), 1, "{shown}: {answers:?}");
        assert!(
            is_answer(&answers[0]) && answers[0].get("error").is_some(),
            "{shown}: {answers:?}"
        );
    }
}

#[test]
fn a_line_that_never_ends_is_refused_and_the_connection_closed() {
    let server = server();
    let mut text = vec![b' '; LONGEST_LINE as usize + 10];
    text.extend(b"\n{\"id\":1,\"op\":\"hello\"}\n");
    let answers = talk(&server, &text);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0]["error"]["code"], "InvalidRequest");
    let cut_short = talk(&server, b"{\"id\":1,\"op\":\"hello\"}");
    assert_eq!(cut_short[0]["error"]["code"], "InvalidRequest");
}

const OPS: &[&str] = &[
    "hello",
    "volume.open",
    "volume.close",
    "volume.limits",
    "volume.usage",
    "clock",
    "mount",
    "unmount",
    "mount.permit",
    "mount.stall",
    "mount.resume",
    "mount.fail",
    "mount.list",
    "stats",
    "reset",
    "shutdown",
    "nothing.of.the.kind",
];
const FIELDS: &[&str] = &[
    "volume",
    "backing",
    "mount",
    "mountpoint",
    "root",
    "create",
    "posix",
    "anonymous",
    "read_only",
    "permissions",
    "throughput",
    "performance",
    "ledger",
    "standard_bytes",
    "enforce",
    "passthrough",
    "now",
];

/// Values that mean something to one operation or another. No mount point among them exists.
fn value(scratch: PathBuf) -> impl Strategy<Value = Value> {
    let path = scratch.join("volume").to_string_lossy().into_owned();
    let meant = vec![
        json!("fs-1"),
        json!(path),
        json!(format!("{path}/../../etc")),
        json!("/nowhere/at/all"),
        json!("/"),
        json!(""),
        json!("\0"),
        json!("auto"),
        json!("general_purpose"),
        json!({"mode": "bursting"}),
        json!({"mode": "provisioned", "bytes_per_second": u64::MAX}),
        json!({"mode": "provisioned", "bytes_per_second": 0}),
        json!({"credit_bytes": i64::MIN, "credit_fraction": u64::MAX, "at": u64::MAX}),
        json!({"uid": u32::MAX, "gid": 0, "gids": [1, 2, 3]}),
        json!({"uid": 1, "gid": 1, "mode": 0o777}),
        json!({"read_only": true, "root_squash": "yes"}),
        json!(u64::MAX),
        json!(0),
        json!(-1),
        json!(1.5e300),
        json!(true),
        Value::Null,
        json!([[[]]]),
    ];
    prop_oneof![
        6 => prop::sample::select(meant),
        1 => ".*".prop_map(Value::String),
        1 => any::<i64>().prop_map(|number| json!(number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_are_answered_each_by_its_id(
        requests in Just(Scratch::new("requests").0.clone()).prop_flat_map(|scratch| {
            let fields = prop::collection::vec((prop::sample::select(FIELDS), value(scratch)), 0..8);
            prop::collection::vec((prop::sample::select(OPS), fields), 1..30)
        }),
    ) {
        let scratch = Scratch::new("requests");
        let server = server();
        let mut text = Vec::new();
        for (id, (op, fields)) in requests.iter().enumerate() {
            let mut request = json!({"id": id, "op": op});
            for (field, value) in fields {
                request[*field] = value.clone();
            }
            text.extend(request.to_string().into_bytes());
            text.push(b'\n');
        }
        let answers = talk(&server, &text);
        let mut ids: Vec<u64> = answers.iter().filter_map(|answer| answer["id"].as_u64()).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..requests.len() as u64).collect::<Vec<_>>());
        for answer in &answers {
            prop_assert!(is_answer(answer), "{}", answer);
        }
        server.shut_down();
        prop_assert!(scratch.0.exists());
    }

    #[test]
    fn any_bytes_are_answered_line_by_line(lines in prop::collection::vec(
        prop::collection::vec(any::<u8>().prop_filter("ends a line", |byte| *byte != b'\n'), 0..200), 0..20,
    )) {
        let server = server();
        let mut text = Vec::new();
        for line in &lines {
            text.extend(line);
            text.push(b'\n');
        }
        let answers = talk(&server, &text);
        prop_assert_eq!(answers.len(), lines.len());
        prop_assert!(answers.iter().all(is_answer));
    }
}
