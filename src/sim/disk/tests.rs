//! Each fault by itself: that it acts, on what, and that it is counted.

use std::io;
use std::ops::Range;

use super::*;
use crate::journal::disk::{Disk, File};

/// A disk with the durable file `a`, which has `length` bytes 1, and that file.
fn disk_with(length: usize) -> (SimDisk, Mount, SimFile) {
    let disk = SimDisk::new();
    disk.plant("a", &vec![1; length]);
    let mount = disk.mount();
    let file = mount.open("a").unwrap();
    (disk, mount, file)
}

fn read(file: &SimFile, range: Range<usize>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; range.len()];
    let count = file.read_at(range.start as u64, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn fired(disk: &SimDisk, fault: DiskFault) -> u64 {
    disk.fired().of(fault)
}

fn nothing(_: &Piece<'_>) -> bool {
    false
}

fn everything(_: &Piece<'_>) -> bool {
    true
}

#[test]
fn a_sync_makes_what_any_handle_wrote_durable() {
    let (disk, mount, file) = disk_with(10);
    mount.open("a").unwrap().write_at(5, &[2; 10]).unwrap();
    assert_eq!(disk.unsynced()[0].range, 5..15);
    file.sync().unwrap();
    assert!(disk.unsynced().is_empty());
    disk.power_cut(&mut nothing);
    assert_eq!(disk.durable("a").unwrap(), [[1; 5].as_slice(), &[2; 10]].concat());
    assert_eq!(disk.cached("a"), disk.durable("a"));
    assert_eq!(fired(&disk, DiskFault::PowerCut), 1);
    assert_eq!(disk.fired().total(), 1);
}

#[test]
fn pieces_of_unsynced_writes_survive_as_chosen() {
    let (disk, _, file) = disk_with(2048);
    file.write_at(0, &[2; 1024]).unwrap();
    file.write_at(1024, &[3; 1024]).unwrap();
    disk.power_cut(&mut |piece| piece.kind == PieceKind::Bytes(512..1024) || piece.number == 1);
    let expected = [[1; 512].as_slice(), &[2; 512], &[3; 1024]].concat();
    assert_eq!(disk.durable("a").unwrap(), expected);
    assert_eq!(fired(&disk, DiskFault::TornWrite), 1);
    assert_eq!(fired(&disk, DiskFault::UnsyncedWriteLost), 0);
}

#[test]
fn a_later_write_survives_an_earlier_one() {
    let (disk, _, file) = disk_with(1024);
    file.write_at(0, &[2; 512]).unwrap();
    file.write_at(0, &[3; 256]).unwrap();
    disk.power_cut(&mut |piece| piece.number == 1);
    assert_eq!(disk.durable("a").unwrap()[..512], [[3; 256], [1; 256]].concat());
    assert_eq!(fired(&disk, DiskFault::UnsyncedWriteLost), 1);
    assert_eq!(fired(&disk, DiskFault::ReorderedWrites), 1);
}

#[test]
fn a_file_grows_without_its_bytes_or_not_at_all() {
    let (disk, _, file) = disk_with(512);
    file.write_at(512, &[2; 1024]).unwrap();
    disk.power_cut(&mut |piece| piece.kind == PieceKind::Length(1536));
    assert_eq!(disk.durable("a").unwrap(), [[1; 512].as_slice(), &[0; 1024]].concat());
    assert_eq!(fired(&disk, DiskFault::SizeBeforeData), 1);
    let (disk, _, file) = disk_with(512);
    file.write_at(256, &[2; 1024]).unwrap();
    disk.power_cut(&mut |piece| !matches!(piece.kind, PieceKind::Length(_)));
    assert_eq!(disk.durable("a").unwrap(), [[1; 256], [2; 256]].concat());
    assert_eq!(fired(&disk, DiskFault::TornWrite), 1);
    assert_eq!(fired(&disk, DiskFault::SizeBeforeData), 0);
}

#[test]
fn a_change_of_the_length_waits_for_a_sync() {
    let (disk, mount, file) = disk_with(5000);
    file.set_len(100).unwrap();
    assert_eq!(file.len().unwrap(), 100);
    disk.power_cut(&mut nothing);
    assert_eq!(disk.durable_length("a"), Some(5000));
    assert!(mount.open("a").is_err() && !mount.is_alive());
    let file = disk.mount().open("a").unwrap();
    file.set_len(100).unwrap();
    file.set_len(200).unwrap();
    file.sync().unwrap();
    disk.power_cut(&mut nothing);
    assert_eq!(disk.durable("a").unwrap(), [[1; 100], [0; 100]].concat());
}

#[test]
fn names_survive_in_order() {
    let disk = SimDisk::new();
    let mount = disk.mount();
    for name in ["a", "b", "c"] {
        mount.create(name).unwrap().sync().unwrap();
    }
    mount.sync_directory().unwrap();
    mount.rename("a", "d").unwrap();
    mount.remove("b").unwrap();
    mount.remove("c").unwrap();
    assert_eq!((disk.names().len(), disk.unsynced_names()), (1, 3));
    disk.power_cut(&mut |piece| piece.name != "b");
    assert_eq!(disk.durable_names(), ["b", "c", "d"]);
    assert_eq!(fired(&disk, DiskFault::NameLost), 2);
    assert_eq!(fired(&disk, DiskFault::ReorderedNames), 0);
}

#[test]
fn names_survive_in_any_order_where_that_is_wanted() {
    let disk = SimDisk::new();
    disk.let_names_survive_in_any_order(true);
    let mount = disk.mount();
    for name in ["a", "b", "c"] {
        disk.plant(name, b"");
    }
    mount.remove("b").unwrap();
    mount.remove("c").unwrap();
    mount.rename("a", "d").unwrap();
    disk.power_cut(&mut |piece| piece.name != "b" && piece.kind != PieceKind::OldName);
    assert_eq!(disk.names(), ["a", "b", "d"]);
    assert_eq!(fired(&disk, DiskFault::ReorderedNames), 2);
    assert_eq!(fired(&disk, DiskFault::NameLost), 2);
}

#[test]
fn a_file_without_a_durable_name_is_lost_whatever_was_synced() {
    let disk = SimDisk::new();
    let file = disk.mount().create("a").unwrap();
    file.write_at(0, b"a").unwrap();
    file.sync().unwrap();
    disk.power_cut(&mut nothing);
    assert!(disk.names().is_empty());
}

#[test]
fn a_dead_process_leaves_what_it_wrote_and_no_lock() {
    let (disk, mount, file) = disk_with(10);
    let lock = mount.lock().unwrap();
    assert_eq!(mount.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    file.write_at(0, &[2; 10]).unwrap();
    disk.process_crash();
    assert!(file.write_at(0, &[3; 10]).is_err() && file.sync().is_err());
    assert!(mount.create("b").is_err() && mount.remove("a").is_err());
    let other = disk.mount();
    let _held = other.lock().unwrap();
    drop(lock);
    assert!(other.lock().is_err(), "a dead process's lock frees nothing");
    assert_eq!(disk.cached("a").unwrap(), [2; 10]);
    assert_eq!(disk.durable("a").unwrap(), [1; 10]);
    assert_eq!(fired(&disk, DiskFault::ProcessCrash), 1);
}

#[test]
fn writes_fail_when_they_are_told_to() {
    let (disk, _, file) = disk_with(10);
    disk.fail_write(When::after(1), 0);
    disk.fail_write(When::from(2), 3);
    file.write_at(0, &[2; 10]).unwrap();
    assert!(file.write_at(0, &[3; 10]).is_err());
    assert_eq!(disk.cached("a").unwrap(), [2; 10]);
    for _ in 0..2 {
        assert!(file.write_at(0, &[4; 10]).is_err());
    }
    assert_eq!(disk.cached("a").unwrap(), [4, 4, 4, 2, 2, 2, 2, 2, 2, 2]);
    disk.disarm();
    file.write_at(0, &[5; 10]).unwrap();
    assert_eq!(fired(&disk, DiskFault::WriteFails), 1);
    assert_eq!(fired(&disk, DiskFault::WriteFailsPartly), 2);
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let (disk, mount, file) = disk_with(10);
    disk.set_room(Some(5));
    file.write_at(0, &[2; 10]).unwrap();
    let err = file.write_at(5, &[3; 15]).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 15, "what fits is written");
    assert!(file.set_len(16).is_err());
    file.write_at(0, &[4; 15]).unwrap();
    file.set_len(10).unwrap();
    file.write_at(100, &[1]).unwrap_err();
    assert_eq!(file.len().unwrap(), 10);
    file.set_len(15).unwrap();
    assert_eq!(fired(&disk, DiskFault::NoSpace), 3);
    mount.remove("a").unwrap();
    mount.create("b").unwrap().set_len(15).unwrap();
    disk.set_room(None);
    mount.create("c").unwrap().set_len(1000).unwrap();
}

#[test]
fn a_failed_sync_keeps_or_reverts_what_is_read_and_tells_every_handle_once() {
    for (failure, fault, shown) in [
        (SyncFailure::Keep, DiskFault::SyncFailsKeep, 2),
        (SyncFailure::Revert, DiskFault::SyncFailsRevert, 1),
    ] {
        let (disk, mount, file) = disk_with(10);
        let other = mount.open("a").unwrap();
        file.write_at(0, &[2; 10]).unwrap();
        disk.fail_sync(When::NEXT, failure);
        assert!(file.sync().is_err());
        assert_eq!(read(&file, 0..10).unwrap(), [shown; 10]);
        file.sync().unwrap();
        assert!(other.sync().is_err(), "it is news to this one");
        other.sync().unwrap();
        mount.open("a").unwrap().sync().unwrap();
        assert_eq!(disk.durable("a").unwrap(), [1; 10], "no later sync makes it good");
        disk.process_crash();
        assert_eq!(disk.cached("a").unwrap(), [shown; 10]);
        disk.drop_caches();
        assert_eq!(disk.cached("a").unwrap(), [1; 10]);
        assert_eq!(fired(&disk, fault), 1);
    }
}

#[test]
fn a_late_failure_is_told_to_the_next_sync() {
    let (disk, _, file) = disk_with(10);
    disk.fail_sync(When::NEXT, SyncFailure::Late);
    file.write_at(0, &[2; 10]).unwrap();
    file.sync().unwrap();
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(fired(&disk, DiskFault::SyncFailsLate), 1);
    disk.power_cut(&mut everything);
    assert_eq!(disk.durable("a").unwrap(), [1; 10]);
}

#[test]
fn a_failed_sync_of_the_directory_loses_names() {
    for failure in [SyncFailure::Keep, SyncFailure::Revert, SyncFailure::Late] {
        let disk = SimDisk::new();
        let mount = disk.mount();
        mount.create("a").unwrap();
        disk.fail_directory_sync(When::NEXT, failure);
        assert_eq!(mount.sync_directory().is_ok(), failure == SyncFailure::Late);
        assert_eq!(disk.names().is_empty(), failure == SyncFailure::Revert);
        assert_eq!(mount.sync_directory().is_err(), failure == SyncFailure::Late);
        mount.sync_directory().unwrap();
        disk.power_cut(&mut everything);
        assert!(disk.names().is_empty(), "no later sync makes it good");
        assert_eq!(fired(&disk, DiskFault::DirectorySyncFails), 1);
    }
}

#[test]
fn operations_on_names_fail_and_change_nothing() {
    let (disk, mount, file) = disk_with(10);
    disk.fail_rename(When::NEXT);
    disk.fail_create(When::NEXT);
    disk.fail_open(When::NEXT);
    disk.fail_list(When::NEXT);
    disk.fail_remove(When::NEXT);
    disk.fail_resize(When::NEXT);
    assert!(mount.rename("a", "b").is_err());
    assert!(mount.create("c").is_err());
    assert!(mount.open("a").is_err());
    assert!(mount.list().is_err());
    assert!(mount.remove("a").is_err());
    assert!(file.set_len(0).is_err());
    assert_eq!(mount.list().unwrap(), ["a"]);
    assert_eq!(disk.cached("a").unwrap(), [1; 10]);
    for fault in [
        DiskFault::RenameFails,
        DiskFault::CreateFails,
        DiskFault::OpenFails,
        DiskFault::ListFails,
        DiskFault::RemoveFails,
        DiskFault::ResizeFails,
    ] {
        assert_eq!(fired(&disk, fault), 1, "{fault}");
    }
    assert_eq!(mount.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(mount.open("b").unwrap_err().kind(), io::ErrorKind::NotFound);
    mount.rename("a", "b").unwrap();
    mount.open("b").unwrap();
    mount.remove("b").unwrap();
}

#[test]
fn reads_fail_or_lie_once() {
    let (disk, _, file) = disk_with(10);
    disk.fail_read(When::NEXT);
    disk.shorten_read(When::NEXT, 4);
    disk.corrupt_read(When::NEXT, 13, 0x80);
    assert!(read(&file, 0..10).is_err());
    assert_eq!(read(&file, 0..10).unwrap(), [1; 4]);
    assert_eq!(read(&file, 0..10).unwrap(), [1, 1, 1, 0x81, 1, 1, 1, 1, 1, 1]);
    assert_eq!(read(&file, 5..20).unwrap(), [1; 5]);
    for fault in [DiskFault::ReadFails, DiskFault::ShortRead, DiskFault::CorruptRead] {
        assert_eq!(fired(&disk, fault), 1, "{fault}");
    }
}

#[test]
fn a_lost_write_is_synced_and_gone() {
    let (disk, _, file) = disk_with(10);
    disk.lose_write(When::NEXT);
    file.write_at(0, &[2; 5]).unwrap();
    assert_eq!(fired(&disk, DiskFault::LostWrite), 0, "it was not synced");
    file.write_at(5, &[3; 5]).unwrap();
    file.sync().unwrap();
    assert_eq!(fired(&disk, DiskFault::LostWrite), 1);
    assert_eq!(read(&file, 0..5).unwrap(), [2; 5]);
    disk.drop_caches();
    assert_eq!(read(&file, 0..10).unwrap(), [1, 1, 1, 1, 1, 3, 3, 3, 3, 3]);
}

#[test]
fn a_misdirected_write_lands_elsewhere() {
    let (disk, _, file) = disk_with(2000);
    disk.plant("b", &[7; 10]);
    assert!(!disk.misdirect_write(When::NEXT, "c", 0));
    assert!(disk.misdirect_write(When::NEXT, "b", 8));
    file.write_at(0, &[2; 5]).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.durable("a").unwrap(), [1; 2000]);
    assert_eq!(disk.cached("b").unwrap(), [7, 7, 7, 7, 7, 7, 7, 7, 2, 2]);
    assert_eq!(fired(&disk, DiskFault::MisdirectedWrite), 1);
    assert!(disk.misdirect_write(When::NEXT, "b", 0));
    file.write_at(0, &[3; 1500]).unwrap();
    disk.power_cut(&mut everything);
    assert_eq!(disk.durable("a").unwrap(), [1; 2000]);
    assert_eq!(disk.durable("b").unwrap(), [3; 10]);
    assert_eq!(fired(&disk, DiskFault::MisdirectedWrite), 2, "once, however many pieces");
}

#[test]
fn rot_is_counted_when_it_is_read() {
    let (disk, _, file) = disk_with(5000);
    assert!(disk.flip("a", 4500, 4));
    assert!(!disk.flip("a", 5000, 4) && !disk.flip("b", 0, 4));
    assert!(disk.zero("a", 10..20) && !disk.zero("a", 10..20));
    assert_eq!(read(&file, 20..4500).unwrap(), [1; 4480]);
    assert_eq!(disk.fired().total(), 0);
    assert_eq!(read(&file, 4500..4501).unwrap(), [5]);
    assert_eq!(read(&file, 0..30).unwrap()[9..21], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(fired(&disk, DiskFault::BitRot), 1);
    assert_eq!(fired(&disk, DiskFault::ZeroedRange), 1);
    assert_eq!(disk.durable("a").unwrap()[4500], 5);
}

#[test]
fn what_waits_to_be_written_is_not_damaged() {
    let (disk, _, file) = disk_with(100);
    file.write_at(0, &[2; 50]).unwrap();
    assert!(disk.rot("a", 0..100, |bytes| bytes.fill(9)));
    assert_eq!(disk.cached("a").unwrap(), [[2; 50], [9; 50]].concat());
    file.sync().unwrap();
    disk.power_cut(&mut nothing);
    assert_eq!(disk.durable("a").unwrap(), [[2; 50], [9; 50]].concat());
}

#[test]
fn a_sector_is_unreadable_until_it_is_written() {
    let (disk, _, file) = disk_with(2048);
    assert!(disk.make_unreadable("a", 600..1100));
    assert!(read(&file, 0..600).is_err() && read(&file, 1024..1025).is_err());
    assert_eq!(read(&file, 0..512).unwrap(), [1; 512]);
    assert_eq!(fired(&disk, DiskFault::UnreadableSector), 2);
    file.write_at(512, &[2; 1024]).unwrap();
    assert_eq!(read(&file, 0..2048).unwrap()[512], 2);
    disk.power_cut(&mut nothing);
    let file = disk.mount().open("a").unwrap();
    assert!(read(&file, 512..1024).is_err(), "the write was lost, and the sector is as it was");
    file.write_at(512, &[2; 1024]).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&file, 1000..1100).unwrap(), [2; 100]);
}

