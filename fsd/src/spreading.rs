//! Changes of file content that some client's kernel has cached: its pages must go before the change is answered.
//!
//! Only files opened for reading in a mount without passthrough are cached, so no cached page is ever dirty, and a page is
//! locked at most while a read of it is under way. Invalidating waits for such reads, and they wait for nothing that a
//! writer holds. Still no thread that serves requests waits: a thread of the volume's own does, and then answers.

use std::cell::RefCell;
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::inode::Inode;

thread_local! {
    static CHANGED: RefCell<Vec<Arc<Inode>>> = const { RefCell::new(Vec::new()) };
}

/// The operation at hand changed the content of `inode`.
pub fn note(inode: &Arc<Inode>) {
    if inode.cached_somewhere() {
        CHANGED.with_borrow_mut(|changed| changed.push(Arc::clone(inode)));
    }
}

/// What the operation at hand changed that is cached somewhere.
pub fn take() -> Vec<Arc<Inode>> {
    CHANGED.with_borrow_mut(std::mem::take)
}

/// Work for the thread that may wait for clients' kernels: tell them, then answer.
pub type Telling = Box<dyn FnOnce() + Send>;

/// A volume's thread for that; started with the first need, ended with the volume.
#[derive(Debug, Default)]
pub struct Spreader(Mutex<Option<Sender<Telling>>>);

impl Spreader {
    pub fn spread(&self, telling: Telling) {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unsent = match sender.as_ref() {
            Some(thread) => match thread.send(telling) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => telling,
        };
        let (thread, work) = channel::<Telling>();
        let started = std::thread::Builder::new()
            .name("spread".to_owned())
            .spawn(move || work.into_iter().for_each(|telling| telling()));
        match started {
            Ok(_) => {
                // The thread has the receiver: this cannot fail.
                let _ = thread.send(unsent);
                *sender = Some(thread);
            }
            Err(error) => {
                tracing::error!(%error, "no thread to tell clients of a change");
                unsent();
            }
        }
    }
}
