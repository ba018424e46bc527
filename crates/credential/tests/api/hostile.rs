//! Bytes from anyone never panic and never verify.

use proptest::prelude::*;
use qpc_credential::{
    AccountKey, Certificate, DeviceList, Statement, admit_key_package, mls_header,
    welcome_references,
};

use crate::fixtures::{Account, NOW_MS};

fn refused_by_all(bytes: &[u8]) -> bool {
    let key = Account::of(1).account_key();
    AccountKey::verify(bytes).is_err()
        && DeviceList::verify(bytes, &key).is_err()
        && Certificate::verify(bytes).is_err()
        && Statement::verify(bytes).is_err()
        && admit_key_package(bytes, NOW_MS).is_err()
        && welcome_references(bytes).is_err()
}

proptest! {
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(refused_by_all(&bytes));
        prop_assert!(mls_header(&bytes).is_err());
    }

    #[test]
    fn noise_behind_a_true_beginning_is_refused(
        which in 0_usize..4,
        keep in 0_usize..700,
        noise in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let account = Account::of(1);
        let true_bytes = match which {
            0 => account.statement().to_vec(),
            1 => account.signed_list(&account.list()).to_vec(),
            2 => account.certificate().to_vec(),
            _ => account.key_package(),
        };
        let mut bytes = true_bytes.clone();
        bytes.truncate(keep);
        bytes.extend(noise);
        prop_assume!(bytes != true_bytes);
        prop_assert!(refused_by_all(&bytes));
    }
}

/// Every prefix of a KeyPackage followed by lengths that nothing follows.
#[test]
fn hostile_lengths_never_panic() {
    let package = Account::of(1).key_package();
    for at in 0..package.len() {
        for length in [[0xff; 4], [0xbf, 0xff, 0xff, 0xff], [0xc0, 0, 0, 0], [0x7f; 4]] {
            let bytes = [&package[..at], &length].concat();
            assert!(admit_key_package(&bytes, NOW_MS).is_err());
        }
    }
}
