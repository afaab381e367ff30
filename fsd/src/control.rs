//! The control socket: one JSON object a line each way.
//!
//! A request is `{"id": …, "op": "mount", …}`; its answer is `{"id": …, "ok": true, …}` or
//! `{"id": …, "error": {"code", "message", "errno"?}}`. Unknown fields are ignored. The first connection is the
//! supervisor's: when it closes, the server ends.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use crate::nfs::control::{Guest, Identities, Listen, ListenerName, Offer, Questions, Withdrawal};
use crate::nfs::visit::{Answer, Line};
use crate::server::{Failure, LimitVolume, MountRequest, OpenVolume, Permit, Server, Way};
use crate::sys::event::EventFd;
use crate::sys::socket;
use crate::sys::Errno;

/// Longest request, in bytes.
pub const LONGEST_LINE: u64 = 1 << 20;

/// Why the server should end.
#[derive(Debug)]
pub struct Ending {
    pub event: EventFd,
    panicked: AtomicBool,
}

impl Ending {
    pub fn new() -> Result<Ending, Errno> {
        Ok(Ending {
            event: EventFd::new()?,
            panicked: AtomicBool::new(false),
        })
    }

    pub fn request(&self) {
        self.event.signal();
    }

    pub fn panic(&self) {
        self.panicked.store(true, SeqCst);
        self.event.signal();
    }

    pub fn panicked(&self) -> bool {
        self.panicked.load(SeqCst)
    }
}

#[derive(Debug, Deserialize)]
struct VolumeName {
    volume: String,
}

#[derive(Debug, Deserialize)]
struct MountName {
    mount: String,
}

#[derive(Debug, Deserialize)]
struct Clock {
    /// Nanoseconds since 1970.
    now: u64,
}

#[derive(Debug, Deserialize)]
struct Prefix {
    prefix: PathBuf,
}

/// Listens at `path` and serves every connection on a thread of its own.
pub fn listen(path: &Path, server: Arc<Server>, ending: Arc<Ending>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || accept(&listener, &server, &ending))?;
    Ok(())
}

fn accept(listener: &UnixListener, server: &Arc<Server>, ending: &Arc<Ending>) {
    let mut supervisor = true;
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, "a control connection could not be accepted");
                continue;
            }
        };
        let ends = std::mem::take(&mut supervisor);
        let server = Arc::clone(server);
        let ending = Arc::clone(ending);
        let spawned = std::thread::Builder::new()
            .name("control-connection".to_owned())
            .spawn(move || {
                converse(stream, &server, &ending);
                if ends {
                    ending.request();
                }
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "a control connection could not be served");
        }
    }
}

/// A control connection's bytes, and the descriptors that came with them.
struct Receiver {
    stream: UnixStream,
    descriptors: Vec<OwnedFd>,
}

impl Receiver {
    fn new(stream: UnixStream) -> Receiver {
        Receiver {
            stream,
            descriptors: Vec::new(),
        }
    }
}

impl std::io::Read for Receiver {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let received = socket::receive(&self.stream, out, &mut self.descriptors);
        // A request takes one along at most: what nobody takes is closed.
        if self.descriptors.len() > 1 {
            self.descriptors.drain(..self.descriptors.len() - 1);
        }
        received.map_err(|errno| std::io::Error::from_raw_os_error(errno.0))
    }
}

/// Answers the requests of one connection until it closes or sends what no request can be.
pub fn converse(stream: UnixStream, server: &Arc<Server>, ending: &Arc<Ending>) {
    let Ok(writer) = stream.try_clone() else {
        return;
    };
    let writer = Arc::new(Mutex::new(writer));
    let mut reader = BufReader::new(Receiver::new(stream));
    let mut unanswered = Unanswered(None);
    loop {
        let mut line = Vec::new();
        let mut limited = std::io::Read::take(&mut reader, LONGEST_LINE);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.last() != Some(&b'\n') => {
                let long = Failure::Invalid(format!(
                    "a request is one line of at most {LONGEST_LINE} bytes"
                ));
                send(&writer, &answer(&Value::Null, Err(long)));
                return;
            }
            Ok(_) => {}
        }
        let request: Value = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => {
                let failure = Failure::Invalid(format!("not a JSON object: {error}"));
                send(&writer, &answer(&Value::Null, Err(failure)));
                continue;
            }
        };
        let op = request
            .get("op")
            .and_then(Value::as_str)
            .unwrap_or_default();
        // These may take long; what follows need not wait for them.
        if matches!(op, "reset" | "cleanup") {
            let (server, writer) = (Arc::clone(server), Arc::clone(&writer));
            let spawned = std::thread::Builder::new()
                .name("control-request".to_owned())
                .spawn(move || send(&writer, &serve(&server, &request, None)));
            if let Err(error) = spawned {
                tracing::error!(%error, "a control request could not be served");
            }
        } else if op == "nfs.questions" {
            let id = request.get("id").cloned().unwrap_or(Value::Null);
            let asking =
                arguments::<Questions>(&request).and_then(|request| server.nfs_questions(&request));
            let questions = asking.map(|questions| ask(questions, Arc::clone(&writer)));
            unanswered.0 = Some(server);
            send(&writer, &answer(&id, questions.map(|()| json!({}))));
        } else {
            let ends = op == "shutdown";
            let socket = reader.get_mut().descriptors.pop();
            send(&writer, &serve(server, &request, socket));
            if ends {
                ending.request();
            }
        }
    }
}

