//! What is known of a call that went to all engines.

use crate::LogError;

/// Done where all have done it. Where some have, or may have, or may yet, that is unknown; else it
/// is what the first one said.
pub(super) fn of_all(done: Vec<Result<(), LogError>>) -> Result<(), LogError> {
    let has_done =
        |done: &Result<(), LogError>| done.as_ref().err().is_none_or(LogError::is_unknown);
    let is_done_by_some = done.iter().any(has_done);
    let Some(failed) = done.into_iter().find_map(Result::err) else {
        return Ok(());
    };
    Err(match failed {
        LogError::Unavailable(why) | LogError::Refused(why) if is_done_by_some => {
            LogError::Unknown(why)
        }
        failed => failed,
    })
}

/// The error with the name of the engine that it comes from.
pub(super) fn named(engine: &str, error: LogError) -> LogError {
    let of = |why: String| format!("{engine}: {why}");
    match error {
        LogError::Refused(why) => LogError::Refused(of(why)),
        LogError::Unavailable(why) => LogError::Unavailable(of(why)),
        LogError::Unknown(why) => LogError::Unknown(of(why)),
        LogError::TooLarge { .. } | LogError::NoShard(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_engine_may_have_done_is_not_known_not_to_be_done() {
        let unavailable = || Err(LogError::Unavailable("a".to_owned()));
        let refused = || Err(LogError::Refused("b".to_owned()));
        let unknown = || Err(LogError::Unknown("c".to_owned()));
        let large = || Err(LogError::TooLarge { bytes: 9 });
        let is = |why: &str| Err(LogError::Unknown(why.to_owned()));
        for (done, expect) in [
            (vec![Ok(()), Ok(())], Ok(())),
            (vec![Ok(()), unavailable()], is("a")),
            (vec![refused(), Ok(())], is("b")),
            (vec![refused(), unknown()], is("b")),
            (vec![unknown(), refused()], is("c")),
            (vec![unavailable(), refused()], unavailable()),
            (vec![large(), large()], large()),
        ] {
            assert_eq!(of_all(done.clone()), expect, "{done:?}");
        }
    }
}
