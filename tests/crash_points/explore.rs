//! From one boundary of a script on: every fault there, what a crash leaves, the recovery from it,
//! and a crash at each boundary of that recovery.
//!
//! Images of disks are kept, not disks: what led to an image is not done again.

use std::sync::Arc;

use indelible::journal::JournalError;
use indelible::sim::disk::{Image, SimDisk};
use indelible::types::record::Recovered;

use super::model::Log;
use super::script::{Life, disk_of, open, reopen};
use super::survival::{SURVIVALS, Survival, cut};
use super::tamper::{Fault, Plan};

/// What there was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Crashes from which the directory was opened.
    pub crashes: u64,
    /// The same with a write or a sync that had failed before.
    pub failures: u64,
    /// The same on a full disk.
    pub full: u64,
    /// Crashes during the opening that followed one of the others.
    pub again: u64,
    /// Disks that were full, and healed without an opening.
    pub healed: u64,
    /// Boundaries at which an operation cannot fail: the file to be removed is not there.
    pub cannot_fail: u64,
    /// Operations that failed and stopped the journal or its opening.
    pub failed: u64,
}

impl Counts {
    /// States that were opened and compared.
    pub fn states(&self) -> u64 {
        self.crashes + self.failures + self.full + self.again + self.healed
    }

    pub fn add(&mut self, more: Self) {
        self.crashes += more.crashes;
        self.failures += more.failures;
        self.full += more.full;
        self.again += more.again;
        self.healed += more.healed;
        self.cannot_fail += more.cannot_fail;
        self.failed += more.failed;
    }
}

/// One boundary of the script for so many voters.
pub struct Point {
    pub voters: u64,
    pub boundary: u64,
    pub counts: Counts,
    /// What is being tried, for whoever reads of a panic.
    pub doing: String,
}

impl Drop for Point {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("voters {} boundary {}: {}", self.voters, self.boundary, self.doing);
        }
    }
}

impl Point {
    pub fn new(voters: u64, boundary: u64) -> Self {
        let (counts, doing) = (Counts::default(), String::new());
        Self { voters, boundary, counts, doing }
    }

    /// The power goes at the boundary.
    pub fn crash(&mut self) {
        let mut seen = Vec::new();
        for survival in SURVIVALS {
            self.doing = format!("power goes, {survival:?} survives");
            let disk = SimDisk::new();
            let mut life = Life::new(Plan::power_cut(&disk, self.boundary), self.voters);
            let result = life.run();
            assert!(disk.is_stopped(), "the script ends before the boundary: {result:?}");
            let log = std::mem::take(&mut life.log);
            drop(life);
            cut(&disk, survival);
            if let Some(image) = new_image(&disk, &mut seen) {
                self.counts.crashes += 1;
                self.recover(&image, &log);
            }
        }
    }

    /// The operation at the boundary fails.
    pub fn failure(&mut self, fault: Fault) {
        let Some((disk, log)) = self.fail(fault) else {
            self.counts.cannot_fail += u64::from(fault == Fault::Fail);
            return;
        };
        self.counts.failed += 1;
        self.doing = format!("{fault:?}, then the process dies");
        self.recover_cached(fault, &disk, &log);
        let mut seen = Vec::new();
        for survival in SURVIVALS {
            self.doing = format!("{fault:?}, then power goes, {survival:?} survives");
            let (disk, log) = self.fail(fault).expect("it failed before");
            cut(&disk, survival);
            if let Some(image) = new_image(&disk, &mut seen) {
                self.counts.failures += 1;
                self.recover(&image, &log);
            }
        }
    }

    /// Runs the script into a failure; `None` where there is nothing that can fail.
    fn fail(&self, fault: Fault) -> Option<(SimDisk, Log)> {
        let disk = SimDisk::new();
        let plan = Plan::new(&disk, self.boundary, Some(fault));
        let mut life = Life::new(Arc::clone(&plan), self.voters);
        let result = life.run();
        if !plan.has_happened() {
            assert!(result.is_ok(), "without a fault: {result:?}");
            return None;
        }
        // The process can die before it is told. Then there is nothing that it must not do.
        let Err(err) = result else { return Some((disk, std::mem::take(&mut life.log))) };
        if life.is_open() {
            assert!(matches!(err, JournalError::Poisoned { .. }), "not for good: {err}");
        }
        // A write that was handed out before the journal was told of the failure may be done.
        let before = disk.take_after_failure();
        assert!(life.is_open() || before.is_empty(), "an opening went on behind {err}: {before:?}");
        let run_the_rest = self.boundary.is_multiple_of(2);
        life.check_poisoned(run_the_rest);
        assert!(run_the_rest || disk.take_after_failure().is_empty(), "changed after a failure");
        Some((disk, std::mem::take(&mut life.log)))
    }

