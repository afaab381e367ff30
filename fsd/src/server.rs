//! The volumes and mounts of this process, and what the control socket may ask of them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{json, Value};

use crate::fuse::classic::{self, Devices};
use crate::fuse::session::{Session, MAX_IO};
use crate::fuse::uring::Rings;
use crate::identity::NOBODY;
use crate::inode::DescriptorCache;
use crate::later::Later;
use crate::mount::Mount;
use crate::nfs::control::{
    Doorway, Guest, Identities, Listen, ListenerName, Offer, Questions, Withdrawal,
};
use crate::nfs::visit::{Answer, Line};
use crate::pacing;
use crate::requests::{identity, plain};
pub use crate::requests::{
    Failure, LimitVolume, MountRequest, OpenVolume, Passthrough, Permit, PosixUser, Way,
};
use crate::sys::mounting::{self, FuseMount};
use crate::sys::{cred, ring, Errno};
use crate::usage::Walk;
use crate::volume::Volume;

/// Threads for `/dev/fuse` when it carries all requests, and when io_uring does.
const CLASSIC_THREADS: usize = 6;
const DEVICE_THREADS: usize = 2;
/// Files whose sizes are counted before a volume is open; the rest of a larger one is counted beside its use.
const COUNTED_AT_ONCE: u64 = 20_000;
/// How long a new mount may take to serve its first request.
const READY_WITHIN: Duration = Duration::from_secs(10);
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

struct Attached {
    session: Arc<Session>,
    mountpoint: PathBuf,
    token: u64,
    device: (u32, u32),
}

pub struct Server {
    volumes: Mutex<HashMap<String, Arc<Volume>>>,
    mounts: Mutex<HashMap<String, Attached>>,
    descriptors: Arc<DescriptorCache>,
    devices: Arc<Devices>,
    rings: Option<Arc<Rings>>,
    later: Arc<Later>,
    next_mount: AtomicU64,
    nfs: Doorway,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns FUSE over io_uring on where this kernel has it; false where it has not.
fn enable_uring() -> bool {
    let enabled = || std::fs::read_to_string(ENABLE_URING).is_ok_and(|text| text.trim_end() == "Y");
    if !enabled() {
        if let Err(error) = std::fs::write(ENABLE_URING, "Y") {
            tracing::info!(%error, "FUSE over io_uring cannot be turned on");
        }
    }
    enabled() && ring::available()
}

/// Of `limit` descriptors, how many may be open for speed alone. When clients want more than the rest, these are closed.
fn kept_descriptors(limit: u64) -> usize {
    const MOST: u64 = 50_000;
    (limit / 4 * 3).min(MOST) as usize
}

impl Server {
    /// Starts the threads. `classic`: do without io_uring.
    pub fn start(classic: bool) -> Result<Server, Errno> {
        let limit = cred::raise_descriptor_limit();
        cred::clear_umask();
        cred::declare_io_flusher();
        let rings = if !classic && enable_uring() {
            Some(Rings::start()?)
        } else {
            None
        };
        let threads = if rings.is_some() {
            DEVICE_THREADS
        } else {
            CLASSIC_THREADS
        };
        mounting::provide_connections(Path::new(CONNECTIONS));
        Ok(Server {
            volumes: Mutex::default(),
            mounts: Mutex::default(),
            descriptors: Arc::new(DescriptorCache::new(kept_descriptors(limit))),
            devices: Devices::start(threads, rings.clone())?,
            rings,
            later: Later::start()?,
            next_mount: AtomicU64::new(1),
            nfs: Doorway::default(),
        })
    }

    pub fn transport(&self) -> &'static str {
        match self.rings {
            Some(_) => "io_uring",
            None => "classic",
        }
    }

    fn volume(&self, name: &str) -> Result<Arc<Volume>, Failure> {
        let volumes = lock(&self.volumes);
        let found = volumes.get(name).cloned();
        found.ok_or_else(|| Failure::VolumeUnknown(name.to_owned()))
    }

