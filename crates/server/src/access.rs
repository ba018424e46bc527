//! What every method requires of its caller, which limiters count it, whether one device can keep
//! another from it, and on which path it runs: four exhaustive tables.
//!
//! Checks nothing itself; the node does, and the session's limiters.

use qpc_proto::limits::{FRAME_BYTES_MAX, PUBLISH_BYTES_MAX};
use qpc_proto::message::Method;

use crate::limits::Limiter;

/// What a method requires of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Public,
    /// A connection bound to a device by `Login`; the token is the service's to judge, expired or
    /// not.
    Bound,
    /// A valid access token of the device that the connection is bound to.
    Token,
}

/// What a method requires.
pub fn requirement(method: Method) -> Requirement {
    match method {
        Method::ServerInfo
        | Method::Register
        | Method::Login
        | Method::LinkRelay
        | Method::Recover => Requirement::Public,
        Method::Refresh | Method::Logout => Requirement::Bound,
        Method::Lookup
        | Method::DeviceList
        | Method::LinkDevice
        | Method::RevokeDevice
        | Method::RenewDevices
        | Method::ExportAccount
        | Method::DeleteAccount
        | Method::CancelDeletion
        | Method::UploadKeyPackages
        | Method::ClaimKeyPackages
        | Method::KeyPackageStatus
        | Method::CreateChannel
        | Method::ListChannels
        | Method::Enqueue
        | Method::Commit
        | Method::Statement
        | Method::Publish
        | Method::Fetch
        | Method::FetchWait
        | Method::Subscribe
        | Method::Ack => Requirement::Token,
    }
}

/// The limiters that count a method, besides those of its address, or account and device. A batch
/// counts as one request: the quotas of the logs bound what is in it.
pub fn limiters(method: Method) -> &'static [Limiter] {
    match method {
        Method::Register => &[Limiter::Register],
        Method::Login => &[Limiter::Login],
        Method::Refresh => &[Limiter::Refresh],
        Method::Recover => &[Limiter::Recover],
        Method::LinkRelay => &[Limiter::Link],
        Method::Lookup | Method::DeviceList => &[Limiter::Lookup],
        Method::ClaimKeyPackages => &[Limiter::Claim, Limiter::ClaimTarget, Limiter::ClaimAny],
        Method::LinkDevice
        | Method::RevokeDevice
        | Method::RenewDevices
        | Method::DeleteAccount
        | Method::CancelDeletion => &[Limiter::AccountChange],
        Method::ExportAccount => &[Limiter::Export],
        Method::UploadKeyPackages => &[Limiter::Upload],
        Method::CreateChannel | Method::Commit => &[Limiter::Commit],
        Method::Publish => &[Limiter::Publish],
        Method::ServerInfo
        | Method::Logout
        | Method::KeyPackageStatus
        | Method::ListChannels
        | Method::Enqueue
        | Method::Statement
        | Method::Fetch
        | Method::FetchWait
        | Method::Subscribe
        | Method::Ack => &[],
    }
}

/// Whether a method counts for the whole account. Not where the owner of a stolen device ends it:
/// whoever holds that device would spend what the account has, and so stay.
pub fn counts_for_account(method: Method) -> bool {
    match method {
        Method::DeviceList
        | Method::LinkDevice
        | Method::RevokeDevice
        | Method::RenewDevices
        | Method::DeleteAccount
        | Method::CancelDeletion => false,
        Method::ServerInfo
        | Method::Register
        | Method::Login
        | Method::Refresh
        | Method::Logout
        | Method::Lookup
        | Method::LinkRelay
        | Method::Recover
        | Method::ExportAccount
        | Method::UploadKeyPackages
        | Method::ClaimKeyPackages
        | Method::KeyPackageStatus
        | Method::CreateChannel
        | Method::ListChannels
        | Method::Enqueue
        | Method::Commit
        | Method::Statement
        | Method::Publish
        | Method::Fetch
        | Method::FetchWait
        | Method::Subscribe
        | Method::Ack => true,
    }
}

/// Where a method runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// In a group commit of the one writer.
    Write,
    /// In a read transaction beside the writer.
    Read,
    /// As a read, again and again until there is something or its time is over.
    Wait,
    /// As many read transactions, for as long as the stream lives.
    Follow,
    /// As a read; once it is granted, what it carries is handed to those who follow the channel.
    Publish,
    /// Noted in memory, to be written with others.
    Note,
}

/// Where a method runs.
pub fn lane(method: Method) -> Lane {
    match method {
        Method::Register
        | Method::Login
        | Method::Refresh
        | Method::Logout
        | Method::LinkRelay
        | Method::LinkDevice
        | Method::RevokeDevice
        | Method::RenewDevices
        | Method::Recover
        | Method::ExportAccount
        | Method::DeleteAccount
        | Method::CancelDeletion
        | Method::UploadKeyPackages
        | Method::ClaimKeyPackages
        | Method::CreateChannel
        | Method::Enqueue
        | Method::Commit
        | Method::Statement => Lane::Write,
        Method::ServerInfo
        | Method::Lookup
        | Method::DeviceList
        | Method::KeyPackageStatus
        | Method::ListChannels
        | Method::Fetch => Lane::Read,
        Method::FetchWait => Lane::Wait,
        Method::Subscribe => Lane::Follow,
        Method::Publish => Lane::Publish,
        Method::Ack => Lane::Note,
    }
}

/// Bytes of a read's body: more than the largest has, and so little that many may wait.
const READ_BYTES_MAX: usize = 1_024;
/// Bytes of a body of cursors: room for all of them.
const FOLLOW_BYTES_MAX: usize = 64 * 1_024;
/// Bytes of a publication's body; few of a connection wait at one time.
const PUBLISH_BODY_BYTES_MAX: usize = PUBLISH_BYTES_MAX + READ_BYTES_MAX;

/// Bytes that a request's body may have. What waits for the writer is counted there; reads wait
/// uncounted, so they are small.
pub fn body_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Write => FRAME_BYTES_MAX,
        Lane::Read | Lane::Wait => READ_BYTES_MAX,
        Lane::Follow | Lane::Note => FOLLOW_BYTES_MAX,
        Lane::Publish => PUBLISH_BODY_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KeyedBy;

    #[test]
    fn every_change_under_a_request_id_is_written_in_a_group_commit() {
        for method in Method::ALL.iter().filter(|m| m.takes_request_id()) {
            assert_eq!(lane(*method), Lane::Write, "{}", method.as_str());
        }
    }

    #[test]
    fn what_strangers_may_ask_is_counted_by_address() {
        for method in Method::ALL.iter().filter(|m| requirement(**m) == Requirement::Public) {
            let by_address = |l: &Limiter| l.keyed_by() == KeyedBy::Address;
            assert!(limiters(*method).iter().all(by_address), "{}", method.as_str());
        }
    }

    #[test]
    fn no_device_keeps_another_from_what_counts_for_itself_alone() {
        for method in Method::ALL.iter().filter(|m| !counts_for_account(**m)) {
            let by_device = |l: &Limiter| l.keyed_by() == KeyedBy::Device;
            assert!(limiters(*method).iter().all(by_device), "{}", method.as_str());
        }
    }

    #[test]
    fn only_these_methods_are_public() {
        let public = |m: &&Method| requirement(**m) == Requirement::Public;
        let names: Vec<_> = Method::ALL.iter().filter(public).collect();
        use Method::{LinkRelay, Login, Recover, Register, ServerInfo};
        assert_eq!(names, [&ServerInfo, &Register, &Login, &LinkRelay, &Recover]);
    }
}
