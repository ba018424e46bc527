//! Tokens that no test can know, because they live in clients' memory alone: the server has their
//! SHA-256, so every 32 bytes that a log shows are hashed and looked up there.

use std::collections::BTreeSet;

use qpc_proto::chain::sha256;

/// Bytes of a token.
const LEN: usize = 32;

/// Whether something in `log` has one of these digests.
pub(crate) fn shows_one_of(log: &[u8], digests: &BTreeSet<[u8; LEN]>) -> bool {
    let known = |bytes: &[u8]| digests.contains(&sha256(bytes).0);
    hex_runs(log).iter().chain(&number_runs(log)).any(|run| run.windows(LEN).any(known))
}

/// What stands in hexadecimal digits.
fn hex_runs(log: &[u8]) -> Vec<Vec<u8>> {
    let long = |run: &&[u8]| run.len() >= 2 * LEN;
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).map(|digit| u8::try_from(digit).unwrap());
    let bytes = |run: &[u8]| -> Vec<u8> {
        run.chunks_exact(2)
            .map(|pair| digit(&pair[0]).unwrap() << 4 | digit(&pair[1]).unwrap())
            .collect()
    };
    let runs = log.split(|byte| !byte.is_ascii_hexdigit()).filter(long);
    // A run may begin with a digit that belongs to something else.
    runs.flat_map(|run| [bytes(run), bytes(&run[1..])]).collect()
}

/// What stands in decimal numbers with commas between.
fn number_runs(log: &[u8]) -> Vec<Vec<u8>> {
    let of_list = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b',' | b' ');
    let number = |text: &[u8]| std::str::from_utf8(text.trim_ascii()).unwrap().parse().ok();
    let bytes = |run: &[u8]| run.split(|byte| *byte == b',').map_while(number).collect::<Vec<u8>>();
    let runs = log.split(|byte| !of_list(byte)).filter(|run| run.len() >= 3 * LEN - 2);
    runs.map(bytes).filter(|run| run.len() >= LEN).collect()
}

#[test]
fn a_token_is_known_by_its_digest() {
    let token: Vec<u8> = (0..32).map(|n| 200 - n * 5).collect();
    let digests = BTreeSet::from([sha256(&token).0]);
    let hex: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(shows_one_of(format!("token=a{hex} ok").as_bytes(), &digests));
    assert!(shows_one_of(format!("token={} ok", hex.to_uppercase()).as_bytes(), &digests));
    assert!(shows_one_of(format!("Token({token:?})").as_bytes(), &digests));
    assert!(!shows_one_of(format!("{:?} {}", &token[1..], &hex[2..]).as_bytes(), &digests));
}