    /// From the boundary on the disk is full.
    pub fn no_space(&mut self) {
        self.doing = "no space, then there is".into();
        let (disk, mut life) = self.fill(true);
        disk.set_room(None);
        if life.is_open() {
            life.heal().expect("a disk that was full is none that failed");
            self.counts.healed += 1;
        }
        life.die();
        let log = std::mem::take(&mut life.log);
        cut(&disk, Survival::Nothing);
        reopen(&Plan::nothing(&disk), self.voters, &log).unwrap();
        let mut seen = Vec::new();
        for survival in SURVIVALS {
            self.doing = format!("no space, then power goes, {survival:?} survives");
            let (disk, mut life) = self.fill(false);
            let log = std::mem::take(&mut life.log);
            drop(life);
            cut(&disk, survival);
            if let Some(image) = new_image(&disk, &mut seen) {
                self.counts.full += 1;
                self.open_full(&image, &log);
                self.recover(&image, &log);
            }
        }
    }

    fn fill(&self, heals: bool) -> (SimDisk, Life) {
        let disk = SimDisk::new();
        let plan = Plan::new(&disk, self.boundary, Some(Fault::NoSpace));
        let mut life = Life::new(plan, self.voters);
        life.heals = heals;
        if let Err(err) = life.run() {
            assert!(!life.is_open(), "a full disk stopped a journal: {err}");
            assert!(is_full(&err), "not for want of space: {err}");
        }
        (disk, life)
    }

    /// An opening for which there is no space changes nothing that matters.
    fn open_full(&self, image: &Image, log: &Log) {
        let disk = disk_of(image);
        disk.set_room(Some(0));
        if let Err(err) = reopen(&Plan::nothing(&disk), self.voters, log) {
            assert!(is_full(&err), "not for want of space: {err}");
        }
        disk.process_crash();
        disk.set_room(None);
        reopen(&Plan::nothing(&disk), self.voters, log).unwrap();
    }

    /// Opens what a crash left; then the same with another crash at each boundary of the opening.
    fn recover(&mut self, image: &Image, log: &Log) {
        let disk = disk_of(image);
        let first = reopen(&Plan::nothing(&disk), self.voters, log).unwrap();
        let boundaries = disk.boundaries();
        let case = std::mem::take(&mut self.doing);
        for boundary in 0..=boundaries {
            let mut seen = Vec::new();
            for survival in SURVIVALS {
                let disk = disk_of(image);
                disk.stop_at(boundary);
                let opened = open(&Plan::nothing(&disk), self.voters);
                assert_eq!(opened.is_ok(), boundary == boundaries);
                drop(opened);
                cut(&disk, survival);
                if new_image(&disk, &mut seen).is_some() {
                    self.doing = format!("{case}, again at {boundary}, {survival:?} survives");
                    self.counts.again += 1;
                    self.compare(&disk, log, &first);
                }
            }
        }
        self.doing = case;
    }

    /// The same where what was written is still read back, though it may not be durable.
    fn recover_cached(&mut self, fault: Fault, disk: &SimDisk, log: &Log) {
        disk.process_crash();
        let before = disk.boundaries();
        let first = reopen(&Plan::nothing(disk), self.voters, log).unwrap();
        let boundaries = disk.boundaries() - before;
        cut(disk, Survival::Nothing);
        self.counts.failures += 1;
        self.compare(disk, log, &first);
        for boundary in 0..boundaries {
            let mut seen = Vec::new();
            for survival in [Survival::Nothing, Survival::Everything, Survival::Coins(1)] {
                let (disk, log) = self.fail(fault).expect("it failed before");
                disk.process_crash();
                disk.stop_at(before + boundary);
                assert!(open(&Plan::nothing(&disk), self.voters).is_err());
                cut(&disk, survival);
                if new_image(&disk, &mut seen).is_some() {
                    self.counts.again += 1;
                    reopen(&Plan::nothing(&disk), self.voters, &log).unwrap();
                }
            }
        }
    }

    fn compare(&self, disk: &SimDisk, log: &Log, first: &Recovered) {
        let found = reopen(&Plan::nothing(disk), self.voters, log).unwrap();
        assert_eq!(found, *first, "an opening that was cut short changed what there is");
    }
}

fn is_full(err: &JournalError) -> bool {
    matches!(err, JournalError::Io { source, .. }
        if source.kind() == std::io::ErrorKind::StorageFull)
}

/// What is on the medium, where none of those seen is the same.
fn new_image(disk: &SimDisk, seen: &mut Vec<Image>) -> Option<Image> {
    let image = disk.image();
    if seen.contains(&image) {
        return None;
    }
    seen.push(image.clone());
    Some(image)
}
