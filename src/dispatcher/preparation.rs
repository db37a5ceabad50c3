//! What a target is given of an event.

use std::sync::Arc;

use pointsman_rules::{Document, TextTemplate, Transform};
use pointsman_schemas::Event;

/// Makes what goes out: the rule's transform, then the target's templates over what that made.
#[derive(Debug, Default)]
pub struct Preparation {
    pub transform: Option<Arc<Transform>>,
    /// The templates in the target's settings, in their order.
    pub templates: Arc<[TextTemplate]>,
}

impl Preparation {
    /// The transformed event, and the texts of the target's templates.
    ///
    /// # Errors
    /// Why it cannot be made: one line for a person. The delivery is then a dead letter, and the
    /// target is not called.
    pub fn prepare(&self, event: &Arc<Event>) -> Result<(Arc<Event>, Vec<String>), String> {
        let event = match &self.transform {
            Some(transform) => Arc::new(transform.apply(event).map_err(|error| error.to_string())?),
            None => Arc::clone(event),
        };
        let document = Document::event(&event);
        let render = |template: &TextTemplate| {
            let mut text = String::new();
            let rendered = template.render(&document, &mut text);
            rendered.map(|()| text).map_err(|error| error.to_string())
        };
        let texts = self
            .templates
            .iter()
            .map(render)
            .collect::<Result<_, _>>()?;
        drop(document);
        Ok((event, texts))
    }
}