/// Questions about clients have nobody to answer them once the connection is over that they were to go over.
struct Unanswered<'a>(Option<&'a Server>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.0 {
            server.nfs_no_answers();
        }
    }
}

/// Sends questions as they come up, so that no client's thread waits for who reads them.
fn ask(questions: mpsc::Receiver<Line>, writer: Arc<Mutex<UnixStream>>) {
    let spawned = std::thread::Builder::new()
        .name("nfs-questions".to_owned())
        .spawn(move || {
            for question in questions {
                send(&writer, &json!(question));
            }
        });
    if let Err(error) = spawned {
        tracing::error!(%error, "clients' certificates cannot be asked about");
    }
}

fn send(writer: &Mutex<UnixStream>, answer: &Value) {
    let mut line = answer.to_string();
    line.push('\n');
    let mut stream = writer.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = stream.write_all(line.as_bytes()) {
        tracing::debug!(%error, "an answer found nobody");
    }
}

fn answer(id: &Value, result: Result<Value, Failure>) -> Value {
    match result {
        Ok(mut body) => {
            body["id"] = id.clone();
            body["ok"] = json!(true);
            body
        }
        Err(failure) => {
            let mut error = json!({"code": failure.code(), "message": failure.to_string()});
            if let Some(errno) = failure.errno() {
                error["errno"] = json!(errno);
            }
            json!({"id": id, "error": error})
        }
    }
}

/// Serves one request, whatever it is, with an answer. `socket` came along with it.
pub fn serve(server: &Server, request: &Value, socket: Option<OwnedFd>) -> Value {
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let result = match request.get("op").and_then(Value::as_str) {
        Some(op) => act(server, op, request, socket),
        None => Err(Failure::Invalid("op: missing, or not a string".to_owned())),
    };
    if let Err(failure) = &result {
        tracing::warn!(%failure, op = ?request.get("op"), "control request failed");
    }
    answer(&id, result)
}

fn arguments<T: DeserializeOwned>(request: &Value) -> Result<T, Failure> {
    T::deserialize(request).map_err(|error| Failure::Invalid(error.to_string()))
}

fn act(
    server: &Server,
    op: &str,
    request: &Value,
    socket: Option<OwnedFd>,
) -> Result<Value, Failure> {
    match op {
        "hello" => Ok(server.hello()),
        "volume.open" => server.open_volume(&arguments::<OpenVolume>(request)?),
        "volume.close" => server.close_volume(&arguments::<VolumeName>(request)?.volume),
        "volume.limits" => server.limit(&arguments::<LimitVolume>(request)?),
        "clock" => Ok(server.set_clock(arguments::<Clock>(request)?.now)),
        "volume.usage" => server.usage(&arguments::<VolumeName>(request)?.volume),
        "mount" => server.mount(&arguments::<MountRequest>(request)?),
        "unmount" => server.unmount(&arguments::<MountName>(request)?.mount),
        "mount.permit" => server.permit(&arguments::<Permit>(request)?),
        "mount.stall" => server.turn(&arguments::<MountName>(request)?.mount, Way::Stall),
        "mount.resume" => server.turn(&arguments::<MountName>(request)?.mount, Way::Resume),
        "mount.fail" => server.turn(&arguments::<MountName>(request)?.mount, Way::Fail),
        "mount.list" => Ok(server.list()),
        "stats" => Ok(server.stats()),
        "reset" => server.reset(&arguments::<VolumeName>(request)?.volume),
        "cleanup" => server.cleanup(&arguments::<Prefix>(request)?.prefix),
        "nfs.export" => server.nfs_export(&arguments::<Offer>(request)?),
        "nfs.unexport" => Ok(server.nfs_unexport(&arguments::<Withdrawal>(request)?)),
        "nfs.listen" => server.nfs_listen(&arguments::<Listen>(request)?, socket),
        "nfs.tls" => server.nfs_tls(&arguments::<Identities>(request)?),
        "nfs.answer" => Ok(server.nfs_answer(&arguments::<Answer>(request)?)),
        "nfs.serve" => server.nfs_serve(&arguments::<Guest>(request)?, socket),
        "nfs.close" => Ok(server.nfs_close(&arguments::<ListenerName>(request)?)),
        // The end follows the answer.
        "shutdown" => Ok(json!({})),
        _ => Err(Failure::UnknownOperation(op.to_owned())),
    }
}