    pub fn hello(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "transport": self.transport(),
            "passthrough": mounting::kernel_at_least(6, 9),
        })
    }

    // ---- volumes

    pub fn open_volume(&self, request: &OpenVolume) -> Result<Value, Failure> {
        plain("backing", &request.backing)?;
        if let Some(state) = &request.nfs_state {
            plain("nfs_state", state)?;
        }
        let passthrough = match &request.passthrough {
            None => true,
            Some(Passthrough::Fixed(fixed)) => *fixed,
            Some(Passthrough::Named(name)) if name == "auto" => true,
            Some(Passthrough::Named(name)) => {
                return Err(Failure::Invalid(format!(
                    "passthrough: {name:?} given; true, false or \"auto\" allowed"
                )))
            }
        };
        let mut volumes = lock(&self.volumes);
        if let Some(open) = volumes.get(&request.volume) {
            if open.backing != request.backing {
                return Err(Failure::VolumeElsewhere {
                    volume: request.volume.clone(),
                    open: open.backing.clone(),
                    asked: request.backing.clone(),
                });
            }
            return Ok(json!({"volume": request.volume}));
        }
        let volume = Volume::open(
            &request.volume,
            &request.backing,
            passthrough,
            Arc::clone(&self.descriptors),
        )
        .map_err(Failure::system(format!(
            "backing {}",
            request.backing.display()
        )))?;
        let volume = Arc::new(volume);
        if !volume.usage.known() {
            count(&volume).map_err(Failure::system(format!("counting {}", volume.name)))?;
        }
        if let Some(state) = &request.nfs_state {
            self.nfs.guard(&volume, state, &self.later);
        }
        volumes.insert(request.volume.clone(), volume);
        Ok(json!({"volume": request.volume}))
    }

    pub fn close_volume(&self, name: &str) -> Result<Value, Failure> {
        let mut volumes = lock(&self.volumes);
        let Some(volume) = volumes.get(name) else {
            return Ok(json!({}));
        };
        let mounts = volume.mounts();
        if mounts > 0 {
            return Err(Failure::VolumeInUse {
                volume: name.to_owned(),
                mounts,
            });
        }
        self.nfs.drop_volume(name);
        volume.usage.close(volume.depths.deep());
        volumes.remove(name);
        Ok(json!({}))
    }

    pub fn usage(&self, name: &str) -> Result<Value, Failure> {
        let volume = self.volume(name)?;
        Ok(json!({
            "bytes": volume.usage.bytes(),
            "files": volume.usage.files(),
            "counted": volume.usage.known(),
        }))
    }

    /// Sets a volume's throughput and operations limits, live, and whether files opened from now on may bypass the server.
    pub fn limit(&self, request: &LimitVolume) -> Result<Value, Failure> {
        let volume = self.volume(&request.volume)?;
        if let Some(passthrough) = request.passthrough {
            volume.passthrough.store(passthrough, SeqCst);
        }
        volume.pacing.limit(&request.limits);
        Ok(json!({ "limits": volume.pacing.report() }))
    }

    /// The supervisor's clock shows `now`, in nanoseconds since 1970: credits accrue by it.
    pub fn set_clock(&self, now: u64) -> Value {
        pacing::set_clock(now);
        json!({})
    }

    pub fn reset(&self, name: &str) -> Result<Value, Failure> {
        let volume = self.volume(name)?;
        let mounts = volume.mounts();
        if mounts > 0 {
            return Err(Failure::VolumeInUse {
                volume: name.to_owned(),
                mounts,
            });
        }
        self.nfs.drop_clients(name);
        volume
            .empty()
            .map_err(Failure::system(format!("emptying {name}")))?;
        Ok(json!({}))
    }

    // ---- the network door

    pub fn nfs_export(&self, request: &Offer) -> Result<Value, Failure> {
        plain("state", &request.state)?;
        let volume = self.volume(&request.volume)?;
        let offered = self
            .nfs
            .offer(request, volume, &self.later, &self.descriptors);
        offered.map_err(Failure::Invalid)
    }

    pub fn nfs_unexport(&self, request: &Withdrawal) -> Value {
        self.nfs.withdraw(request)
    }

    /// `socket` came with the request.
    pub fn nfs_listen(&self, request: &Listen, socket: Option<OwnedFd>) -> Result<Value, Failure> {
        plain("state", &request.state)?;
        let listening = self
            .nfs
            .listen(request, socket, &self.later, &self.descriptors);
        listening.map_err(Failure::Invalid)
    }

    /// `connected` came with the request.
    pub fn nfs_serve(&self, request: &Guest, connected: Option<OwnedFd>) -> Result<Value, Failure> {
        plain("state", &request.state)?;
        let serving = self
            .nfs
            .serve(request, connected, &self.later, &self.descriptors);
        serving.map_err(Failure::Invalid)
    }

    pub fn nfs_tls(&self, request: &Identities) -> Result<Value, Failure> {
        plain("state", &request.state)?;
        let identified = self.nfs.identify(request, &self.later, &self.descriptors);
        identified.map_err(Failure::Invalid)
    }

    /// Who is asked about clients' certificates receives these.
    pub fn nfs_questions(&self, request: &Questions) -> Result<Receiver<Line>, Failure> {
        plain("state", &request.state)?;
        let asking = self.nfs.questions(request, &self.later, &self.descriptors);
        asking.map_err(Failure::Invalid)
    }

    pub fn nfs_no_answers(&self) {
        self.nfs.no_answers();
    }

    pub fn nfs_answer(&self, request: &Answer) -> Value {
        self.nfs.answer(request)
    }

    pub fn nfs_close(&self, request: &ListenerName) -> Value {
        self.nfs.hang_up(request)
    }

    // ---- mounts

    pub fn mount(&self, request: &MountRequest) -> Result<Value, Failure> {
        plain("mountpoint", &request.mountpoint)?;
        let volume = self.volume(&request.volume)?;
        let nobody = PosixUser {
            uid: NOBODY,
            gid: NOBODY,
            gids: Vec::new(),
        };
        let identity = match (&request.posix, &request.anonymous) {
            (Some(user), _) => identity("posix", user)?,
            (None, Some(user)) => identity("anonymous", user)?,
            (None, None) => identity("anonymous", &nobody)?,
        };
        if lock(&self.mounts).contains_key(&request.mount) {
            return Err(Failure::MountExists(request.mount.clone()));
        }
        volume
            .pacing
            .admit(volume.connections())
            .map_err(|refusal| Failure::Refused {
                volume: request.volume.clone(),
                refusal,
            })?;
        let root = volume.resolve_root(&request.root, request.create.as_ref())?;
        let number = self.next_mount.fetch_add(1, Relaxed);
        let mount = Mount::new(
            &request.mount,
            number,
            Arc::clone(&volume),
            identity,
            root,
            request.read_only,
        )
        .map_err(Failure::system("root directory"))?;
        mount.permit(request.permissions);
        let root_mode = mount.root_mode;
        let device = classic::open_device().map_err(Failure::system("/dev/fuse"))?;
        let want_rings = self.rings.as_ref().map_or(0, |rings| rings.len());
        let session = Arc::new(Session::new(
            mount,
            device,
            want_rings,
            Arc::clone(&self.later),
        ));
        volume.observe(number, Arc::clone(&session) as _);
        let attached = self.attach(request, &session, root_mode).inspect_err(|_| {
            session.end();
        })?;
        let (major, minor) = attached.device;
        lock(&self.mounts).insert(request.mount.clone(), attached);
        if !session.wait_ready(READY_WITHIN) {
            self.unmount(&request.mount)?;
            return Err(Failure::NotReady {
                mount: request.mount.clone(),
                seconds: READY_WITHIN.as_secs(),
            });
        }
        Ok(json!({
            "mount": request.mount,
            "device": format!("{major}:{minor}"),
            "connection": minor,
            "passthrough": session.passthrough(),
        }))
    }

    fn attach(
        &self,
        request: &MountRequest,
        session: &Arc<Session>,
        root_mode: u32,
    ) -> Result<Attached, Failure> {
        let at = || format!("mountpoint {}", request.mountpoint.display());
        let options = FuseMount {
            device: session.device(),
            source: &format!("lambay:{}{}", request.volume, request.root),
            root_mode,
            read_only: request.read_only,
            max_read: MAX_IO as u32,
        };
        let mounted =
            mounting::mount_fuse(&options, &request.mountpoint).map_err(Failure::system(at()))?;
        let device = mounting::device_of(&mounted).map_err(Failure::system(at()))?;
        session.attach(mounted);
        let token = self.devices.add(session).map_err(|errno| {
            let _ = mounting::detach(&request.mountpoint);
            Failure::System { what: at(), errno }
        })?;
        Ok(Attached {
            session: Arc::clone(session),
            mountpoint: request.mountpoint.clone(),
            token,
            device,
        })
    }

    /// Takes a mount away, whoever still uses it; nothing happens when it is gone already.
    pub fn unmount(&self, name: &str) -> Result<Value, Failure> {
        let Some(attached) = lock(&self.mounts).remove(name) else {
            return Ok(json!({}));
        };
        let minor = attached.device.1;
        // While the session holds its mount, the number is still this connection's: the kernel uses numbers again at once.
        abort_connection(minor);
        let on_top = mounting::device_at(&attached.mountpoint) == Ok(attached.device);
        attached.session.detach();
        // Somebody may have unmounted it, or mounted over it and gone: only our own mount is taken away.
        let result = if on_top || mounted_at(&attached.mountpoint, minor) {
            mounting::detach(&attached.mountpoint)
        } else {
            Ok(())
        };
        self.devices.remove(attached.token);
        match result {
            Ok(()) | Err(Errno(libc::EINVAL | libc::ENOENT)) => Ok(json!({})),
            Err(errno) => Err(Failure::System {
                what: format!("unmounting {}", attached.mountpoint.display()),
                errno,
            }),
        }
    }

    fn session(&self, name: &str) -> Result<Arc<Session>, Failure> {
        let mounts = lock(&self.mounts);
        let found = mounts
            .get(name)
            .map(|attached| Arc::clone(&attached.session));
        found.ok_or_else(|| Failure::MountUnknown(name.to_owned()))
    }

    /// Changes what a client may do, at once. `bypassing` open files go on past the server until they are closed.
    pub fn permit(&self, request: &Permit) -> Result<Value, Failure> {
        let session = self.session(&request.mount)?;
        let bypassing = session.permit(request.permissions);
        Ok(json!({"mount": request.mount, "bypassing": bypassing}))
    }

    /// Stalls, resumes or fails a client's requests. `bypassing` as in [`Server::permit`].
    pub fn turn(&self, name: &str, way: Way) -> Result<Value, Failure> {
        let session = self.session(name)?;
        match way {
            Way::Stall => session.stall(),
            Way::Resume => session.resume(),
            Way::Fail => session.fail(),
        }
        let bypassing = session.mount.passthrough_files();
        Ok(json!({"mount": name, "bypassing": bypassing}))
    }

    pub fn list(&self) -> Value {
        let mounts: Vec<Value> = lock(&self.mounts)
            .iter()
            .map(|(name, attached)| {
                json!({
                    "mount": name,
                    "volume": attached.session.mount.volume.name,
                    "mountpoint": attached.mountpoint.to_string_lossy(),
                    "device": format!("{}:{}", attached.device.0, attached.device.1),
                    "connection": attached.device.1,
                    "read_only": attached.session.mount.read_only,
                    "permissions": attached.session.mount.permissions(),
                    "way": attached.session.link_name(),
                })
            })
            .collect();
        json!({ "mounts": mounts })
    }

    pub fn stats(&self) -> Value {
        let mut volumes = serde_json::Map::new();
        for (name, volume) in lock(&self.volumes).iter() {
            let mut counts = counts(&volume.meter);
            counts["bytes"] = json!(volume.usage.bytes());
            counts["files"] = json!(volume.usage.files());
            counts["connections"] = json!(volume.connections());
            counts["known_inodes"] = json!(volume.known_inodes());
            counts["limits"] = volume.pacing.report();
            counts["lock_waiters"] = json!(volume.locks.waiting());
            volumes.insert(name.clone(), counts);
        }
        let mut mounts = serde_json::Map::new();
        for (name, attached) in lock(&self.mounts).iter() {
            let mount = &attached.session.mount;
            let mut counts = counts(&mount.meter);
            counts["volume"] = json!(mount.volume.name);
            counts["passthrough_files"] = json!(mount.passthrough_files());
            counts["open_files"] = json!(mount.open_files());
            counts["unserved"] = json!(attached.session.unserved());
            counts["known_inodes"] = json!(mount.known());
            counts["locks"] = json!(mount.volume.locks.held_by_mount(mount.number));
            mounts.insert(name.clone(), counts);
        }
        json!({"volumes": volumes, "mounts": mounts, "transport": self.transport(), "nfs": self.nfs.report()})
    }

    /// Takes away every FUSE mount below `prefix` and aborts its connection: leftovers of a server that was killed.
    pub fn cleanup(&self, prefix: &Path) -> Result<Value, Failure> {
        plain("prefix", prefix)?;
        if prefix.components().count() < 2 {
            return Err(Failure::Invalid(
                "prefix: / would take away every mount".to_owned(),
            ));
        }
        let own: Vec<PathBuf> = lock(&self.mounts)
            .values()
            .map(|attached| attached.mountpoint.clone())
            .collect();
        let mounts = mounting::mounts().map_err(Failure::system("/proc/self/mountinfo"))?;
        let mut removed = Vec::new();
        for mount in mounts.iter().rev() {
            let leftover = mount.kind.split('.').next() == Some("fuse")
                && mount.target.starts_with(prefix)
                && !own.contains(&mount.target);
            if !leftover {
                continue;
            }
            abort_connection(mount.minor);
            if mounting::detach(&mount.target).is_ok() {
                removed.push(mount.target.to_string_lossy().into_owned());
            }
        }
        Ok(json!({ "unmounted": removed }))
    }

    /// Unmounts everything and settles the volumes' sizes. Later requests find nothing.
    pub fn shut_down(&self) {
        let names: Vec<String> = lock(&self.mounts).keys().cloned().collect();
        for name in names {
            if let Err(failure) = self.unmount(&name) {
                tracing::error!(mount = name, %failure, "left mounted");
            }
        }
        for (_, volume) in lock(&self.volumes).drain() {
            volume.usage.close(volume.depths.deep());
        }
    }
}

