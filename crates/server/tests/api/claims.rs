//! Who claims many KeyPackages of one victim: what the limits leave, and who hears of it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use qpc_proto::message::{
    ClaimKeyPackages, Claims, KeyPackageStatus, Request, Response, UploadKeyPackages,
};
use qpc_proto::{ErrorBody, ErrorCode, RequestId};
use qpc_server::audit::{Audit, Keeping};
use qpc_server::limits::{Limiter, Period, Rate, Rates};
use qpc_server::{Limits, Settings};
use tokio::task::JoinSet;

use crate::members::key_package;
use crate::support::{Device, LoggedIn, Rig, START_MS, frame_with, read};

/// As shipped but for registrations and logins, of which these tests make many.
fn shipped() -> Rates {
    let ample = Rate::new(1_000_000, Period::Minute, 1_000_000);
    [Limiter::Address, Limiter::Register, Limiter::Login]
        .into_iter()
        .fold(Rates::default(), |rates, limiter| rates.with(limiter, ample))
}

fn with(rates: Rates) -> Limits {
    Limits { rates, ..Limits::default() }
}

/// A victim with so many single-use KeyPackages.
async fn victim(rig: &mut Rig, seed: u8, packages: u8) -> (Device, LoggedIn) {
    let device = Device::new(seed);
    let one = rig.join(&device).await;
    let key_packages: Vec<Bytes> = (0..packages).map(|n| key_package(&device, n)).collect();
    let upload = UploadKeyPackages { key_packages, last_resort: None };
    one.call(&Request::UploadKeyPackages(upload)).await.unwrap();
    (device, one)
}

async fn available(victim: &LoggedIn) -> u32 {
    match victim.call(&Request::KeyPackageStatus).await.unwrap() {
        Response::KeyPackageStatus(KeyPackageStatus { available, .. }) => available,
        other => panic!("{other:?}"),
    }
}

