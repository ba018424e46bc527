//! What `doctor` looks at outside of the database: the key's file and the server's versions.
//! Changes nothing.

use qpc_proto::limits;
use qpc_proto::message::ServerInfo;

use crate::home::Home;
use crate::view::Finding;

/// How the key of a home is kept.
pub(crate) fn key(home: &Home) -> Finding {
    let kept = home.kept_by();
    let Some(kept) = kept else {
        let text = "no key opens this home".to_owned();
        let fix = "put the key file back from where you keep a copy";
        return Finding::problem("KEY_MISSING", text).fix(fix);
    };
    Finding::ok("KEY", format!("the key is there, kept by {kept}"))
}

/// Whether client and server speak alike.
pub(crate) fn versions(server: Option<&ServerInfo>) -> Finding {
    let own = format!(
        "qpc {}, protocol {} to {}",
        env!("CARGO_PKG_VERSION"),
        limits::VERSION_MIN,
        limits::VERSION
    );
    let Some(server) = server else {
        return Finding::unchecked("VERSION", &format!("{own}; the server's is not known"));
    };
    let (least, most) = server.versions;
    let text = format!("{own}; the server speaks {least} to {most}");
    if least > limits::VERSION || most < limits::VERSION_MIN {
        let fix = "update qpc, or ask the operator to update the server";
        return Finding::problem("VERSION_APART", text).fix(fix);
    }
    Finding::ok("VERSION", text)
}