/// Whether a file system is mounted there, be it below others. Reads the host's whole table of mounts.
fn mounted_at(target: &Path, minor: u32) -> bool {
    mounting::mounts().is_ok_and(|mounts| {
        mounts
            .iter()
            .any(|mount| mount.minor == minor && mount.target == target)
    })
}

/// Everybody who waits in the connection gets an error. Does nothing where fusectl is not mounted.
fn abort_connection(number: u32) {
    let _ = std::fs::write(format!("{CONNECTIONS}/{number}/abort"), "1");
}

/// Counts a volume's size: at once where it is small, else beside everything else.
fn count(volume: &Arc<Volume>) -> Result<(), Errno> {
    let mut walk = Walk::new(volume.root())?;
    if volume.usage.count(&mut walk, COUNTED_AT_ONCE)? {
        volume.depths.found(walk.deepest());
        return Ok(());
    }
    let volume = Arc::clone(volume);
    let counter = std::thread::Builder::new().name("usage".to_owned());
    counter.spawn(move || {
        if let Err(errno) = volume.usage.count(&mut walk, u64::MAX) {
            tracing::error!(volume = volume.name, %errno, "the size could not be counted");
        }
    })?;
    Ok(())
}

fn counts(meter: &crate::meter::Meter) -> Value {
    let reading = meter.read();
    let metadata = reading.metadata();
    json!({
        "read_bytes": reading.read.bytes,
        "read_ops": reading.read.operations,
        "write_bytes": reading.write.bytes,
        "write_ops": reading.write.operations,
        "metadata_bytes": metadata.bytes,
        "metadata_ops": metadata.operations,
        "metadata_read_bytes": reading.metadata_read.bytes,
        "metadata_read_ops": reading.metadata_read.operations,
        "metadata_write_bytes": reading.metadata_write.bytes,
        "metadata_write_ops": reading.metadata_write.operations,
        "metered_bytes": reading.metered_bytes,
    })
}