/// The `n`th claim of somebody, under a request id of its own.
async fn claim(n: u8, claimer: &LoggedIn, victim: &Device) -> Result<Claims, ErrorBody> {
    let claim = ClaimKeyPackages { account: victim.id.account, devices: Vec::new() };
    let (token, request) = (&claimer.tokens.access_token, Request::ClaimKeyPackages(claim));
    let frame = frame_with(token, &request, RequestId([n + 1; 16]));
    match read(request.method(), claimer.client.exchange(frame).await)? {
        Response::Claims(claims) => Ok(claims),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn case_076_of_a_thousand_claims_at_once_for_the_last_package_one_gets_it() {
    let mut rig = Rig::start(Limits::default());
    let (device, one) = victim(&mut rig, 1, 1).await;
    let mut claims = JoinSet::new();
    for seed in 2..=21 {
        let claimer = Arc::new(rig.join(&Device::new(seed)).await);
        for n in 0..50 {
            let (claimer, device) = (Arc::clone(&claimer), device.clone());
            claims.spawn(async move { claim(n, &claimer, &device).await });
        }
    }
    let answers = claims.join_all().await;
    let served = answers.iter().filter_map(|answer| answer.as_ref().ok());
    assert_eq!(served.map(|claims| claims.claimed.len()).sum::<usize>(), 1);
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let codes: BTreeSet<_> = refused.map(|refused| refused.code.as_str()).collect();
    assert_eq!((answers.len(), codes), (1_000, ["NO_KEY_PACKAGE"].into()));
    assert_eq!(available(&one).await, 0);
}

#[tokio::test]
async fn case_077_one_claimer_takes_ten_of_a_victim_then_one_a_minute() {
    let mut rig = Rig::start(with(shipped()));
    let (device, one) = victim(&mut rig, 1, 40).await;
    let (other, _) = victim(&mut rig, 2, 3).await;
    let thief = rig.join(&Device::new(3)).await;
    let burst = shipped().get(Limiter::ClaimTarget).burst.get();
    assert_eq!(burst, 10);
    for n in 0..burst {
        let n = u8::try_from(n).unwrap();
        assert_eq!(claim(n, &thief, &device).await.unwrap().claimed.len(), 1);
    }
    for n in 10..15 {
        let refused = claim(n, &thief, &device).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert!(refused.retry_after_ms.is_some_and(|ms| (1..=60_001).contains(&ms)));
    }
    assert_eq!(available(&one).await, 30, "a refused claim takes nothing");
    // Another login of the same account is no way around, another victim is another count.
    let again = rig.connect().log_in(&Device::new(3)).await;
    assert_eq!(claim(20, &again, &device).await.unwrap_err().code, ErrorCode::RateLimited);
    assert!(claim(21, &thief, &other).await.is_ok());
    rig.pass(std::time::Duration::from_secs(60));
    assert!(claim(22, &thief, &device).await.is_ok());
    assert_eq!(claim(23, &thief, &device).await.unwrap_err().code, ErrorCode::RateLimited);
}

#[tokio::test]
async fn who_brings_its_own_devices_into_its_channels_is_counted_by_no_target() {
    let mut rig = Rig::start(with(shipped()));
    let (device, one) = victim(&mut rig, 1, 80).await;
    for n in 0..70 {
        // It has no other device.
        let refused = claim(n, &one, &device).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NoKeyPackage, "{n}");
    }
    let friend = rig.join(&Device::new(2)).await;
    assert!(claim(0, &friend, &device).await.is_ok(), "nobody else was counted");
}

#[tokio::test]
async fn case_077_a_claimer_of_many_victims_is_limited_by_itself() {
    let few = Rate::new(1, Period::Minute, 4);
    let mut rig = Rig::start(with(shipped().with(Limiter::Claim, few)));
    let thief = rig.join(&Device::new(99)).await;
    for seed in 1..=8 {
        let (device, one) = victim(&mut rig, seed, 2).await;
        let taken = claim(seed, &thief, &device).await;
        assert_eq!(taken.is_ok(), seed <= 4, "{seed}");
        assert_eq!(available(&one).await, if seed <= 4 { 1 } else { 2 });
    }
}

#[tokio::test]
async fn case_077_many_claimers_together_leave_half_of_a_pool() {
    let mut rig = Rig::start(with(shipped()));
    let (device, one) = victim(&mut rig, 1, 60).await;
    let burst = shipped().get(Limiter::ClaimAny).burst.get();
    assert_eq!(burst, 50);
    let mut taken = 0;
    for seed in 2..=8 {
        let thief = rig.join(&Device::new(seed)).await;
        for n in 0..10 {
            taken += u32::from(claim(n, &thief, &device).await.is_ok());
        }
    }
    assert_eq!((taken, available(&one).await), (burst, 10));
    let last = rig.join(&Device::new(9)).await;
    assert_eq!(claim(1, &last, &device).await.unwrap_err().code, ErrorCode::RateLimited);
    rig.pass(std::time::Duration::from_secs(30));
    assert!(claim(2, &last, &device).await.is_ok());
}

#[tokio::test]
async fn case_077_where_there_is_no_room_to_count_a_claimer_it_is_refused() {
    let mut rates = shipped();
    rates.keys_max = 3;
    let mut rig = Rig::start(with(rates));
    let (device, one) = victim(&mut rig, 1, 10).await;
    for seed in 2..=7 {
        let thief = rig.join(&Device::new(seed)).await;
        let taken = claim(seed, &thief, &device).await.map_err(|refused| refused.code);
        let counted = seed <= 4;
        assert_eq!(taken.err(), (!counted).then_some(ErrorCode::RateLimited), "{seed}");
    }
    assert_eq!(available(&one).await, 7);
}

#[tokio::test]
async fn case_077_the_operator_sees_it_in_the_metrics_and_the_audit_log() {
    let logs = tempfile::tempdir().unwrap();
    let clock = Arc::new(|| START_MS);
    let audit = Audit::start(logs.path(), Keeping::default(), None, clock).unwrap();
    let told = audit.clone();
    let mut rig =
        Rig::start_with(with(shipped()), move |settings| Settings { audit: told, ..settings });
    let (device, _) = victim(&mut rig, 1, 40).await;
    let thief = rig.join(&Device::new(3)).await;
    for n in 0..12 {
        drop(claim(n, &thief, &device).await);
    }
    let series = "qpc_limited_total{limiter=\"claim_target\"} 2";
    assert!(rig.server.metrics().contains(series));
    audit.flush();
    let lines: String = fs::read_dir(logs.path())
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let hits = lines.lines().filter(|line| line.contains("\"limit_hit\""));
    let hits: Vec<_> = hits.collect();
    assert!(!hits.is_empty() && hits.iter().all(|line| line.contains("claim_target")), "{hits:?}");
    assert!(hits.iter().all(|line| !line.contains(&device.id.account.to_string())), "of nobody");
}
