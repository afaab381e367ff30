//! Who a connection is, where it says so: a client's certificate is judged by whoever knows principals and policies, over
//! the control socket, and the connection waits for the answer.

use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::mount::Permissions;

/// What was answered about a connection.
#[derive(Debug)]
pub struct Visit {
    /// The tag of the export that is its root, where that is not the listener's.
    pub root: Option<u64>,
    /// Clients and sessions are shared within it.
    pub realm: Option<u64>,
    permissions: RwLock<Option<Permissions>>,
}

impl Visit {
    pub fn new(root: Option<u64>, realm: Option<u64>, permissions: Option<Permissions>) -> Visit {
        Visit {
            root,
            realm,
            permissions: RwLock::new(permissions),
        }
    }

    /// What it may do, where that is not what others at its export may.
    pub fn permissions(&self) -> Option<Permissions> {
        *self
            .permissions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn permit(&self, permissions: Option<Permissions>) {
        *self
            .permissions
            .write()
            .unwrap_or_else(PoisonError::into_inner) = permissions;
    }
}

/// A line to who answers.
#[derive(Debug, Serialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum Line {
    /// Who is that?
    Question {
        visit: u64,
        /// The export that is the connection's root so far; null below the directory of all exports.
        export: Option<String>,
        /// The client's address.
        peer: String,
        /// DER in hexadecimal digits.
        certificate: String,
    },
    /// The connection of an earlier question is gone.
    Ended { ended: u64 },
}

/// The answer, or a later change of it.
#[derive(Debug, Deserialize)]
pub struct Answer {
    pub visit: u64,
    /// The name of the export that becomes the connection's root; null leaves it as it is.
    pub root: Option<String>,
    /// Connections of one realm see each other's clients and sessions; null leaves that to the root.
    pub realm: Option<String>,
    /// Null leaves those of exports in force.
    pub permissions: Option<Permissions>,
}

/// Who can be asked, if anybody.
#[derive(Debug, Default)]
pub struct Asker(Mutex<Option<Sender<Line>>>);

impl Asker {
    pub fn set(&self, lines: Option<Sender<Line>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// False where nobody is there to hear it.
    pub fn say(&self, line: Line) -> bool {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.as_ref().is_some_and(|lines| lines.send(line).is_ok())
    }
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
