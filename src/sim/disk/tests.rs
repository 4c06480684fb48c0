//! Each fault by itself.

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
        let mut names = disk.durable_names();
        let name = if stop < 4 { Some("a") } else { (stop < 6).then_some("b") };
        assert_eq!(names.pop().as_deref(), name, "the stopped operation may survive as well");
        let length = name.map(|name| disk.durable_length(name).unwrap());
        assert_eq!(
            length,
            [Some(0), Some(600), Some(600), Some(300)]
                .get(stop as usize)
                .copied()
                .unwrap_or(name.map(|_| 300))
        );
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
    assert_eq!(fired(&disk, DiskFault::RolledBack), 1);
    assert_eq!(fired(&disk, DiskFault::Wiped), 1);
}
