//! What the metrics show, and what they never show: whom. And that no port serves them.

use std::collections::BTreeSet;
use std::fs;

use qpc_proto::message::{Method, Request};
use qpc_proto::{ChannelId, ErrorCode, RequestId, Token};
use qpc_server::Limits;
use qpc_server::limits::Limiter;

use crate::program::serve;
use crate::support::{Device, Rig, fetch};

/// Name and labels of every series.
fn series(text: &str) -> BTreeSet<(String, Vec<(String, String)>)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty());
        let pair = |label: &str| {
            let (name, value) = label.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        };
        (name.to_owned(), labels.map(pair).collect())
    });
    parsed.collect()
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str, more: &[&str]) -> BTreeSet<String> {
    let known = all.iter().map(|item| name(*item).to_owned());
    known.chain(more.iter().map(|name| (*name).to_owned())).collect()
}

#[tokio::test]
async fn case_196_labels_come_from_closed_sets_and_name_nobody() {
    let mut rig = Rig::start(Limits::default());
    for seed in 1..=12 {
        let device = Device::new(seed);
        let address = format!("203.0.113.{seed}");
        rig.connect_from(&address).register(&device).await.unwrap();
        let one = rig.connect_from(&format!("2001:db8:0:{seed:x}::1")).log_in(&device).await;
        let channel = ChannelId([seed; 16]);
        one.create_channel(channel).await;
        one.enqueue(channel, seed).await;
        one.call(&fetch(channel)).await.unwrap();
        one.call(&Request::Lookup(format!("stranger-{seed}"))).await.unwrap_err();
        one.client.call(&Token([seed; 32]), &Request::ListChannels).await.unwrap_err();
        let unknown = qpc_proto::frame::RequestFrame {
            method: 0x7000 + u16::from(seed),
            token: Token::NONE,
            request_id: RequestId::ZERO,
            body: bytes::Bytes::new(),
        };
        one.client.exchange(qpc_proto::frame::Frame::Request(unknown)).await;
    }
    let text = rig.server.metrics();
    let methods = names(Method::ALL, Method::as_str, &["Unknown"]);
    let codes = names(ErrorCode::ALL, ErrorCode::as_str, &["OK"]);
    let limiters = names(&Limiter::ALL, Limiter::as_str, &[]);
    let causes = ["address", "network", "total", "alpn", "tls_version", "timeout", "other"];
    let causes = causes.map(str::to_owned).into();
    let found = series(&text);
    for (name, labels) in &found {
        for (label, value) in labels {
            let allowed = match label.as_str() {
                "method" => &methods,
                "code" => &codes,
                "limiter" => &limiters,
                "cause" => &causes,
                other => panic!("{name} has the label {other}"),
            };
            assert!(allowed.contains(value), "{name}: {label}={value}");
        }
    }
    // Each by one client more would be more series, if any named it.
    let requests = found.iter().filter(|(name, _)| name == "qpc_requests_total").count();
    assert!((8..20).contains(&requests), "{text}");
    for named in ["device-", "stranger", "203.0.113", "2001:db8", "0101", "0a0a"] {
        assert!(!text.contains(named), "{named} in {text}");
    }
    assert!(text.contains("qpc_requests_total{method=\"Register\",code=\"OK\"} 12"), "{text}");
}

/// Sockets of a process in one of the kernel's tables.
fn sockets(pid: u32, table: &str) -> usize {
    let listed = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let inodes = listed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9));
    let inodes: BTreeSet<_> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_str().is_some_and(|link| inodes.contains(link))).count()
}

#[test]
fn case_195_the_only_port_is_the_one_for_clients_and_no_method_gives_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&["--dev", "--listen", "127.0.0.1:0"], dir.path());
    let pid = serving.child.id();
    let count = ["udp", "udp6", "tcp", "tcp6"].map(|table| sockets(pid, table));
    assert_eq!(count, [1, 0, 0, 0]);
    assert_eq!(serving.terminate(), Some(0));
    for method in Method::ALL {
        let name = method.as_str().to_lowercase();
        assert!(!name.contains("metric") && !name.contains("admin"), "{name}");
    }
}
