//! A short run of `qpc-chaos`: several clients and a server under every kind of fault. Longer ones
//! by the program itself.

use std::process::Command;

use crate::programs::program;

#[test]
fn half_a_minute_of_faults_loses_doubles_and_reorders_nothing() {
    let minutes = "0.4";
    let mut chaos = Command::new(program("qpc-chaos"));
    let run = chaos.args(["--minutes", minutes, "--seed", "6"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    println!("{said}");
}
