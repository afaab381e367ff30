//! Bytes and operations, per file system and per connection, by class: what CloudWatch's `AWS/EFS` metrics are made of.
//!
//! Counting takes three relaxed atomic additions and never blocks; a reader may see an operation whose bytes another
//! class's counters do not show yet, never a torn number.
//! <https://docs.aws.amazon.com/efs/latest/ug/efs-metrics.html>

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What an operation did, as EFS tells operations apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// File data read: `DataReadIOBytes`.
    Read,
    /// File data written: `DataWriteIOBytes`.
    Write,
    /// Names, attributes and directories read: `MetadataReadIOBytes`.
    MetadataRead,
    /// Names, attributes and directories changed: `MetadataWriteIOBytes`.
    MetadataWrite,
}

impl Class {
    pub const ALL: [Class; 4] = [
        Class::Read,
        Class::Write,
        Class::MetadataRead,
        Class::MetadataWrite,
    ];

    /// Changes the file system, so it counts against the limit of write operations.
    pub fn writes(self) -> bool {
        matches!(self, Class::Write | Class::MetadataWrite)
    }
}

/// The smallest size an operation is metered at, in bytes.
pub const SMALLEST_METERED: u64 = 4096;

/// What an operation costs in thirds of a metered byte: data read counts a third, everything else in full, and nothing
/// less than 4 KiB. <https://docs.aws.amazon.com/efs/latest/ug/performance.html>
pub fn metered_thirds(class: Class, bytes: u64) -> u64 {
    let size = bytes.max(SMALLEST_METERED);
    if class == Class::Read {
        size
    } else {
        size.saturating_mul(3)
    }
}

/// Totals of one class since the meter began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Bytes of the operations, each at least 4 KiB for metadata and as transferred for data.
    pub bytes: u64,
    /// `SampleCount`.
    pub operations: u64,
}

/// A reading of a meter. Totals only grow, so a rate is the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub read: Count,
    pub write: Count,
    pub metadata_read: Count,
    pub metadata_write: Count,
    /// `MeteredIOBytes`: what counts against the permitted throughput.
    pub metered_bytes: u64,
}

impl Reading {
    /// `TotalIOBytes`: data and metadata together.
    pub fn total(&self) -> Count {
        [
            self.read,
            self.write,
            self.metadata_read,
            self.metadata_write,
        ]
        .iter()
        .fold(Count::default(), |sum, count| Count {
            bytes: sum.bytes + count.bytes,
            operations: sum.operations + count.operations,
        })
    }

    /// `MetadataIOBytes`.
    pub fn metadata(&self) -> Count {
        Count {
            bytes: self.metadata_read.bytes + self.metadata_write.bytes,
            operations: self.metadata_read.operations + self.metadata_write.operations,
        }
    }
}

/// One class's counters, on a cache line of their own: every worker thread adds to them.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    bytes: AtomicU64,
    operations: AtomicU64,
    metered_thirds: AtomicU64,
}

/// Counters by class. Shared by reference between threads.
#[derive(Debug, Default)]
pub struct Meter {
    cells: [Cell; 4],
}

impl Meter {
    pub fn new() -> Self {
        Meter::default()
    }

    /// Count one operation. `bytes` is what was transferred; a metadata operation has no size of its own and is given 0.
    pub fn record(&self, class: Class, bytes: u64) {
        let cell = &self.cells[class as usize];
        let sized = matches!(class, Class::Read | Class::Write);
        cell.bytes.fetch_add(
            if sized {
                bytes
            } else {
                bytes.max(SMALLEST_METERED)
            },
            Relaxed,
        );
        cell.operations.fetch_add(1, Relaxed);
        cell.metered_thirds
            .fetch_add(metered_thirds(class, bytes), Relaxed);
    }

    pub fn read(&self) -> Reading {
        let count = |class: Class| {
            let cell = &self.cells[class as usize];
            Count {
                bytes: cell.bytes.load(Relaxed),
                operations: cell.operations.load(Relaxed),
            }
        };
        Reading {
            read: count(Class::Read),
            write: count(Class::Write),
            metadata_read: count(Class::MetadataRead),
            metadata_write: count(Class::MetadataWrite),
            metered_bytes: self
                .cells
                .iter()
                .map(|cell| cell.metered_thirds.load(Relaxed))
                .sum::<u64>()
                / 3,
        }
    }
}
