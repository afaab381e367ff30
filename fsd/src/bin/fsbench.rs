//! The load generator of `bench/files`: one workload in one directory, measured and printed as a line of JSON.
//!
//! `fsbench WORKLOAD DIRECTORY COUNT`. Prints `ready` and begins when a line comes on standard input, so that several
//! of them start together. A native program: the native file system answers faster than an interpreter asks.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SMALL: usize = 4096;
const LARGE: usize = 1 << 20;

/// Where a workload works and how much of it there is; `names` are made before the clock starts.
struct Task {
    directory: PathBuf,
    count: u64,
    names: Vec<PathBuf>,
}

/// What a workload did.
struct Work {
    operations: u64,
    bytes: u64,
}

impl Work {
    fn operations(operations: u64) -> Work {
        Work {
            operations,
            bytes: 0,
        }
    }
}

impl Task {
    fn new(directory: &Path, count: u64, named: bool) -> Task {
        let numbers = if named { 0..count } else { 0..0 };
        let names = numbers
            .map(|number| directory.join(format!("f{number:06}")))
            .collect();
        Task {
            directory: directory.to_owned(),
            count,
            names,
        }
    }

    fn large(&self) -> PathBuf {
        self.directory.join("large")
    }

    fn each_name(&self, mut act: impl FnMut(&Path) -> io::Result<()>) -> io::Result<Work> {
        for name in &self.names {
            act(name)?;
        }
        Ok(Work::operations(self.count))
    }

    /// `count` small blocks at offsets that are the same in every run (xorshift64).
    fn each_block(
        &self,
        file: &File,
        mut act: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<Work> {
        let blocks = file.metadata()?.len() / SMALL as u64;
        let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
        for _ in 0..self.count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            act(state % blocks * SMALL as u64)?;
        }
        Ok(Work {
            operations: self.count,
            bytes: self.count * SMALL as u64,
        })
    }
}

fn create(task: &Task) -> io::Result<Work> {
    let block = [7; SMALL];
    task.each_name(|name| {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(name)?
            .write_all(&block)
    })
}

fn stat(task: &Task) -> io::Result<Work> {
    task.each_name(|name| {
        black_box(fs::metadata(name)?);
        Ok(())
    })
}

fn open_read_close(task: &Task) -> io::Result<Work> {
    let mut block = [0; SMALL];
    task.each_name(|name| File::open(name)?.read_exact(&mut block))
}

fn unlink(task: &Task) -> io::Result<Work> {
    task.each_name(|name| fs::remove_file(name))
}

/// List the directory `count` times; an operation is an entry.
fn readdir(task: &Task) -> io::Result<Work> {
    let mut operations = 0;
    for _ in 0..task.count {
        for entry in fs::read_dir(&task.directory)? {
            black_box(entry?);
            operations += 1;
        }
    }
    Ok(Work::operations(operations))
}

fn sequential_read(task: &Task) -> io::Result<Work> {
    let mut file = File::open(task.large())?;
    let mut block = vec![0; LARGE];
    let mut work = Work::operations(0);
    loop {
        let length = file.read(&mut block)?;
        if length == 0 {
            return Ok(work);
        }
        work.operations += 1;
        work.bytes += length as u64;
    }
}

fn sequential_write(task: &Task) -> io::Result<Work> {
    let mut file = File::create(task.large())?;
    let block = vec![5; LARGE];
    for _ in 0..task.count {
        file.write_all(&block)?;
    }
    Ok(Work {
        operations: task.count,
        bytes: task.count * LARGE as u64,
    })
}

fn synced_write(task: &Task) -> io::Result<Work> {
    let work = sequential_write(task)?;
    File::open(task.large())?.sync_all()?;
    Ok(work)
}

fn random_read(task: &Task) -> io::Result<Work> {
    let file = File::open(task.large())?;
    let mut block = [0; SMALL];
    task.each_block(&file, |at| file.read_exact_at(&mut block, at))
}

fn random_write(task: &Task) -> io::Result<Work> {
    let file = OpenOptions::new().write(true).open(task.large())?;
    let block = [9; SMALL];
    task.each_block(&file, |at| file.write_all_at(&block, at))
}

type Workload = fn(&Task) -> io::Result<Work>;

/// A workload by its name, and whether it goes over the files `f000000…`.
fn workload(name: &str) -> Option<(Workload, bool)> {
    Some(match name {
        "create" => (create, true),
        "stat" => (stat, true),
        "open-read-close" => (open_read_close, true),
        "unlink" => (unlink, true),
        "readdir" => (readdir, false),
        "read" => (sequential_read, false),
        "write" => (sequential_write, false),
        "write-sync" => (synced_write, false),
        "random-read" => (random_read, false),
        "random-write" => (random_write, false),
        _ => return None,
    })
}

fn run(arguments: &[String]) -> Result<String, String> {
    let [name, directory, count] = arguments else {
        return Err("usage: fsbench WORKLOAD DIRECTORY COUNT".to_owned());
    };
    let (work, named) = workload(name).ok_or_else(|| format!("no workload is called {name}"))?;
    let count = count
        .parse()
        .map_err(|_| format!("COUNT is no number: {count}"))?;
    let task = Task::new(Path::new(directory), count, named);
    println!("ready");
    io::stdin()
        .read_line(&mut String::new())
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    let done = work(&task).map_err(|error| format!("{name} in {directory}: {error}"))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(format!(
        r#"{{"operations":{},"bytes":{},"seconds":{seconds}}}"#,
        done.operations, done.bytes
    ))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("fsbench: {error}");
            std::process::exit(1);
        }
    }
}
