//! What was seen of a PATH, as one number. Two numbers differ if anything that counts as a change differs. Pure.
//!
//! A number crosses a re-exec to a hupwrap that another compiler may have built. Therefore the hash is written out
//! here: the one of the standard library may change with each release.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What counts of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry<'a> {
    /// Nothing is there, or it cannot be seen.
    Missing,
    /// A directory: only its names count, and each of them is an entry of its own.
    Directory,
    /// A symbolic link, with its target.
    Link(&'a Path),
    /// A regular file.
    File {
        /// Its mtime: seconds and nanoseconds.
        modified: (i64, i64),
        /// Its size.
        size: u64,
        /// Its inode.
        inode: u64,
    },
    /// A socket, a FIFO or a device. Its use is no change, even if that sets its mtime.
    Other,
}

/// The sum over all entries. Their order does not matter, so nothing has to be sorted or kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Digest(u64);

impl Digest {
    /// Counts one entry.
    pub(super) fn add(&mut self, path: &Path, entry: Entry<'_>) {
        let mut hash = Fnv::new();
        hash.write(path.as_os_str().as_bytes());
        // A path contains no zero byte: what follows cannot be taken for a part of it.
        hash.write(&[0]);
        match entry {
            Entry::Missing => hash.write(b"missing"),
            Entry::Directory => hash.write(b"directory"),
            Entry::Other => hash.write(b"other"),
            Entry::Link(target) => {
                hash.write(b"link");
                hash.write(target.as_os_str().as_bytes());
            }
            Entry::File { modified: (seconds, nanoseconds), size, inode } => {
                hash.write(b"file");
                hash.write(&seconds.to_le_bytes());
                hash.write(&nanoseconds.to_le_bytes());
                hash.write(&size.to_le_bytes());
                hash.write(&inode.to_le_bytes());
            }
        }
        self.0 = self.0.wrapping_add(hash.finish());
    }

    /// The number.
    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// FNV-1a with 64 bits.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Spreads each bit over all others (the last step of MurmurHash3): the hashes are summed up, and sums of similar
    /// numbers could be equal.
    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(entries: &[(&str, Entry<'_>)]) -> u64 {
        let mut digest = Digest::default();
        for (path, entry) in entries {
            digest.add(Path::new(path), *entry);
        }
        digest.value()
    }

    const FILE: Entry<'_> = Entry::File { modified: (1, 2), size: 3, inode: 4 };

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let one = digest(&[("a", FILE), ("b", Entry::Directory)]);
        assert_eq!(one, digest(&[("b", Entry::Directory), ("a", FILE)]));
        let others = [
            digest(&[("a", FILE)]),
            digest(&[("b", FILE), ("a", Entry::Directory)]),
            digest(&[("a", Entry::File { modified: (2, 2), size: 3, inode: 4 }), ("b", Entry::Directory)]),
            digest(&[("a", Entry::File { modified: (1, 1), size: 3, inode: 4 }), ("b", Entry::Directory)]),
            digest(&[("a", Entry::File { modified: (1, 2), size: 4, inode: 4 }), ("b", Entry::Directory)]),
            digest(&[("a", Entry::File { modified: (1, 2), size: 3, inode: 5 }), ("b", Entry::Directory)]),
            digest(&[("a", FILE), ("b", Entry::Missing)]),
            digest(&[("a", FILE), ("b", Entry::Other)]),
            digest(&[("a", FILE), ("b", Entry::Link(Path::new("a")))]),
            digest(&[("a", FILE), ("b", Entry::Link(Path::new("c")))]),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(one, *other, "{index}");
            assert!(!others[..index].contains(other), "{index}");
        }
    }

    /// Over a re-exec, another hupwrap compares its numbers with ours. A change of this one needs a new handover
    /// format.
    #[test]
    fn the_number_stays_the_same_in_every_build() {
        assert_eq!(digest(&[]), 0);
        assert_eq!(digest(&[("a", FILE), ("b", Entry::Link(Path::new("a")))]), 16_885_495_102_187_906_089);
    }
}
