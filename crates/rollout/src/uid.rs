//! What makes a release the same release on every replica.

use xxhash_rust::xxh3::xxh3_64;

/// The uid of a release that has none from a cluster: XXH3 over namespace, name, stable and candidate, as 16 hexadecimal
/// digits. Replicas that share no disk agree on it, and so on every session's arm.
pub fn of_release(namespace: &str, name: &str, stable: &str, candidate: &str) -> String {
    let mut text = Vec::new();
    for part in [namespace, name, stable, candidate] {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    format!("{:016x}", xxh3_64(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_with_each_part_and_stays_the_same_across_versions() {
        let uid = of_release("serving", "llm-to-h200", "llm", "llm-new");
        assert_eq!(uid.len(), 16);
        assert_ne!(uid, of_release("serving", "llm-to-h20", "0llm", "llm-new"));
        assert_ne!(uid, of_release("serving", "llm-to-h200", "llm-new", "llm"));
        // Pinned: another value would move every session of a roll-out that runs across an update.
        assert_eq!(uid, "36e1a5abbac338ba");
    }
}
