//! `fattr4`, RFC 8881 section 5: which attributes there are, how they look on the wire, and what a client may set.
//!
//! What EFS does not support is not here: ACLs, named attributes, quotas, `files_*`, `fs_locations`, `time_backup` and so on.
//! <https://docs.aws.amazon.com/efs/latest/ug/nfs4-unsupported-features.html>

use super::rpc::MAX_IO;
use super::status::Status;
use super::xdr::{Decoder, Encoder, Malformed};
use crate::naming::{LARGEST_FILE, MOST_LINKS};
use crate::sys::file::{NewTime, Stat, Time};

/// `lease_time`, in seconds.
pub const LEASE_SECONDS: u32 = 30;

const SUPPORTED_ATTRS: u32 = 0;
const TYPE: u32 = 1;
const FH_EXPIRE_TYPE: u32 = 2;
const CHANGE: u32 = 3;
const SIZE: u32 = 4;
const LINK_SUPPORT: u32 = 5;
const SYMLINK_SUPPORT: u32 = 6;
const NAMED_ATTR: u32 = 7;
const FSID: u32 = 8;
const UNIQUE_HANDLES: u32 = 9;
const LEASE_TIME: u32 = 10;
const RDATTR_ERROR: u32 = 11;
const CANSETTIME: u32 = 15;
const CASE_INSENSITIVE: u32 = 16;
const CASE_PRESERVING: u32 = 17;
const CHOWN_RESTRICTED: u32 = 18;
const FILEHANDLE: u32 = 19;
const FILEID: u32 = 20;
const HOMOGENEOUS: u32 = 26;
const MAXFILESIZE: u32 = 27;
const MAXLINK: u32 = 28;
const MAXNAME: u32 = 29;
const MAXREAD: u32 = 30;
const MAXWRITE: u32 = 31;
const MODE: u32 = 33;
const NO_TRUNC: u32 = 34;
const NUMLINKS: u32 = 35;
const OWNER: u32 = 36;
const OWNER_GROUP: u32 = 37;
const RAWDEV: u32 = 41;
const SPACE_AVAIL: u32 = 42;
const SPACE_FREE: u32 = 43;
const SPACE_TOTAL: u32 = 44;
const SPACE_USED: u32 = 45;
const TIME_ACCESS: u32 = 47;
const TIME_ACCESS_SET: u32 = 48;
const TIME_DELTA: u32 = 51;
const TIME_METADATA: u32 = 52;
const TIME_MODIFY: u32 = 53;
const TIME_MODIFY_SET: u32 = 54;
const MOUNTED_ON_FILEID: u32 = 55;
const SUPPATTR_EXCLCREAT: u32 = 75;

const READABLE: [u32; 40] = [
    SUPPORTED_ATTRS,
    TYPE,
    FH_EXPIRE_TYPE,
    CHANGE,
    SIZE,
    LINK_SUPPORT,
    SYMLINK_SUPPORT,
    NAMED_ATTR,
    FSID,
    UNIQUE_HANDLES,
    LEASE_TIME,
    RDATTR_ERROR,
    CANSETTIME,
    CASE_INSENSITIVE,
    CASE_PRESERVING,
    CHOWN_RESTRICTED,
    FILEHANDLE,
    FILEID,
    HOMOGENEOUS,
    MAXFILESIZE,
    MAXLINK,
    MAXNAME,
    MAXREAD,
    MAXWRITE,
    MODE,
    NO_TRUNC,
    NUMLINKS,
    OWNER,
    OWNER_GROUP,
    RAWDEV,
    SPACE_AVAIL,
    SPACE_FREE,
    SPACE_TOTAL,
    SPACE_USED,
    TIME_ACCESS,
    TIME_DELTA,
    TIME_METADATA,
    TIME_MODIFY,
    MOUNTED_ON_FILEID,
    SUPPATTR_EXCLCREAT,
];
const SETTABLE: [u32; 6] = [
    SIZE,
    MODE,
    OWNER,
    OWNER_GROUP,
    TIME_ACCESS_SET,
    TIME_MODIFY_SET,
];

/// Words of a bitmap that have a meaning here; further ones are read and dropped.
const WORDS: usize = 3;
const MOST_WORDS: usize = 32;
const LONGEST_VALUES: usize = 1 << 16;
const LONGEST_OWNER: usize = 1024;

/// `bitmap4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bitmap([u32; WORDS]);

