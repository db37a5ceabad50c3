//! Ids that callers give to the tasks of an event.

use std::borrow::Cow;

use crate::Event;

/// The extension attribute that holds the id: an event whose id was given before, by the same
/// sender, is not stored.
pub const TASK_ID: &str = "pointsmantaskid";

/// The longest id.
pub const TASK_ID_LENGTH_MAX: usize = 128;

/// A text is no id of tasks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is no id of a task; give 1 to {TASK_ID_LENGTH_MAX} letters, digits and any of -._~:"
)]
pub struct InvalidTaskId {
    what: String,
}

/// Checks an id: 1 to 128 of `A-Z a-z 0-9 - . _ ~ :`.
///
/// # Errors
/// [`InvalidTaskId`].
pub fn check(id: &str) -> Result<(), InvalidTaskId> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    if (1..=TASK_ID_LENGTH_MAX).contains(&id.len()) && id.bytes().all(is_plain) {
        return Ok(());
    }
    let mut what = format!("{id:?}");
    if id.len() > TASK_ID_LENGTH_MAX {
        what = format!("a text of {} bytes", id.len());
    }
    Err(InvalidTaskId { what })
}

/// Returns the id that an event asks its tasks to have.
///
/// # Errors
/// It asks for one that is none.
pub fn task_id(event: &Event) -> Result<Option<Cow<'_, str>>, InvalidTaskId> {
    let Some(value) = event.attribute(TASK_ID) else {
        return Ok(None);
    };
    let id = match value {
        crate::AttributeValue::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    };
    check(&id)?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExtensionValue;

    #[test]
    fn an_id_has_a_bounded_length_and_alphabet() {
        for id in ["a", "2026-11-28T00:00:00.1~x_Y", &"x".repeat(128)] {
            assert_eq!(check(id), Ok(()), "{id}");
        }
        for id in ["", " a", "a b", "a/b", "ä", "a\n", "a,b", &"x".repeat(129)] {
            let told = check(id).unwrap_err().to_string();
            assert!(told.contains("1 to 128"), "{told}");
            assert!(told.len() < 200, "{told}");
        }
    }

    #[test]
    fn an_event_tells_its_own() {
        let told = |value: ExtensionValue| {
            let event = Event::builder("1", "/s", "t").attribute(TASK_ID, value);
            let event = event.build().unwrap();
            task_id(&event).map(|id| id.map(Cow::into_owned))
        };
        assert_eq!(told("a-1".into()), Ok(Some("a-1".to_owned())));
        assert_eq!(told(17.into()), Ok(Some("17".to_owned())));
        assert!(told("a b".into()).is_err());
        let none = Event::builder("1", "/s", "t").build().unwrap();
        assert_eq!(task_id(&none), Ok(None));
    }
}
