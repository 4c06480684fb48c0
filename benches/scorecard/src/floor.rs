//! What the disk and the network can do at best, without any ledger.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::report::{Latencies, Result};

/// A block of a file system, and of the journal.
const BLOCK: usize = 4096;
/// How much of each file is written in advance, and then over and over.
const FILE_BYTES: usize = 16 * 1024 * 1024;
/// A value of 256 bytes with a key of 16 and a header of 16.
const RECORD_BYTES: usize = 288;

/// A file whose blocks were all written before, so that a sync has no metadata to write.
#[derive(Debug)]
pub struct PreWritten {
    file: File,
    at: usize,
    block: Vec<u8>,
}

impl PreWritten {
    /// Makes one.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let chunk = vec![0x5a; 1024 * 1024];
        for index in 0..FILE_BYTES / chunk.len() {
            file.write_all_at(&chunk, (index * chunk.len()) as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0, block: Vec::new() })
    }

    /// Writes so many bytes, rounded up to blocks, at the next place, and syncs them.
    pub fn write(&mut self, bytes: usize) -> std::io::Result<()> {
        let length = bytes.next_multiple_of(BLOCK);
        if self.at + length > FILE_BYTES {
            self.at = 0;
        }
        self.block.resize(length, 0);
        self.block[0] = self.block[0].wrapping_add(1); // Never the same bytes again.
        self.file.write_all_at(&self.block, self.at as u64)?;
        self.at += length;
        self.file.sync_data()
    }

    /// Writes and syncs one block after the other for a while.
    pub fn run(&mut self, slice: Duration, latencies: &mut Latencies) -> Result<()> {
        repeat(slice, latencies, || Ok(self.write(BLOCK)?))
    }
}

/// Three pre-written files, each with a thread that syncs it; a group is durable with two of three.
#[derive(Debug)]
pub struct ThreeSyncs {
    writers: Vec<Writer>,
    synced: Receiver<std::io::Result<u64>>,
    group: u64,
}

/// A thread, and where it takes the number and the length of each group from.
type Writer = (Sender<(u64, usize)>, JoinHandle<()>);

impl ThreeSyncs {
    /// Makes the files, and begins the threads.
    pub fn create(directory: &Path) -> Result<Self> {
        let (done, synced) = mpsc::channel();
        let mut writers = Vec::new();
        for index in 0..3 {
            let mut file = PreWritten::create(&directory.join(format!("floor{index}")))?;
            let (sender, receiver) = mpsc::channel::<(u64, usize)>();
            let done = done.clone();
            let writer = thread::spawn(move || {
                for (group, bytes) in receiver {
                    if done.send(file.write(bytes).map(|()| group)).is_err() {
                        return;
                    }
                }
            });
            writers.push((sender, writer));
        }
        Ok(Self { writers, synced, group: 0 })
    }

    /// Writes a group of so many bytes to all three, and waits for two. The third may still be at
    /// it when the next group is written, as a slow follower may.
    pub fn write(&mut self, bytes: usize) -> Result<()> {
        self.group += 1;
        for (sender, _) in &self.writers {
            sender.send((self.group, bytes))?;
        }
        let mut votes = 0;
        while votes < 2 {
            votes += u32::from(self.synced.recv()?? == self.group);
        }
        Ok(())
    }

    /// Writes one block after the other for a while.
    pub fn run(&mut self, slice: Duration, latencies: &mut Latencies) -> Result<()> {
        repeat(slice, latencies, || self.write(BLOCK))
    }

    /// Writes groups of so many records for a while. Returns records a second.
    pub fn throughput(&mut self, slice: Duration, records: usize) -> Result<f64> {
        let began = Instant::now();
        let mut count = 0;
        while began.elapsed() < slice {
            self.write(records * RECORD_BYTES)?;
            count += records;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for ThreeSyncs {
    fn drop(&mut self) {
        for (sender, writer) in self.writers.drain(..) {
            drop(sender);
            let _ = writer.join();
        }
    }
}

/// A connection over loopback, whose other end sends back what it gets. Both ends block.
#[derive(Debug)]
pub struct RoundTrip(TcpStream);

impl RoundTrip {
    /// Connects.
    pub fn connect() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut other, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        other.set_nodelay(true)?;
        // It ends with the connection.
        thread::spawn(move || {
            let mut buffer = [0; RECORD_BYTES];
            while other.read_exact(&mut buffer).and_then(|()| other.write_all(&buffer)).is_ok() {}
        });
        Ok(Self(stream))
    }

    /// Sends a record there and back, again and again for a while.
    pub fn run(&mut self, slice: Duration, latencies: &mut Latencies) -> Result<()> {
        let mut buffer = [0; RECORD_BYTES];
        repeat(slice, latencies, || {
            self.0.write_all(&buffer)?;
            Ok(self.0.read_exact(&mut buffer)?)
        })
    }
}

/// Does something again and again for a while, and measures each time.
pub fn repeat(
    slice: Duration,
    latencies: &mut Latencies,
    mut what: impl FnMut() -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    let mut at = began;
    while at - began < slice {
        what()?;
        let now = Instant::now();
        latencies.push(now - at);
        at = now;
    }
    Ok(())
}
