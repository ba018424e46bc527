//! The client's library as programs use it: its example, run against a real server.

use qpc_client::{ClientError, Home};

use crate::server::Server;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../../client/examples/echo_bot.rs"]
mod echo_bot;

#[test]
fn the_example_registers_and_answers_now_and_after_a_restart() {
    let server = Server::start();
    let alice = server.register("alice");
    let home = Home::new(server.folder().join("echo"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let said = |text: &str| {
        let heard = alice.json(&["recv", "--count", "1", "--timeout", "60"]);
        assert_eq!(heard.last().unwrap()["text"], text);
    };
    for texts in [["one", "two"], ["three", "four"]] {
        if texts[0] == "three" {
            // Written while nobody answers.
            alice.ok(&["send", "echo", texts[0]]);
        }
        let client = runtime.block_on(echo_bot::client(&home, "echo", &server.url)).unwrap();
        let answering = client.clone();
        let bot = runtime.spawn(async move { echo_bot::answer_all(&answering).await });
        if texts[0] != "three" {
            alice.ok(&["send", "echo", texts[0]]);
        }
        said(texts[0]);
        alice.ok(&["send", "echo", texts[1]]);
        said(texts[1]);
        bot.abort();
        runtime.block_on(client.close()).unwrap();
    }
    let refused = runtime.block_on(echo_bot::client(
        &Home::new(server.folder().join("other")),
        "echo",
        &server.url,
    ));
    assert!(matches!(refused, Err(ClientError::Refused(_))), "the name is taken");
}
