//! FUSE over io_uring: one ring a worker thread, shared by the entries of any number of connections.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{cqueue, opcode, squeue, types, IoUring};

use super::memory::Region;
use super::{pod, Errno};
use crate::fuse::abi::{
    InHeader, OutHeader, RingCommand, RingEntryInOut, RING_COMMIT_AND_FETCH, RING_ENTRY,
    RING_HEADER, RING_OP_IN, RING_REGISTER,
};

/// What a completion reports: the caller's token and the result (negative errno).
pub type Completion = (u64, i32);

/// The memory of one ring entry. Whoever owns this value owns the entry; while the kernel has the entry, nobody reads it.
#[derive(Debug)]
pub struct EntryMemory {
    region: Arc<Region>,
    header: usize,
    payload: usize,
    payload_size: usize,
    /// `struct iovec[2]` for the registration.
    parts: Box<[libc::iovec; 2]>,
    touched: usize,
    answer_len: usize,
}

// SAFETY: the iovecs point into `region`, which this value keeps alive; they are only ever handed to the kernel.
unsafe impl Send for EntryMemory {}

/// Bytes that a block of `count` entries takes.
fn block_size(count: usize, payload_size: usize) -> usize {
    headers_size(count) + count * payload_size
}

fn headers_size(count: usize) -> usize {
    (count * RING_HEADER).next_multiple_of(4096)
}

/// Reserves `count` entries whose headers share pages and whose payloads are resident only once touched.
pub fn reserve_entries(count: usize, payload_size: usize) -> Result<Vec<EntryMemory>, Errno> {
    let region = Arc::new(Region::reserve(block_size(count, payload_size))?);
    Ok((0..count)
        .map(|index| {
            let header = index * RING_HEADER;
            let payload = headers_size(count) + index * payload_size;
            let part = |offset: usize, len: usize| libc::iovec {
                iov_base: (region.address() + offset) as *mut libc::c_void,
                iov_len: len,
            };
            EntryMemory {
                parts: Box::new([part(header, RING_HEADER), part(payload, payload_size)]),
                region: Arc::clone(&region),
                header,
                payload,
                payload_size,
                touched: 0,
                answer_len: 0,
            }
        })
        .collect())
}

impl EntryMemory {
    fn header_bytes(&mut self, offset: usize, len: usize) -> &mut [u8] {
        // SAFETY: `&mut self` of an entry in our hands: neither the kernel nor another thread uses its part of the region.
        unsafe { self.region.slice(self.header + offset, len) }
    }

    /// The request in this entry: header, fixed argument, payload buffer, payload bytes that came.
    pub fn request(&mut self) -> Option<(InHeader, [u8; 128], u64, usize)> {
        let header: InHeader = pod::read(self.header_bytes(0, 128))?;
        let mut fixed = [0u8; 128];
        fixed.copy_from_slice(self.header_bytes(RING_OP_IN, 128));
        let exchange: RingEntryInOut = pod::read(self.header_bytes(RING_ENTRY, 32))?;
        let len = (exchange.payload_size as usize).min(self.payload_size);
        self.touched = self.touched.max(len);
        Some((header, fixed, exchange.commit_id, len))
    }

    /// The payload buffer, for the request's payload and then for the reply's.
    pub fn payload(&mut self) -> &mut [u8] {
        // SAFETY: as in `header_bytes`.
        unsafe { self.region.slice(self.payload, self.payload_size) }
    }

    /// Writes the reply's header; its `len` bytes are in the payload buffer already.
    pub fn answer(&mut self, unique: u64, result: Result<usize, Errno>) {
        let (error, len) = match result {
            Ok(len) => (0, len),
            Err(errno) => (-errno.0, 0),
        };
        self.touched = self.touched.max(len);
        self.answer_len = len;
        let out = OutHeader {
            len: (std::mem::size_of::<OutHeader>() + len) as u32,
            error,
            unique,
        };
        pod::write(self.header_bytes(0, 128), &out);
        let exchange = RingEntryInOut {
            payload_size: len as u32,
            ..RingEntryInOut::default()
        };
        pod::write(self.header_bytes(RING_ENTRY, 32), &exchange);
    }

    /// Payload bytes that may be resident by now.
    pub fn touched(&self) -> usize {
        self.touched
    }

    /// Bytes of the reply's body.
    pub fn answer_len(&self) -> usize {
        self.answer_len
    }