#[test]
fn a_range_becomes_stale() {
    let (disk, _, file) = disk_with(10);
    disk.record_history(true);
    for byte in 2..4 {
        file.write_at(0, &[byte; 12]).unwrap();
        file.sync().unwrap();
    }
    assert!(!disk.make_stale("a", 0..4, 3) && !disk.make_stale("a", 0..4, 0));
    assert!(disk.make_stale("a", 0..4, 1));
    assert!(disk.make_stale("a", 8..12, 2));
    assert_eq!(read(&file, 0..12).unwrap(), [2, 2, 2, 2, 3, 3, 3, 3, 1, 1, 0, 0]);
    assert_eq!(fired(&disk, DiskFault::StaleRange), 2);
    disk.record_history(false);
    assert!(!disk.make_stale("a", 4..8, 1));
}

#[test]
fn a_name_becomes_stale() {
    let (disk, mount, _) = disk_with(10);
    disk.record_history(true);
    mount.create("b").unwrap();
    mount.rename("b", "a").unwrap();
    mount.sync_directory().unwrap();
    disk.power_cut(&mut nothing);
    assert_eq!(disk.durable("a").unwrap(), b"");
    assert!(disk.make_name_stale("a"));
    assert!(!disk.make_name_stale("a"));
    assert_eq!(disk.durable("a").unwrap(), [1; 10]);
    assert_eq!(disk.cached("a").unwrap(), [1; 10]);
    assert_eq!(fired(&disk, DiskFault::StaleName), 1);
}

