//! RSA keys whose primes come from a faulty library (CVE-2017-15361, "ROCA"): whoever sees such a public key can factor it.

/// The primes by which the modulus is looked at. More than one random modulus in a hundred million would not be taken for a
/// weak one by them all.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// What the faulty primes are powers of, modulo a product of small primes.
const GENERATOR: u32 = 65537;

/// Whether a modulus, big-endian, has the mark of that library: it is a power of 65537 modulo every small prime (Nemec and
/// others, "The Return of Coppersmith's Attack", CCS 2017, section 2.2).
pub(super) fn is_marked(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| {
        let residue = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let next = |power: &u32| Some(power * (GENERATOR % prime) % prime);
        // The powers come round after at most so many steps.
        std::iter::successors(Some(1), next).take(prime as usize).any(|power| power == residue)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_the_generator_are_marked_and_what_is_beside_them_is_not() {
        let mut power: u128 = 1;
        for _ in 0..8 {
            assert!(is_marked(&power.to_be_bytes()), "{power}");
            for other in [power + 2, power * 2, power * 3] {
                assert!(!is_marked(&other.to_be_bytes()), "{other}");
            }
            power *= u128::from(GENERATOR - 1) + 1;
            if power > u128::MAX / u128::from(GENERATOR) / 4 {
                break;
            }
        }
    }
}