impl Bitmap {
    const fn of(numbers: &[u32]) -> Bitmap {
        let mut words = [0; WORDS];
        let mut at = 0;
        while at < numbers.len() {
            words[(numbers[at] / 32) as usize] |= 1 << (numbers[at] % 32);
            at += 1;
        }
        Bitmap(words)
    }

    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Bitmap, Malformed> {
        let mut bitmap = Bitmap::default();
        for word in 0..decoder.count(MOST_WORDS)? {
            let bits = decoder.u32()?;
            if let Some(place) = bitmap.0.get_mut(word) {
                *place = bits;
            }
        }
        Ok(bitmap)
    }

    pub fn encode(&self, out: &mut Encoder) {
        let used = WORDS - self.0.iter().rev().take_while(|word| **word == 0).count();
        out.u32(used as u32);
        for word in &self.0[..used] {
            out.u32(*word);
        }
    }

    pub fn has(&self, number: u32) -> bool {
        self.0[(number / 32) as usize] & (1 << (number % 32)) != 0
    }

    fn insert(&mut self, number: u32) {
        self.0[(number / 32) as usize] |= 1 << (number % 32);
    }

    fn and(&self, other: &Bitmap) -> Bitmap {
        Bitmap(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    fn within(&self, other: &Bitmap) -> bool {
        self.and(other) == *self
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    fn numbers(self) -> impl Iterator<Item = u32> {
        (0..(WORDS as u32 * 32)).filter(move |number| self.has(*number))
    }

    /// Whether answering needs the file's own attributes, beyond its kind and number.
    pub fn needs_stat(&self) -> bool {
        const CHEAP: Bitmap = Bitmap::of(&[
            TYPE,
            FSID,
            FILEID,
            RDATTR_ERROR,
            MOUNTED_ON_FILEID,
            FILEHANDLE,
        ]);
        !self.within(&CHEAP)
    }

    pub fn wants_handle(&self) -> bool {
        self.has(FILEHANDLE)
    }

    pub fn wants_error(&self) -> bool {
        self.has(RDATTR_ERROR)
    }
}

const SUPPORTED: Bitmap = {
    let readable = Bitmap::of(&READABLE);
    let settable = Bitmap::of(&SETTABLE);
    Bitmap([
        readable.0[0] | settable.0[0],
        readable.0[1] | settable.0[1],
        readable.0[2] | settable.0[2],
    ])
};
const READ_ONLY_TO_ASK: Bitmap = Bitmap::of(&[TIME_ACCESS_SET, TIME_MODIFY_SET]);
/// The two times hold the verifier of an exclusive create.
const EXCLUSIVE_CREATE: Bitmap = Bitmap::of(&[MODE, OWNER, OWNER_GROUP, SIZE]);

/// Of which attributes are told.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub stat: &'a Stat,
    pub handle: &'a [u8],
    /// Names the file system.
    pub fsid: u64,
    /// The number of the directory that this root covers; else the file's own.
    pub mounted_on: u64,
    /// Bytes that the file system holds.
    pub used: u64,
}

/// How often a file changed, as far as the time of its last change tells.
pub fn change(stat: &Stat) -> u64 {
    let time = stat.ctime();
    (time.seconds as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(u64::from(time.nanoseconds))
}

fn kind(mode: u32) -> u32 {
    match mode & libc::S_IFMT {
        libc::S_IFREG => 1,
        libc::S_IFDIR => 2,
        libc::S_IFBLK => 3,
        libc::S_IFCHR => 4,
        libc::S_IFLNK => 5,
        libc::S_IFSOCK => 6,
        _ => 7,
    }
}

/// The mode bits of a directory record's kind (`d_type`), of which only the kind counts.
pub fn mode_of_kind(kind: u8) -> u32 {
    u32::from(kind) << 12
}

fn time(out: &mut Encoder, time: Time) {
    out.i64(time.seconds);
    out.u32(time.nanoseconds);
}

/// EFS shows every client 8 EiB.
const TOTAL_SPACE: u64 = ((1 << 43) - 1) << 20;

/// Encodes those of `wanted` that there are.
pub fn encode(out: &mut Encoder, wanted: &Bitmap, subject: &Subject<'_>) {
    let told = wanted.and(&SUPPORTED);
    let told = Bitmap(std::array::from_fn(|word| {
        told.0[word] & !READ_ONLY_TO_ASK.0[word]
    }));
    told.encode(out);
    let start = out.len();
    out.u32(0);
    for number in told.numbers() {
        value(out, number, subject);
    }
    let len = out.len() - start - 4;
    out.put_u32(start, len as u32);
}

/// The error in place of attributes that could not be had (`rdattr_error`).
pub fn encode_error(out: &mut Encoder, status: Status) {
    let told = Bitmap::of(&[RDATTR_ERROR]);
    told.encode(out);
    out.u32(4);
    out.u32(status.0);
}

/// No attributes at all.
pub fn encode_nothing(out: &mut Encoder) {
    out.u32(0);
    out.u32(0);
}

fn value(out: &mut Encoder, number: u32, subject: &Subject<'_>) {
    let stat = subject.stat;
    match number {
        SUPPORTED_ATTRS => SUPPORTED.encode(out),
        TYPE => out.u32(kind(stat.mode())),
        FH_EXPIRE_TYPE | RDATTR_ERROR => out.u32(0),
        CHANGE => out.u64(change(stat)),
        SIZE => out.u64(stat.size()),
        LINK_SUPPORT | SYMLINK_SUPPORT | UNIQUE_HANDLES | CANSETTIME | CASE_PRESERVING
        | CHOWN_RESTRICTED | HOMOGENEOUS | NO_TRUNC => out.bool(true),
        NAMED_ATTR | CASE_INSENSITIVE => out.bool(false),
        FSID => {
            out.u64(subject.fsid);
            out.u64(0);
        }
        LEASE_TIME => out.u32(LEASE_SECONDS),
        FILEHANDLE => out.opaque(subject.handle),
        FILEID => out.u64(stat.ino()),
        MAXFILESIZE => out.u64(LARGEST_FILE),
        MAXLINK => out.u32(MOST_LINKS),
        MAXNAME => out.u32(255),
        MAXREAD | MAXWRITE => out.u64(MAX_IO as u64),
        MODE => out.u32(stat.mode() & 0o7777),
        NUMLINKS => out.u32(stat.nlink()),
        OWNER => out.opaque(stat.uid().to_string().as_bytes()),
        OWNER_GROUP => out.opaque(stat.gid().to_string().as_bytes()),
        RAWDEV => out.u64(0),
        SPACE_AVAIL | SPACE_FREE => out.u64(TOTAL_SPACE.saturating_sub(subject.used)),
        SPACE_TOTAL => out.u64(TOTAL_SPACE),
        SPACE_USED => out.u64(stat.blocks().saturating_mul(512)),
        TIME_ACCESS => time(out, stat.atime()),
        TIME_DELTA => time(
            out,
            Time {
                seconds: 0,
                nanoseconds: 1,
            },
        ),
        TIME_METADATA => time(out, stat.ctime()),
        TIME_MODIFY => time(out, stat.mtime()),
        MOUNTED_ON_FILEID => out.u64(subject.mounted_on),
        SUPPATTR_EXCLCREAT => EXCLUSIVE_CREATE.encode(out),
        _ => {}
    }
}

/// What VERIFY and NVERIFY ask: whether the values are the file's.
pub fn compare(mask: &Bitmap, values: &[u8], subject: &Subject<'_>) -> Result<bool, Status> {
    if mask.has(RDATTR_ERROR) || !mask.and(&READ_ONLY_TO_ASK).is_empty() {
        return Err(Status::INVAL);
    }
    if !mask.within(&SUPPORTED) {
        return Err(Status::ATTRNOTSUPP);
    }
    let mut own = Encoder::default();
    for number in mask.numbers() {
        value(&mut own, number, subject);
    }
    Ok(own.into_bytes() == values)
}

/// What a client wants attributes to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewAttributes {
    pub size: Option<u64>,
    pub mode: Option<u32>,
    pub owner: Option<u32>,
    pub group: Option<u32>,
    pub atime: Option<NewTime>,
    pub mtime: Option<NewTime>,
    /// Those that were asked for and exist.
    pub asked: Bitmap,
    /// Why it cannot be done, known before anything is.
    pub refused: Option<Status>,
}

impl NewAttributes {
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<NewAttributes, Malformed> {
        let mask = Bitmap::decode(decoder)?;
        let mut values = Decoder::new(decoder.opaque(LONGEST_VALUES)?);
        let mut new = NewAttributes {
            asked: mask,
            ..NewAttributes::default()
        };
        let settable = Bitmap::of(&SETTABLE);
        if !mask.within(&SUPPORTED) {
            new.refused = Some(Status::ATTRNOTSUPP);
            return Ok(new);
        }
        if !mask.within(&settable) {
            new.refused = Some(Status::INVAL);
            return Ok(new);
        }
        if let Err(status) = new.take(mask, &mut values) {
            new.refused = Some(status);
        } else if !values.rest().is_empty() {
            new.refused = Some(Status::BADXDR);
        }
        Ok(new)
    }

    fn take(&mut self, mask: Bitmap, values: &mut Decoder<'_>) -> Result<(), Status> {
        for number in mask.numbers() {
            match number {
                SIZE => self.size = Some(values.u64()?),
                MODE => {
                    let mode = values.u32()?;
                    if mode & !0o7777 != 0 {
                        return Err(Status::INVAL);
                    }
                    self.mode = Some(mode);
                }
                OWNER => self.owner = Some(id(values.opaque(LONGEST_OWNER)?)?),
                OWNER_GROUP => self.group = Some(id(values.opaque(LONGEST_OWNER)?)?),
                TIME_ACCESS_SET => self.atime = Some(new_time(values)?),
                TIME_MODIFY_SET => self.mtime = Some(new_time(values)?),
                _ => return Err(Status::ATTRNOTSUPP),
            }
        }
        Ok(())
    }

    /// Refuses what an exclusive create cannot set, because the verifier lies there.
    pub fn for_exclusive_create(&self) -> Result<(), Status> {
        if self.asked.within(&EXCLUSIVE_CREATE) {
            Ok(())
        } else {
            Err(Status::INVAL)
        }
    }

    /// Those of the asked that were set, when all were.
    pub fn all_set(&self) -> Bitmap {
        self.asked
    }

    /// The attributes whose place the verifier of an exclusive create takes; the client sets them next.
    pub fn with_times(mut bitmap: Bitmap) -> Bitmap {
        bitmap.insert(TIME_ACCESS_SET);
        bitmap.insert(TIME_MODIFY_SET);
        bitmap
    }

    pub fn size_set() -> Bitmap {
        Bitmap::of(&[SIZE])
    }
}

/// EFS looks at the numbers alone: no names of users or groups.
fn id(text: &[u8]) -> Result<u32, Status> {
    let text = std::str::from_utf8(text).map_err(|_| Status::INVAL)?;
    if text.is_empty() {
        return Err(Status::INVAL);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        // `u32::MAX` means "as it is" to the kernel.
        Ok(id) if plain && id != u32::MAX => Ok(id),
        _ => Err(Status::BADOWNER),
    }
}

fn new_time(values: &mut Decoder<'_>) -> Result<NewTime, Status> {
    match values.u32()? {
        0 => Ok(NewTime::Now),
        1 => {
            let seconds = values.i64()?;
            let nanoseconds = values.u32()?;
            if nanoseconds >= 1_000_000_000 {
                return Err(Status::INVAL);
            }
            Ok(NewTime::At(Time {
                seconds,
                nanoseconds,
            }))
        }
        _ => Err(Status::BADXDR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(id(b"1000"), Ok(1000));
        for name in [
            &b"root"[..],
            b"root@localdomain",
            b"-1",
            b"+7",
            b"4294967295",
            b"99999999999",
        ] {
            assert_eq!(id(name), Err(Status::BADOWNER));
        }
        assert_eq!(id(b""), Err(Status::INVAL));
        assert_eq!(id(&[0xff]), Err(Status::INVAL));
    }

    #[test]
    fn every_attribute_has_its_value() {
        let here = std::fs::File::open("/").expect("/");
        let stat = crate::sys::file::stat_of(std::os::fd::AsRawFd::as_raw_fd(&here)).expect("stat");
        let subject = Subject {
            stat: &stat,
            handle: b"handle",
            fsid: 7,
            mounted_on: 1,
            used: 0,
        };
        for number in READABLE {
            let mut out = Encoder::default();
            value(&mut out, number, &subject);
            assert!(out.len() > 0, "attribute {number}");
            let wanted = Bitmap::of(&[number]);
            if number != RDATTR_ERROR {
                assert_eq!(compare(&wanted, &out.into_bytes(), &subject), Ok(true));
            }
        }
        let acl = Bitmap::of(&[12]);
        assert_eq!(compare(&acl, &[], &subject), Err(Status::ATTRNOTSUPP));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NewAttributes::decode(&mut Decoder::new(&bytes));
            let _ = Bitmap::decode(&mut Decoder::new(&bytes));
        }
    }
}
