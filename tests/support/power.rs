//! The power goes: what survives of what was not synced.

use indelible::sim::disk::SimDisk;

/// Nothing (0), everything (1), or some of it, by a number.
pub fn cut(disk: &SimDisk, survival: u64) {
    let mut count = survival;
    disk.power_cut(&mut |_| {
        count = count.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match survival {
            0 => false,
            1 => true,
            _ => count >> 33 & 1 == 0,
        }
    });
}