    /// Gives back the resident payload past `keep` bytes (a multiple of the page); the reply must lie before it.
    pub fn trim(&mut self, keep: usize) {
        if self.touched > keep && keep <= self.payload_size && self.payload % 4096 == 0 {
            self.region
                .release(self.payload + keep, self.payload_size - keep);
            self.touched = keep;
        }
    }
}

/// A submission and completion ring, used by the thread that made it alone.
pub struct Ring {
    inner: IoUring<squeue::Entry128, cqueue::Entry>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Ring {
    /// A ring for the calling thread.
    pub fn new(entries: u32) -> Result<Ring, Errno> {
        let mut builder = IoUring::<squeue::Entry128, cqueue::Entry>::builder();
        builder
            .setup_cqsize(entries * 4)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun();
        Ok(Ring {
            inner: builder.build(entries)?,
        })
    }

    fn push(&mut self, entry: &squeue::Entry128) -> Result<(), Errno> {
        loop {
            // SAFETY: the memory that the entry refers to is an EntryMemory's region, which the worker keeps until the
            // entry's final completion.
            if unsafe { self.inner.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    fn command(
        &mut self,
        device: RawFd,
        token: u64,
        op: u32,
        command: &RingCommand,
        parts: Option<u64>,
    ) -> Result<(), Errno> {
        let mut area = [0u8; 80];
        pod::write(&mut area, command);
        let mut entry = opcode::UringCmd80::new(types::Fd(device), op).cmd(area);
        if let Some(address) = parts {
            entry = entry.addr(Some(address));
        }
        let mut entry = entry.build().user_data(token);
        if parts.is_some() {
            set_len(&mut entry, 2);
        }
        self.push(&entry)
    }

    /// Gives a new entry to queue `qid` of the connection behind `device`.
    pub fn register(
        &mut self,
        device: RawFd,
        token: u64,
        qid: u16,
        memory: &EntryMemory,
    ) -> Result<(), Errno> {
        let command = RingCommand {
            qid,
            ..RingCommand::default()
        };
        let parts = memory.parts.as_ptr() as u64;
        self.command(device, token, RING_REGISTER, &command, Some(parts))
    }

    /// Sends an entry's answer and gives the entry back for the next request.
    pub fn commit(
        &mut self,
        device: RawFd,
        token: u64,
        qid: u16,
        commit_id: u64,
    ) -> Result<(), Errno> {
        let command = RingCommand {
            qid,
            commit_id,
            ..RingCommand::default()
        };
        self.command(device, token, RING_COMMIT_AND_FETCH, &command, None)
    }

    /// Completes once `fd` is readable.
    pub fn watch(&mut self, fd: &impl AsRawFd, token: u64) -> Result<(), Errno> {
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), libc::POLLIN as u32)
            .build()
            .user_data(token);
        self.push(&entry.into())
    }

    /// Hands what was pushed to the kernel.
    pub fn submit(&mut self) -> Result<(), Errno> {
        match self.inner.submit() {
            Ok(_) => Ok(()),
            Err(error) => retryable(error),
        }
    }

    /// Whether the kernel has everything that was pushed.
    pub fn all_submitted(&mut self) -> bool {
        self.inner.submission().is_empty()
    }

    /// Submits, then waits for at least one completion and adds all that are there to `out`.
    pub fn wait(&mut self, out: &mut Vec<Completion>) -> Result<(), Errno> {
        match self.inner.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) => retryable(error)?,
        }
        for completion in self.inner.completion() {
            out.push((completion.user_data(), completion.result()));
        }
        Ok(())
    }
}

fn retryable(error: std::io::Error) -> Result<(), Errno> {
    let errno = Errno::from(error);
    match errno.0 {
        libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME => Ok(()),
        _ => Err(errno),
    }
}

/// Sets `sqe->len`, which the crate's builder of URING_CMD leaves at 0 (the number of iovecs at `sqe->addr`).
fn set_len(entry: &mut squeue::Entry128, len: u32) {
    const LEN_OFFSET: usize = 24;
    // SAFETY: Entry128 is repr(C), 128 bytes, and begins with `struct io_uring_sqe`, whose `len` is at offset 24.
    unsafe {
        let start = (entry as *mut squeue::Entry128).cast::<u8>();
        start.add(LEN_OFFSET).cast::<u32>().write_unaligned(len);
    }
}

/// Whether this kernel lets us make such rings.
pub fn available() -> bool {
    Ring::new(8).is_ok()
}
