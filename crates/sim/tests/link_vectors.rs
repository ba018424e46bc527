//! What `docs/protocol/vectors/link.txt` publishes is what clients do.

#[cfg(test)]
mod tests {
    use qpc_client::link::{LinkCode, Offer, open_offer};
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng as _;

    const VECTORS: &str = include_str!("../../../docs/protocol/vectors/link.txt");

    fn hex(bytes: impl AsRef<[u8]>) -> String {
        bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_link_has_its_published_bytes() {
        let mut rng = ChaCha8Rng::seed_from_u64(68);
        let code = LinkCode::parse("00010203-04050607-08090a0b-0c0d0e0f").unwrap();
        let offer = Offer::new(&mut rng);
        let sealed = offer.seal(&code, &mut rng).unwrap();
        let offered = open_offer(&code, &sealed).unwrap();
        let lines = [
            format!("code {}", code.text().replace('-', "")),
            format!("rendezvous {}", code.rendezvous()),
            format!("device {}", offered.device),
            format!("key {}", offered.key),
            format!("fingerprint {}", offered.fingerprint()),
            format!("offer {}", hex(&sealed)),
        ];
        let published: Vec<_> = VECTORS.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(published, lines);
    }
}