#[test]
fn ranges_change_places_and_files_shrink_and_go() {
    let (disk, mount, file) = disk_with(10);
    disk.plant("b", &[2; 10]);
    assert!(disk.swap(("a", 5), ("b", 8), 100));
    assert_eq!(read(&file, 0..10).unwrap(), [1, 1, 1, 1, 1, 2, 2, 1, 1, 1]);
    assert_eq!(disk.durable("b").unwrap(), [2, 2, 2, 2, 2, 2, 2, 2, 1, 1]);
    assert_eq!(fired(&disk, DiskFault::SwappedRanges), 1);
    assert!(disk.truncate("a", 3) && !disk.truncate("a", 3));
    assert_eq!(read(&file, 0..10).unwrap(), [1; 3]);
    assert_eq!(fired(&disk, DiskFault::TruncatedFile), 1);
    assert!(disk.delete("a") && !disk.delete("a"));
    assert!(mount.open("a").is_err());
    assert_eq!(disk.durable_names(), ["b"]);
    assert_eq!(fired(&disk, DiskFault::DeletedFile), 1);
}

#[test]
fn the_power_goes_at_a_boundary() {
    for stop in 0..7 {
        let disk = SimDisk::new();
        disk.record_log(true);
        disk.stop_at(stop);
        let mount = disk.mount();
        let act = || {
            let file = mount.create("a")?;
            file.write_at(0, &[1; 600])?;
            read(&file, 0..600)?;
            file.sync()?;
            file.set_len(300)?;
            mount.rename("a", "b")?;
            mount.sync_directory()?;
            mount.remove("b")
        };
        let result: io::Result<()> = act();
        assert!(result.is_err() && disk.is_stopped(), "boundary {stop}");
        assert!(mount.list().is_err() && mount.create("c").is_err());
        assert_eq!((disk.boundaries(), disk.log().len()), (stop + 1, stop as usize + 1));
        disk.power_cut(&mut everything);
        // What the stopped operation changed survives as well, for everything does.
        let (name, length) = [("a", 0), ("a", 600), ("a", 600), ("a", 300), ("b", 300), ("b", 300)]
            .get(stop as usize)
            .map_or((None, None), |(name, length)| (Some(*name), Some(*length)));
        assert_eq!(disk.durable_names().first().map(String::as_str), name, "boundary {stop}");
        assert_eq!(name.and_then(|name| disk.durable_length(name)), length, "boundary {stop}");
        disk.mount().create("c").unwrap();
    }
}

#[test]
fn an_image_brings_the_disk_back() {
    let (disk, mount, file) = disk_with(10);
    let image = disk.image();
    disk.restore(&image);
    assert_eq!(disk.fired().total(), 0, "nothing changed");
    assert!(file.sync().is_err() && mount.list().is_err());
    let file = disk.mount().open("a").unwrap();
    file.write_at(0, &[2; 10]).unwrap();
    file.sync().unwrap();
    assert_ne!(disk.image(), image);
    disk.restore(&image);
    assert_eq!(disk.cached("a").unwrap(), [1; 10]);
    disk.wipe();
    assert!(disk.names().is_empty() && disk.durable_names().is_empty());
    assert_eq!(fired(&disk, DiskFault::SetBack), 1);
    assert_eq!(fired(&disk, DiskFault::Wiped), 1);
}
