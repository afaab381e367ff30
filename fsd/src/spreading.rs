//! Changes of file content that some client's kernel has cached: its pages must go before the change is answered.
//!
//! In mounts without passthrough files opened for reading are cached, and those opened for reading and writing are once they
//! are mapped shared. A page is locked while a read of it is under way, and it may be dirty: then it is written back first.
//! So invalidating waits for reads and for writes of pages, and their answers wait for no invalidation, nor does that to a
//! truncation, before which the client's kernel writes no page. No thread that serves requests waits either: a thread of the
//! volume's own does, and then answers. What was written back is told to the others by that thread too, in order; a flush or
//! fsync is answered when it has come that far. A page that two clients change through maps is the one's who writes it back
//! last, as over NFS.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::inode::Inode;

thread_local! {
    static CHANGED: RefCell<Vec<Arc<Inode>>> = const { RefCell::new(Vec::new()) };
    static BEHIND: Cell<bool> = const { Cell::new(false) };
}

/// The operation at hand changed the content of `inode`.
pub fn note(inode: &Arc<Inode>) {
    if inode.cached_somewhere() {
        CHANGED.with_borrow_mut(|changed| changed.push(Arc::clone(inode)));
    }
}

/// The operation at hand is to be answered once everybody has heard of what was written back of `inode`.
pub fn wait_behind(inode: &Inode) {
    if inode.wrote_back.swap(false, SeqCst) {
        BEHIND.set(true);
    }
}

/// What the operation at hand changed that is cached somewhere.
pub fn take() -> Vec<Arc<Inode>> {
    CHANGED.with_borrow_mut(std::mem::take)
}

/// Whether the operation at hand waits for what was changed before.
pub fn behind() -> bool {
    BEHIND.take()
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
