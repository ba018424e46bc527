//! GREASE (RFC 9420 section 13.5): values that nobody gives a meaning, so that nobody forgets that
//! unknown ones are to be ignored.

use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::*;
use qpc_credential::{CredentialError, admit_key_package};

use crate::fixtures::{Account, NOW_MS, package_at};

/// 0x0a0a, 0x1a1a, to 0xeaea.
fn values() -> impl Iterator<Item = u16> {
    (0..15).map(|n: u16| (n << 4 | 0x0a) * 0x0101)
}

/// Capabilities (RFC 9420 section 7.2) that list these, besides what a leaf of ours uses.
fn capabilities(grease: &[u16], first: bool) -> Capabilities {
    let list = |used: &[u16]| {
        let all = if first { [grease, used].concat() } else { [used, grease].concat() };
        let bytes: Vec<u8> = all.into_iter().flat_map(u16::to_be_bytes).collect();
        [vec![u8::try_from(bytes.len()).unwrap()], bytes].concat()
    };
    let lists = [list(&[1]), list(&[1]), list(&[10]), list(&[]), list(&[1])].concat();
    Capabilities::tls_deserialize_exact(&lists).unwrap()
}

fn admitted(builder: KeyPackageBuilder) -> Result<(), CredentialError> {
    let account = Account::of(1);
    let bytes = account.build(builder, account.credential());
    let admitted = admit_key_package(&bytes, NOW_MS)?;
    assert_eq!((admitted.device, admitted.last_resort), (account.device(), false));
    Ok(())
}

fn extension(value: u16) -> Extension {
    Extension::Unknown(value, UnknownExtension(vec![1, 2, 3]))
}

#[test]
fn case_083_grease_in_every_list_of_capabilities_is_taken_and_ignored() {
    assert_eq!(values().last(), Some(0xeaea));
    for value in values() {
        for first in [false, true] {
            let listed = capabilities(&[value], first);
            assert_eq!(admitted(package_at(NOW_MS).leaf_node_capabilities(listed)), Ok(()));
        }
    }
    let all = capabilities(&values().collect::<Vec<_>>(), true);
    assert_eq!(admitted(package_at(NOW_MS).leaf_node_capabilities(all)), Ok(()));
}

/// OpenMLS reads the type of such an extension and the same value in the capabilities as two
/// different things, so that no member could add the leaf: better that no directory takes it.
#[test]
fn an_extension_of_a_grease_type_is_refused_as_members_would() {
    let refused = |builder| {
        assert!(matches!(admitted(builder), Err(CredentialError::KeyPackage(_))));
    };
    for value in values() {
        let builder = || package_at(NOW_MS).leaf_node_capabilities(capabilities(&[value], true));
        refused(builder().key_package_extensions(Extensions::single(extension(value)).unwrap()));
        refused(builder().leaf_node_extensions(Extensions::single(extension(value)).unwrap()));
    }
}

/// RFC 9420 section 7.3: a leaf lists the types of the extensions that it uses.
#[test]
fn an_extension_that_the_leaf_does_not_list_is_refused() {
    for (value, listed) in [(0xf1f1, true), (0xf1f1, false)] {
        let list = if listed { vec![value] } else { Vec::new() };
        for in_leaf in [false, true] {
            let builder = package_at(NOW_MS).leaf_node_capabilities(capabilities(&list, true));
            let builder = if in_leaf {
                builder.leaf_node_extensions(Extensions::single(extension(value)).unwrap())
            } else {
                builder.key_package_extensions(Extensions::single(extension(value)).unwrap())
            };
            assert_eq!(admitted(builder).is_ok(), listed, "in the leaf: {in_leaf}");
        }
    }
}

/// What stands in a list is ignored; what is used must have a meaning.
#[test]
fn case_083_grease_in_place_of_what_is_used_is_refused() {
    let account = Account::of(1);
    let good = account.key_package();
    for value in values() {
        for at in [0, 2] {
            let mut bytes = good.clone();
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            let refused = admit_key_package(&bytes, NOW_MS);
            assert_eq!(refused, Err(CredentialError::UnsupportedCiphersuite));
        }
    }
}
