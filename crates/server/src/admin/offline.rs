//! Answers an operator from the database of a server that does not run.
//!
//! Changes are told to the audit log as if it ran. What only a running server knows is refused.

use qpc_storage::{Outcome, Store, sql};
use rand_core::OsRng;

use super::desk::{self, Asked};
use super::{Answer, Question};
use crate::audit::{self, Audit};
use crate::clock;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::error::ServerError;
use crate::node::Node;
use crate::refusal::Refusal;

/// Opens the database, answers, and closes it.
pub(super) fn answer(dir: &DataDir, question: &Question) -> Result<Answer, ServerError> {
    let config = dir.read_config()?;
    if *question == Question::Limits {
        return Ok(Answer::Limits(desk::limits(&config.limits)));
    }
    if *question == Question::Metrics {
        return Err(ServerError::NotRunning);
    }
    let mut store = dir.open_store().map_err(|error| {
        if matches!(error, ServerError::Locked) { ServerError::NoAnswer } else { error }
    })?;
    let answer = if *question == Question::AuditHead {
        let head = audit::known_head(&mut store)?;
        Answer::AuditHead(head.map(|head| (head.seq, head.hash.to_string())))
    } else if question.changes() {
        change(dir, &config, &mut store, question)?
    } else {
        let node = Node::open(&mut store, config.policy, &mut OsRng)?;
        let now_ms = clock::system()();
        run(&mut store, |tx| desk::read(&node, tx, now_ms, question))?
    };
    store.close().map_err(ServerError::from)?;
    Ok(answer)
}

fn change(
    dir: &DataDir,
    config: &Config,
    store: &mut Store,
    question: &Question,
) -> Result<Answer, ServerError> {
    let url = config.url(config.listen, dir.identity()?.fingerprint())?;
    let node = Node::open(store, config.policy.clone(), &mut OsRng)?;
    let known = audit::known_head(store)?;
    let audit = Audit::start(&dir.audit(), config.audit, known, clock::system())?;
    let now_ms = clock::system()();
    // The files belong to the one whose data directory it is; who asks is not known here.
    let asked = Asked { question: question.clone(), uid: None, url };
    let changed = run(store, |tx| desk::change(&node, (tx, now_ms), &asked, &mut OsRng));
    let answer = changed.map(|change| {
        change.event.into_iter().for_each(|event| audit.record(event, None));
        change.answer
    });
    audit.stop();
    audit::keep_head(store, &audit)?;
    answer
}

/// One job in one transaction; its refusal in words.
fn run<T: Send>(
    store: &mut Store,
    job: impl FnOnce(&qpc_storage::Tx<'_>) -> Result<T, Refusal> + Send,
) -> Result<T, ServerError> {
    let refused =
        |refusal: Refusal| ServerError::Refused(refusal.into_body(&mut OsRng).to_string());
    // A refusal is no error of SQLite's, so what it wrote is rolled back by another.
    let mut refusal = None;
    let outcome = store.transact(|tx| match job(tx) {
        Ok(value) => Ok(value),
        Err(why) => {
            refusal = Some(why);
            Err(sql::Error::InvalidQuery)
        }
    })?;
    match (outcome, refusal) {
        (Outcome::Done(value), _) => Ok(value),
        (_, Some(why)) => Err(refused(why)),
        (Outcome::Refused(_) | Outcome::Panicked, None) => {
            Err(refused(Refusal::internal("a question of the operator panicked")))
        }
    }
}
