//! Every input of the committed corpus, through its target, with any toolchain.

use std::fs;
use std::path::Path;

use indelible_fuzz::TARGETS;

/// The corpus is for a start, not an archive.
const FILES_MAX: usize = 100;
const BYTES_MAX: u64 = 200 * 1024;

#[test]
fn the_corpus_passes() {
    for (name, target) in TARGETS {
        target(&[]);
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let (mut files, mut bytes) = (0, 0);
        for file in fs::read_dir(&directory).expect("every target has a corpus") {
            let path = file.expect("the directory can be read").path();
            println!("{}", path.display()); // Shown where the next line panics.
            let data = fs::read(&path).expect("the file can be read");
            target(&data);
            files += 1;
            bytes += data.len() as u64;
        }
        assert!(0 < files && files <= FILES_MAX, "{name}: {files} files");
        assert!(bytes <= BYTES_MAX, "{name}: {bytes} bytes");
    }
}
