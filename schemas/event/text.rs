//! The attributes of an event as parts of one text.

use super::AttributeValue;

/// A part of a text, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Of what is not there. No text has such a part.
    pub(super) const NONE: Self = Self {
        start: u32::MAX,
        end: 0,
    };

    /// From one byte up to another; none past 4 GiB.
    pub(super) fn new(start: usize, end: usize) -> Option<Self> {
        Some(Self {
            start: u32::try_from(start).ok()?,
            end: u32::try_from(end).ok()?,
        })
    }

    /// Where a text is a part of another one; none where it lies elsewhere.
    pub(super) fn within(text: &str, part: &str) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        let end = start + part.len();
        (end <= text.len()).then(|| Self::new(start, end))?
    }

    /// Its length in bytes; 0 of what is not there.
    pub(super) fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    #[inline]
    pub(super) fn of(self, text: &str) -> Option<&str> {
        text.get(self.start as usize..self.end as usize)
    }
}

/// The attributes that have a place of their own: all that the specification names but
/// `specversion`, which has one value only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Core {
    Id,
    Source,
    Type,
    Subject,
    Time,
    DataContentType,
    DataSchema,
}

impl Core {
    pub(super) const ALL: [Self; 7] = [
        Self::Id,
        Self::Source,
        Self::Type,
        Self::Subject,
        Self::Time,
        Self::DataContentType,
        Self::DataSchema,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Source => "source",
            Self::Type => "type",
            Self::Subject => "subject",
            Self::Time => "time",
            Self::DataContentType => "datacontenttype",
            Self::DataSchema => "dataschema",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "source" => Self::Source,
            "type" => Self::Type,
            "subject" => Self::Subject,
            "time" => Self::Time,
            "datacontenttype" => Self::DataContentType,
            "dataschema" => Self::DataSchema,
            _ => return None,
        })
    }
}

/// The value of an extension attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Text(Span),
    Integer(i32),
    Boolean(bool),
}

/// Where in a text the attributes stand.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    core: [Span; Core::ALL.len()],
    /// In the order in which they came.
    pub(super) extensions: Vec<(Span, Value)>,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            core: [Span::NONE; Core::ALL.len()],
            extensions: Vec::new(),
        }
    }
}

impl Spans {
    #[inline]
    pub(super) fn core(&self, attribute: Core) -> Span {
        self.core
            .get(attribute as usize)
            .copied()
            .unwrap_or(Span::NONE)
    }

    pub(super) fn set(&mut self, attribute: Core, span: Span) {
        if let Some(place) = self.core.get_mut(attribute as usize) {
            *place = span;
        }
    }

    pub(super) fn extensions<'t>(
        &'t self,
        text: &'t str,
    ) -> impl ExactSizeIterator<Item = (&'t str, AttributeValue<'t>)> {
        self.extensions.iter().map(move |(name, value)| {
            let value = match value {
                Value::Text(span) => AttributeValue::String(span.of(text).unwrap_or_default()),
                Value::Integer(number) => AttributeValue::Integer(*number),
                Value::Boolean(value) => AttributeValue::Boolean(*value),
            };
            (name.of(text).unwrap_or_default(), value)
        })
    }

    /// What the attributes take, names and values: those that are not there nothing.
    pub(super) fn size_bytes(&self) -> usize {
        let mut bytes = "specversion".len() + "1.0".len();
        for (attribute, span) in Core::ALL.iter().zip(&self.core) {
            if span.start <= span.end {
                bytes += attribute.name().len() + span.len();
            }
        }
        for (name, value) in &self.extensions {
            bytes += name.len();
            bytes += match value {
                Value::Text(span) => span.len(),
                Value::Integer(_) | Value::Boolean(_) => size_of::<i32>(),
            };
        }
        bytes
    }

    /// All that there are, to move them.
    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut Span> {
        let extensions = self.extensions.iter_mut().flat_map(|(name, value)| {
            let text = match value {
                Value::Text(span) => Some(span),
                Value::Integer(_) | Value::Boolean(_) => None,
            };
            [Some(name), text].into_iter().flatten()
        });
        self.core.iter_mut().chain(extensions)
    }
}
