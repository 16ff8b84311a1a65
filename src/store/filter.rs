//! A Bloom filter over the keys of a run: spares most reads the runs that don't hold their key.
//!
//! Every registration asks whether its message is known already, so the usual answer is "no", and it must not cost a page
//! of each run. Ten bits a key let about one in a hundred through in vain. The bits are stored, so the hash must never
//! change.

const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 6;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty one, with room for so many keys.
    pub(super) fn with_room_for(keys: u64) -> Self {
        let words = usize::try_from((keys * BITS_PER_KEY).div_ceil(64)).unwrap_or(usize::MAX).max(1);
        Self { words: vec![0; words] }
    }

    /// From the bytes that [`Filter::bytes`] gave.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let mut words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        if words.is_empty() {
            // Lets everything through: slow and right.
            words.push(u64::MAX);
        }
        Self { words }
    }

    /// Its bits, to be stored.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Notes a key.
    pub(super) fn insert(&mut self, key: &[u8]) {
        for bit in self.bits(key) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// `false`: it was never noted. `true`: it probably was.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        self.bits(key).all(|bit| self.words[bit / 64] & 1 << (bit % 64) != 0)
    }

    /// Two halves of one hash make all probes (Kirsch and Mitzenmacher, 2006).
    fn bits(&self, key: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let (hash, size) = (hash(key), self.words.len() as u64 * 64);
        let step = (hash >> 32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = hash.wrapping_add(step.wrapping_mul(probe)) % size;
            usize::try_from(bit).expect("less than the number of bits in memory")
        })
    }
}

/// FNV-1a, then the finish of SplitMix64, since FNV leaves its high bits poor.
fn hash(key: &[u8]) -> u64 {
    let fnv = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_held_and_little_else() {
        let mut filter = Filter::with_room_for(10_000);
        (0..10_000u32).for_each(|n| filter.insert(&n.to_be_bytes()));
        let filter = Filter::read(&filter.bytes());
        assert!((0..10_000u32).all(|n| filter.may_hold(&n.to_be_bytes())));
        let vain = (10_000..110_000u32).filter(|n| filter.may_hold(&n.to_be_bytes())).count();
        assert!(vain < 2_000, "{vain} of 100000 let through");
    }

    #[test]
    fn the_hash_is_the_stored_one() {
        assert_eq!(hash(b"revoked"), HASH_OF_REVOKED);
    }

    const HASH_OF_REVOKED: u64 = 9_571_640_521_729_788_613;
}
